"""Publish a run's `model/` folder: checked first; only files of a model repository leave the machine."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from ..errors import CellsError
from .card import UNNAMED, check_card, read_json
from .card_problems import local_links
from .push_upload import upload_files
from .safety import refuse_secrets

# What a model repository is made of. All else stays: checkpoints, optimizer states, tables of image names.
_SENT = (
    "README.md",
    "LICENSE*",
    "config.json",
    "*_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.py",
    "requirements.txt",
    "recipe.yaml",
    "results.json",
    "history.csv",
    "figures/*.png",
    "examples/*.png",
    ".eval_results/*.yaml",
)
_TRAINING_STATE = re.compile(r"(optimizer|scheduler|scaler|sampler|random_states|rng_state|train(er|ing)_)")
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    endpoint: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    tag: str | None = None,
    commit_message: str | None = None,
    dry_run: bool = False,
) -> str | dict[str, int]:
    """Upload a model folder (weights, configuration, processor, code, card, results, figures) to the Hub.

    Safe to repeat: what the Hub has already is not sent again, and an unchanged folder makes no new commit.
    The folder itself is left as it is. What is sent is a copy in which a card made without a `repo_id` is given it,
    and the modules that `config.json` names are added where the folder does without them.

    Args:
        folder: The run's `model/` folder.
        repo_id: `owner/name`, created when it is not there.
        private: Whether a NEW repository is private. An existing one stays as it is.
        endpoint: URL of the Hub; the client's own setting by default.
        token: Access token; by default the one of `hf auth login`.
        revision: Branch, made from main when it is not there; main by default.
        tag: Name for the commit, such as "v1".
        commit_message: First line of the commit.
        dry_run: Check everything, send nothing.

    Returns:
        URL of the commit, or, in a dry run, the paths that would be sent with their bytes.

    Raises:
        CellsError: When the folder is no model repository, holds pickled weights, has a card that does not pass
            `check_card`, or holds what must not leave (see `safety`); when the Hub refuses or is out of reach.
    """
    check_repo_id(repo_id)
    with _staged(Path(folder), repo_id) as staged:
        files = files_to_send(staged)
        if problem := next(_problems(staged, files), None):
            raise CellsError(problem)
        refuse_secrets(staged, files)
        if dry_run:
            return {name: (staged / name).stat().st_size for name in files}
        return upload_files(
            staged,
            repo_id,
            files,
            private=private,
            endpoint=endpoint,
            token=token,
            revision=revision,
            tag=tag,
            message=commit_message or "Upload model with hf-cells",
        )


def check_repo_id(repo_id: str) -> None:
    """Raise a CellsError for what the Hub would not take as `owner/name`."""
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise CellsError(f"{repo_id!r} is no name on the Hub ({reason}); give owner/name") from error


def files_to_send(folder: Path) -> list[str]:
    """Paths inside `folder` that belong to a model repository, sorted."""
    paths = {path.relative_to(folder).as_posix() for pattern in _SENT for path in folder.glob(pattern)}
    return sorted(path for path in paths if (folder / path).is_file() and not _TRAINING_STATE.match(path))


def _problems(folder: Path, files: list[str]) -> Iterator[str]:
    """Reasons not to publish, each one line; a later one may rely on the earlier ones being mended."""
    if not folder.is_dir():
        yield f"{folder} is no folder; give a run's model/ folder"
    weights = [name for name in files if name.endswith(".safetensors")]
    if "config.json" not in files or not weights:
        missing = "safetensors weights" if "config.json" in files else "config.json"
        yield f"{folder} is no model repository: it has no {missing}; give a run's model/ folder"
    if "README.md" not in files:
        yield f"{folder} has no model card (README.md); write it with `hf-cells card`"
    for path in _pickles(folder):
        yield f"{path} is a pickle, which can run code when it is loaded; remove it, safetensors are enough"
    for name in weights:
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            yield f"{folder / name} is no whole safetensors file ({error}); save the model again"
    for name in _code_files(read_json(folder / "config.json", "save the model again")):
        if name not in files:
            yield f"{folder / name} is missing, but config.json names it as code; save the model again"
    if card := check_card(folder):
        more = f" (and {len(card) - 1} more)" if len(card) > 1 else ""
        yield f"{card[0]}{more}; write the card again with `hf-cells card`"
    for link in local_links((folder / "README.md").read_text("utf-8")):
        if link not in files:
            yield f"{folder / 'README.md'} links {link}, which is not sent; put pictures into figures/"


def _pickles(folder: Path) -> Iterator[Path]:
    """Pickled files, those of checkpoints and hidden folders apart: they are not sent."""
    for path in sorted(folder.rglob("*")):
        *parents, name = path.relative_to(folder).parts
        kept_here = any(parent.startswith((".", "checkpoint")) for parent in parents)
        if path.suffix.lower() in _PICKLES and not kept_here and not _TRAINING_STATE.match(name):
            yield path


def _code_files(config: dict[str, Any]) -> set[str]:
    """Modules that `config.json` names for trust_remote_code (not `other_repo--module.Class`)."""
    pipelines = [pipeline.get("impl", "") for pipeline in config.get("custom_pipelines", {}).values()]
    names = [*config.get("auto_map", {}).values(), *pipelines]
    flat = [name for value in names for name in (value if isinstance(value, list | tuple) else [value])]
    return {f"{name.partition('.')[0]}.py" for name in flat if name and "--" not in name}


@contextmanager
def _staged(folder: Path, repo_id: str) -> Iterator[Path]:
    """Copy what would be sent, and the pickles that forbid sending; complete the code, name the repository."""
    if not folder.is_dir():
        raise CellsError(f"{folder} is no folder; give a run's model/ folder")
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name) / folder.name
        try:
            yield _stage(folder, staged, repo_id)
        except CellsError as error:  # people know the folder that they gave, not its copy
            raise CellsError(str(error).replace(str(staged), str(folder))) from error


def _stage(folder: Path, staged: Path, repo_id: str) -> Path:
    shutil.copytree(folder, staged, ignore=shutil.ignore_patterns("checkpoint*", ".git"))
    if (staged / "config.json").is_file():
        config = read_json(staged / "config.json", "save the model again")
        _complete_code(config, staged)
    readme = staged / "README.md"
    if readme.is_file():
        readme.write_text(readme.read_text("utf-8").replace(UNNAMED, repo_id), "utf-8")
    return staged


def is_native(config: dict[str, Any]) -> bool:
    """Whether a configuration is that of a model of transformers which our recipes train, so no code belongs to it."""
    from ..models.loading import FAMILIES

    family = FAMILIES.get(config.get("model_type", ""))
    return family is not None and family.native


def _complete_code(config: dict[str, Any], folder: Path) -> None:
    """Write the modules that are missing, and what Inference Endpoints looks for.

    Code of others stays theirs: what is missing of it is named as a problem later.
    """
    from ..models.loading import FAMILIES
    from ..models.saving import write_code, write_handler

    if config.get("model_type") not in FAMILIES or is_native(config):
        return
    if any(not (folder / module).exists() for module in _code_files(config)):
        write_code(config["model_type"], folder)
    elif not (folder / "handler.py").exists():
        write_handler(config, folder)
