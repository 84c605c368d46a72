"""Model cards: `results.json` in, `README.md` out, and a check that the two still say the same.

A card holds no number of its own. `render_card` formats what was measured; `check_card` formats it again and
compares, so a number that was typed or tampered with is found, and so is a card that went stale.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data.registry import dataset_names
from ..errors import CellsError
from ..evaluation import write_results
from ..files import atomic_write
from .card_commands import reproduction
from .card_problems import local_links, metadata_problems, prose_problems, sections, table_problems
from .eval_results import EVAL_RESULTS, eval_results_yaml, write_eval_results
from .tables import (
    finite_values,
    format_number,
    headlines,
    metric_cells,
    reported_metrics,
    result_tables,
    weakest_stratum,
)

# Stands in a card whose repository is not known yet; `push_model` puts the real name in its place.
UNNAMED = "your-name/your-model"
RESEARCH_USE = "Research use only; not a medical device; not validated on your scanner, stain or population."
SECTIONS = (
    "How to load",
    "Results",
    "Split and leaks",
    "Decision",
    "Training data and licence",
    "Training setting and cost",
    "Limits and out-of-scope use",
    "Citation",
    "Reproduce",
)
# Where the prose carries measured numbers; "" is the summary above the first section.
_MEASURED = ("", "Decision", "Training setting and cost", "Limits and out-of-scope use")

# Public-domain data put no condition on the weights; any other licence is named, its effect not guessed at.
_FREE_DATA = {"cc0-1.0", "pddl", "unlicense"}
_FREE_WEIGHTS = "apache-2.0"
# The figure at the top: one that shows cells, else what is confused with what.
_TELLING = (re.compile("overlay|gallery|predict|example"), re.compile("confusion"))
_LIBRARIES = {"timm_wrapper": "timm", "onnx": "onnx", "torch_export": "pytorch", "bioimageio": "bioimageio"}
_TASKS = {
    "instance": "image-segmentation",
    "semantic": "image-segmentation",
    "classification": "image-classification",
}


def render_card(
    results: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    recipe: Mapping[str, Any] | None,
    figures: Iterable[str],
    examples: Iterable[str] = (),
    repo_id: str | None = None,
) -> ModelCard:
    """Make the card of a model from what was measured.

    Args:
        results: The content of `results.json`. `dataset.name` and one metric with a value must be there;
            `ci`, `n`, `per_class`, `strata`, `decision`, `run` and everything else may be missing.
        config: The model's `config.json`.
        recipe: The resolved recipe, shown in full but for its folders, or None.
        figures: Pictures, as paths inside the repository; one of predictions goes to the top.
        examples: Images for the Hub's widget, as paths inside the repository.
        repo_id: `owner/name` on the Hub; without it the card says `your-name/your-model`.

    Raises:
        CellsError: When the results name no dataset or hold no metric.
    """
    if not (results.get("dataset") or {}).get("name") or not finite_values(results.get("metrics") or {}):
        raise CellsError(
            "results.json names no dataset or holds no metric; write it again with `hf-cells evaluate`"
        )
    results = {**results, **{section: results.get(section) or {} for section in ("split", "decision", "run")}}
    kind = _kind(config)
    name = (repo_id or "").rpartition("/")[2] or results["run"].get("recipe") or results["dataset"]["name"]
    metadata = _metadata(results, kind, name, list(examples), _base_model(recipe or {}))
    headline = headlines([finite_values(results["metrics"])])[0]
    value, interval, n = metric_cells(results["metrics"][headline])
    text = _template().render(
        metadata=metadata.to_yaml(),
        title=name,
        repo_id=repo_id or UNNAMED,
        kind=kind,
        headline={"name": headline, "value": value, "interval": interval, "n": n},
        results=results,
        tables=result_tables(results),
        weakest=weakest_stratum(results),
        licence=metadata.license,
        architecture=(config.get("architectures") or [config.get("model_type", "model")])[0],
        remote_code="auto_map" in config,
        pipelines=[*config.get("custom_pipelines", {}), metadata.pipeline_tag],
        commands=reproduction(results, recipe or {}, repo_id or UNNAMED),
        recipe=yaml.safe_dump(_without_folders(recipe), sort_keys=False).strip() if recipe else None,
        simulated_extra=bool(((recipe or {}).get("data") or {}).get("simulated_extra")),
        figures=sorted(figures, key=_telling),
        research_use=RESEARCH_USE,
    )
    return ModelCard(text)


def describe_data(model_dir: str | Path, *, licence: str | None = None, title: str | None = None) -> None:
    """Write into results.json what nobody but their owner can say of own images.

    Args:
        model_dir: Folder of a model.
        licence: Of the images, as the Hub calls it, such as "cc-by-4.0".
        title: What to call them.

    Raises:
        CellsError: The data are a dataset of this package, which has its own terms; or results.json is missing.
    """
    path = Path(model_dir) / "results.json"
    results = read_json(path, "write it with `hf-cells evaluate`")
    dataset = results.setdefault("dataset", {})
    if dataset.get("name") in dataset_names():
        raise CellsError(f"{dataset['name']} has its own title and licence; give yours for own folders only")
    results["dataset"] = dataset | {k: v for k, v in {"license": licence, "title": title}.items() if v}
    write_results(path, results)


def write_card(model_dir: str | Path, repo_id: str | None = None) -> Path:
    """Write a model folder's `README.md` from its results.json, config.json, recipe.yaml and figures/*.png.

    The Hub's `.eval_results/hf-cells.yaml` is written beside it.

    Raises:
        CellsError: When results.json or config.json is missing or broken, or the card cannot be written.
    """
    folder = Path(model_dir)
    results = read_json(folder / "results.json", "write it with `hf-cells evaluate`")
    card = render_card(
        results,
        config=read_json(folder / "config.json", "give the folder that save_pretrained wrote"),
        recipe=_read_recipe(folder / "recipe.yaml"),
        figures=[path.relative_to(folder).as_posix() for path in folder.glob("figures/*.png")],
        examples=sorted(path.relative_to(folder).as_posix() for path in folder.glob("examples/*.png")),
        repo_id=repo_id,
    )
    with atomic_write(folder / "README.md") as temporary:
        card.save(temporary)
    write_eval_results(folder, results)
    return folder / "README.md"


def check_card(path: str | Path) -> list[str]:
    """Check a card (README.md or its folder) against the files beside it, without the network.

    Returns:
        One line per problem; empty when all sections are there, the metadata are well formed, local links
        resolve, and every number in the tables, the summary and the metadata is the one in results.json.
    """
    readme = Path(path) / "README.md" if Path(path).is_dir() else Path(path)
    try:
        card = ModelCard(readme.read_text("utf-8"))
        results = read_json(readme.with_name("results.json"), "write it with `hf-cells evaluate`")
        rows = [row for table in result_tables(results) for row in table.rows]
    except OSError as error:
        return [f"{readme} cannot be read ({error.strerror}); write it with `hf-cells card`"]
    except CellsError as error:
        return [str(error)]
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        return [f"{readme}: metadata or results.json cannot be read ({' '.join(str(error).split())})"]
    parts = sections(card.text)
    problems = [f"section {name!r} is missing" for name in SECTIONS if name not in parts]
    if RESEARCH_USE not in " ".join(card.text.split()):
        problems.append(f"the card does not say {RESEARCH_USE!r}")
    problems += metadata_problems(card.data, results)
    problems += [
        f"{link} is linked and missing"
        for link in local_links(card.text)
        if not (readme.parent / link).is_file()
    ]
    problems += table_problems(parts.get("Results", ""), rows)
    hubs = readme.parent / EVAL_RESULTS
    if hubs.exists() and hubs.read_text("utf-8") != eval_results_yaml(results):
        problems.append(f"{EVAL_RESULTS} is not what results.json says")
    for name in _MEASURED:
        problems += prose_problems(parts.get(name, ""), results)
    return [f"{readme}: {problem}" for problem in problems]


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CellsError: When the file is missing or holds no JSON object; the message ends with `remedy`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CellsError(f"{path} is missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise CellsError(f"cannot read {path} ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise CellsError(f"{path} holds no JSON object; {remedy}")
    return content


def _read_recipe(path: Path) -> dict[str, Any] | None:
    try:
        return yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CellsError(
            f"cannot read {path} ({reason}); copy the run's recipe again or remove it"
        ) from error


def _telling(figure: str) -> tuple[int, str]:
    ranks = [rank for rank, pattern in enumerate(_TELLING) if pattern.search(figure)]
    return min(ranks, default=len(_TELLING)), figure


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": format_number,
        "caption": lambda path: Path(path).stem.replace("_", " "),
    }
    return environment.get_template("model_card.md.jinja")


def _kind(config: Mapping[str, Any]) -> str:
    name = " ".join([config.get("model_type", ""), *(config.get("architectures") or [])]).lower()
    if "classification" in name:
        return "classification"
    return "instance" if "instance" in name or "universal" in name else "semantic"


def _base_model(recipe: Mapping[str, Any]) -> str | None:
    """The model on the Hub whose weights training began with, where there is one."""
    model = recipe.get("model") or {}
    backbone, ready = (model.get("config") or {}).get("backbone"), model.get("pretrained_backbone")
    if backbone:
        return f"timm/{backbone}" if ready is True and backbone != "alexnet" else None
    # A folder of weights has no name on the Hub.
    named = isinstance(ready, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", ready) and not Path(ready).exists()
    return str(ready) if named else None


def _metadata(
    results: Mapping[str, Any], kind: str, name: str, examples: list[str], base_model: str | None
) -> ModelCardData:
    dataset, values = results["dataset"], reported_metrics(results["metrics"])
    data_licence = str(dataset.get("license") or "unknown").lower()
    licence = results.get("license") or (_FREE_WEIGHTS if data_licence in _FREE_DATA else "other")
    return ModelCardData(
        license=licence,
        license_name=f"data-{data_licence}" if licence == "other" else None,
        library_name=_LIBRARIES.get(str((results.get("export") or {}).get("format")), "transformers"),
        base_model=base_model,
        pipeline_tag=_TASKS[kind],
        tags=[
            "hf-cells",
            "microscopy",
            "cell-biology",
            *([] if kind == "classification" else [f"{kind}-segmentation"]),
        ],
        datasets=[dataset["name"]] if dataset["name"] in dataset_names() else None,  # a folder has no page
        metrics=list(values),
        widget=[{"src": path, "example_title": Path(path).stem} for path in examples] or None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=_TASKS[kind],
                dataset_type=dataset["name"],
                dataset_name=dataset.get("title") or dataset["name"],
                dataset_config=dataset.get("config"),
                dataset_split=results["split"].get("name"),
                metric_type=metric,
                metric_value=value,
            )
            for metric, value in values.items()
        ],
    )


def _without_folders(value: Any) -> Any:
    """A recipe without the folders of the machine it ran on."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items() if not str(key).endswith("_dir")}
    return [_without_folders(item) for item in value] if isinstance(value, list | tuple) else value
