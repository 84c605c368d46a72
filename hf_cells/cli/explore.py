"""The verb `explore`: a dataset at a glance, before training on it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CellsError
from .arguments import Config, DataDir, Settings, config_and_options, make_folder


def explore(
    name: Annotated[str, typer.Argument(help="Name of a dataset, an own folder, or Parquet files.")],
    config: Config = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder for explore.html, explore.json and figures/.")
    ] = Path("explore"),
    split: Annotated[
        str | None, typer.Option("--split", help="Only train, validation or test; all by default.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Decode only N images of each split, drawn at random."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sample and of the examples.")] = 0,
) -> None:
    """Show what a dataset holds: labels, sizes, intensities, objects, masks, and examples of every class.

    explore.html is one file that a browser opens offline, with what to look for at every figure. It shows images:
    keep it where the data may be. An image of Parquet files that cannot be read is named, counted and left out; raw
    files have to be whole, and the first that is not is named.

    \b
    Example:
      hf-cells explore hep2 test_from=validation --data_dir hep2.zip --output_dir hep2_explored
      hf-cells explore my_images --limit 500
    """  # noqa: D301
    config, options = config_and_options(name, config, settings)
    make_folder(output_dir)

    import datasets

    from ..data.loading import load_dataset
    from ..explore import explore_dataset
    from ..explore.content import read_content
    from ..quiet import quiet_libraries

    quiet_libraries()
    splits = load_dataset(name, config, data_dir=data_dir, **options)
    assert isinstance(splits, datasets.DatasetDict)
    if split is not None:
        if split not in splits:
            raise CellsError(f"no split {split!r} in this data; choose from: {', '.join(splits)}")
        splits = datasets.DatasetDict({split: splits[split]})
    content = read_content(splits, name, config, data_dir, options)
    title = Path(name).resolve().name if Path(name).is_dir() else name
    report = explore_dataset(
        splits, content, output_dir, title=f"{title}, {config}" if config else title, limit=limit, seed=seed
    )
    typer.echo(_in_a_line(report))
    for bad in report["unreadable"]:
        typer.echo(f"left out: {bad['split']}: {bad['image_id']}: {bad['reason']}", err=True)
    if not report["redistributable"] and not report["simulated"]:
        typer.echo("the figures show images that may not be passed on: keep them where the data may be")
    typer.echo(f"see {output_dir / 'explore.html'} and {output_dir / 'explore.json'}")


def _in_a_line(report: dict[str, Any]) -> str:
    text = f"{report['dataset']}: " + ", ".join(
        f"{of['images']:,} {split}" for split, of in report["splits"].items()
    )
    if report["labels"]:
        text += f"; {len(report['labels']['names'])} labels"
    if report["objects"]:
        text += f"; {sum(of['total'] for of in report['objects']['per_image'].values()):,} objects"
    bad = len(report["unreadable"])
    return text + (f"; {bad:,} bad image{'s' if bad > 1 else ''} left out" if bad else "")
