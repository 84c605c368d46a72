"""The verb `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CellsError


def predict(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    paths: Annotated[
        list[str], typer.Argument(help="Images, folders (with all below them), or patterns in quotes.")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")] = Path("predictions"),
    overlays: Annotated[
        bool | None,
        typer.Option("--overlays/--no-overlays", help="Segmentation: draw what was found [yes]."),
    ] = None,
    rle: Annotated[
        bool, typer.Option("--rle", help="Segmentation: also write rle.csv, the contest form.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Segmentation: leave out objects of a lower score."),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", min=64, help="Segmentation: cut longer images into tiles of this side [1024]."
        ),
    ] = None,
    rescale: Annotated[
        float | None,
        typer.Option(
            "--rescale",
            min=0.05,
            max=20,
            help="Segmentation: show the model images F times as large; what is written has their own size.",
        ),
    ] = None,
    split_touching: Annotated[
        bool | None,
        typer.Option(
            "--split_touching/--no-split_touching",
            help="Several classes of pixels: part cells of one class that touch [yes].",
        ),
    ] = None,
    test_time_augmentation: Annotated[
        bool,
        typer.Option(
            "--test_time_augmentation", help="Segmentation: average over flips and turns: 8 x slower."
        ),
    ] = False,
    numeric: Annotated[
        bool,
        typer.Option("--numeric", help="Classification: write class numbers (0, 1, …) in place of names."),
    ] = False,
    contact_sheet: Annotated[
        bool | None,
        typer.Option(
            "--contact_sheet/--no-contact_sheet",
            help="Classification: draw up to 60 images by predicted class, least sure first [yes].",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="hpa: label the cells of fields, for the Human Protein Atlas challenge."
        ),
    ] = None,
    image_model: Annotated[
        str | None, typer.Option("--image_model", help="hpa: hear a classifier of whole fields too.")
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option("--weight", min=0, max=1, help="hpa: weight of a cell against its field [0.2]."),
    ] = None,
    masks_dir: Annotated[
        Path | None,
        typer.Option("--masks_dir", help="hpa: masks of `hf-cells segment`, in place of segmenting again."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:1.")] = None,
) -> None:
    """Find the cells in images, or say what they show: files and folders of them.

    A segmentation model writes label images, overlays, objects.csv and summary.json; one of several classes also
    colour_maps/ in the colours of its classes and counts.csv, the objects of each class in every image. Images of any
    size are scanned in tiles that overlap. A classifier writes
    evaluation.csv, contact_sheet.png and summary.json: the column `name` has the file's name, `ground truth` what the
    model decides with its thresholds (the class, or its number with --numeric; several labels joined by |), and
    `probability_<class>` the probability of each class.

    With --format hpa the model is a classifier of single cells, and the paths are folders of fields
    <ID>_{red,green,blue,yellow}.png or a table with a column ID. The cells are found, and scored by what each of
    them shows and by what its field shows: in its other cells and, with --image_model, as a whole. submission.csv is
    the file of the challenge, cells.csv has the labels and scores of every cell.

    A file that cannot be predicted is named and left out, and the exit status is then 1.

    \b
    Example:
      hf-cells predict runs/nuclei/model photo.png "plates/*.tif" --output_dir predictions
      hf-cells predict runs/blood_smear_unet_fast/model smear.jpg --rescale 0.5 --output_dir predictions
      hf-cells predict runs/glomeruli/model crops --output_dir predictions --numeric
      hf-cells predict runs/hpa_cells/model hpa/test --format hpa --image_model runs/hpa_fields/model
    """  # noqa: D301
    of_segmentation = {"threshold": threshold, "tile": tile, "overlays": overlays, "rle": rle or None}
    of_segmentation["rescale"] = rescale
    of_segmentation["split_touching"] = split_touching
    of_segmentation["test_time_augmentation"] = test_time_augmentation or None
    of_classification = {"numeric": numeric or None, "contact_sheet": contact_sheet}
    of_fields = {"image_model": image_model, "weight": weight, "masks_dir": masks_dir}
    if format_ is not None:
        if format_ != "hpa":
            raise CellsError(f"--format {format_} is unknown; the one there is is hpa")
        _refuse(of_segmentation | of_classification, "means nothing with --format hpa")
        _report(_label_fields(model, paths, output_dir, device, **_given(of_fields)))
        return
    _refuse(of_fields, "for --format hpa only")

    from ..inference.paths import iter_image_paths

    images = iter_image_paths(paths)  # a misspelt path is told before anything is loaded
    from ..inference.classify import classify_files
    from ..inference.outputs import Summary
    from ..inference.predict import predict_files
    from ..inference.rescaling import rescale_inputs
    from ..models.loading import pipeline
    from ..quiet import quiet_libraries

    quiet_libraries()
    if _is_classifier(model):
        _refuse(of_segmentation, f"for segmentation models only, and {model} is a classifier")
        pipe = pipeline(model, device)
        summary: Summary = classify_files(pipe, images, output_dir, **_given(of_classification))
    else:
        _refuse(of_classification, f"for classifiers only, and {model} is a segmentation model")
        writing = _given({name: of_segmentation.pop(name) for name in ("overlays", "rle", "split_touching")})
        factor = of_segmentation.pop("rescale")
        pipe = pipeline(model, device, **_given(of_segmentation))
        if factor is not None:
            rescale_inputs(pipe, factor)
        summary = predict_files(pipe, images, output_dir, **writing)
    _report(summary)


def _label_fields(
    cell_model: str, paths: list[str], output_dir: Path, device: str | None, **options: Any
) -> Any:
    """Label the cells of fields; `options` are `image_model`, `weight` and `masks_dir` where they are given."""
    from ..inference.hpa_fields import FieldClassifier, predict_fields
    from ..quiet import quiet_libraries

    quiet_libraries()
    masks = options.pop("masks_dir", None)
    classifier = FieldClassifier(cell_model, device=device, **options)
    summary = predict_fields(classifier, paths, output_dir, masks_dir=masks)
    for name in summary.empty:
        typer.echo(f"warning: {name}: no cell found", err=True)
    return summary


def _report(summary: Any) -> None:
    """Say what was done, and what failed."""
    typer.echo(str(summary).splitlines()[0])
    for failure in summary.failures:
        typer.echo(f"error: {failure.reason}", err=True)
    if summary.failures:
        raise typer.Exit(1)


def _is_classifier(model: str) -> bool:
    """Read the model's configuration only; where that fails, `pipeline` says why."""
    from transformers import AutoConfig

    from ..models.loading import FAMILIES, check_source

    check_source(model)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        return FAMILIES[config.model_type].task == "cell-classification"
    except (OSError, ValueError, KeyError):
        return False


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: dict[str, Any], reason: str) -> None:
    """Refuse options that mean nothing for this model."""
    names = [f"--no-{name}" if value is False else f"--{name}" for name, value in _given(options).items()]
    if names:
        raise CellsError(f"{', '.join(names)}: {reason}; leave {'them' if names[1:] else 'it'} out")
