"""A complete Gradio Space for a model: app, its code, requirements, card and examples."""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import HTTPError

from ..errors import CellsError
from ..files import atomic_folder
from .card import RESEARCH_USE, read_json
from .demo_app.loading import Settings
from .push import files_to_send, is_native
from .safety import refuse_secrets
from .space_code import copy_modules
from .space_examples import write_examples

_CODE = "cells_app"
_APP = f'''"""{{title}}: an app made by hf-cells. The page is in {_CODE}/interface.py, its content in settings.json."""

from pathlib import Path

from {_CODE}.interface import run
from {_CODE}.loading import Settings, load

HERE = Path(__file__).parent

if __name__ == "__main__":
    settings = Settings.read(HERE)
    run(settings, load(settings, HERE), HERE)
'''
_NEEDED = (
    *("torch", "torchvision", "transformers>=5", "numpy>=2", "scipy>=1.12", "pillow>=11"),
    *("tifffile>=2024.1", "matplotlib>=3.8"),
)


def write_space(
    model: str | Path, output_dir: str | Path, *, repo_id: str | None = None, examples: bool = True
) -> Path:
    """Write the folder of a Gradio Space.

    Args:
        model: Folder of a model, or its name on the Hub.
        output_dir: Made, or replaced when it is a Space that was written before.
        repo_id: Repository from which the Space loads the model. Without one a Hub model is loaded from its own
            repository, and the files of a local folder are copied into the Space.
        examples: Whether to add example images: the model's own, or simulated ones where its data can be simulated.

    Returns:
        The folder, with `app.py`, `cells_app/`, `settings.json`, `requirements.txt`, `README.md` and `examples/`.

    Raises:
        CellsError: No model, gradio is missing, `output_dir` holds something else, or a file of the model holds what
            must not leave.
    """
    folder, output = _model_files(model), Path(output_dir)
    if is_native(read_json(folder / "config.json", "save the model again")):
        raise CellsError(
            f"{model}: a Space runs the code of a model, and this is a model of transformers, which has none; the "
            "Hub's own widget shows it, and `hf-cells demo` does here"
        )
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / _CODE).is_dir()):
        raise CellsError(f"{output}: exists and is no Space of hf-cells; choose an empty or new folder")
    local = Path(model).is_dir()
    with atomic_folder(output) as space:
        if local and repo_id is None:
            _copy_model(folder, space / "model")
        name = repo_id or ("model" if local else str(model))
        settings = describe(folder, name, space, examples)
        settings.write(space)
        copy_modules("hf_cells.hub.demo_app.interface", space / _CODE)
        (space / "app.py").write_text(_APP.format(title=settings.title), "utf-8")
        (space / "requirements.txt").write_text(_requirements(folder), "utf-8")
        (space / "README.md").write_text(
            _card(folder, settings, repo_id or (None if local else name)), "utf-8"
        )
    return output


def describe(model_folder: Path, name: str, folder: Path, examples: bool = True) -> Settings:
    """Return the settings of an app for a model, and write its example images into `folder/examples`.

    Args:
        model_folder: With the model's config.json, and results.json and examples/ where it has them.
        name: Where the app finds the model.
        folder: Of the app.
        examples: Whether to write any.
    """
    results = _results(model_folder)
    data = str(
        (results.get("dataset") or {}).get("title") or (results.get("dataset") or {}).get("name") or ""
    )
    made = write_examples(model_folder, results, folder) if examples else []
    own = name.rpartition("/")[2]
    title = (
        own if own not in ("", "model") else str((results.get("run") or {}).get("recipe") or data or "model")
    )
    return Settings(model=name, title=title.replace("_", " "), examples=made)


def gradio_version() -> str:
    """The installed gradio, whose version a Space names.

    Raises:
        CellsError: It is not installed.
    """
    try:
        return importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError as error:
        raise CellsError('the app needs gradio: pip install "hf-cells[demo]"') from error


def _model_files(model: str | Path) -> Path:
    """The model's folder; of a Hub model a snapshot without its weights."""
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            raise CellsError(f"{model}: holds no config.json; give the model/ folder of a run")
        return Path(model)
    try:
        path = hf_hub_download(str(model), "config.json")
        for name in ("results.json", "README.md", "preprocessor_config.json"):
            try:
                hf_hub_download(str(model), name)
            except HTTPError:  # a model may do without them
                continue
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CellsError(f"{model}: no such folder, and the Hub gives no such model: {reason}") from error
    return Path(path).parent


def _copy_model(folder: Path, target: Path) -> None:
    files = files_to_send(folder)
    refuse_secrets(folder, files)
    for name in files:
        if not name.startswith("examples/"):  # they are the Space's own
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    return read_json(path, "write it with `hf-cells evaluate`") if path.is_file() else {}


def _requirements(folder: Path) -> str:
    config = read_json(folder / "config.json", "save the model again")
    timm = ["timm>=1.0.20"] if config.get("backbone") else []
    return "\n".join([*_NEEDED, *timm, f"gradio=={gradio_version()}"]) + "\n"


def _card(folder: Path, settings: Settings, repo_id: str | None) -> str:
    """The Space's README: its YAML as the Hub reads it, then what it is."""
    readme = folder / "README.md"
    licence = ModelCard.load(readme).data.get("license") if readme.is_file() else None
    metadata = {
        "title": settings.title,
        "emoji": "🔬",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": gradio_version(),
        "app_file": "app.py",
        "pinned": False,
        "license": licence or "other",
        "models": [repo_id] if repo_id else None,
        "tags": ["biology", "microscopy", "cells", "hf-cells"],
        "short_description": "Drop a microscope image. Research use only.",
    }
    block = yaml.safe_dump(
        {k: v for k, v in metadata.items() if v is not None}, sort_keys=False, allow_unicode=True
    )
    source = (
        f"The model is [{repo_id}](https://huggingface.co/{repo_id}); if that is private, give this Space a secret "
        "`HF_TOKEN` that may read it."
        if repo_id
        else "The model is in `model/`, its card is [model/README.md](model/README.md)."
    )
    shown = "Examples are in `examples/`, made by a simulator or part of the model's repository." * bool(
        settings.examples
    )
    return f"---\n{block}---\n\n# {settings.title}\n\n**{RESEARCH_USE}**\n\n{source} {shown}\n"


def write_demo(model: str | Path, folder: Path, *, examples: bool = True) -> Settings:
    """Write what the page of a model needs beside its code, for a run on this machine; returns the settings."""
    gradio_version()
    files = _model_files(model)
    where = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
    settings = describe(files, where, folder, examples)
    settings.write(folder)
    return settings
