"""Verbs that publish: `card`, `push`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CellsError


def card(
    model_dir: Annotated[Path, typer.Argument(help="Folder of a model, with its results.json.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: compare the card with results.json.")
    ] = False,
    repo_id: Annotated[
        str | None, typer.Option("--repo_id", help="owner/name for the commands on the card.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of your own images, such as cc-by-4.0.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="What to call your own images.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside",
            help="Folder of a run, or of several, on another split of the same data; its numbers join the card.",
        ),
    ] = None,
) -> None:
    """Write or check a model's card.

    Every number on it comes from the results.json beside it.

    \b
    Example:
      hf-cells card runs/nuclei/model
      hf-cells card runs/my_cells/model --repo_id my-lab/my-cells --license cc-by-4.0 --title "cells of my lab"
      hf-cells card runs/hep2/model --beside runs/hep2_folds
    """  # noqa: D301
    from ..hub.card import check_card, describe_data, write_card

    if check and (beside or licence or title):
        raise CellsError(
            "--beside, --license and --title change the card and --check only reads it; run one after the other"
        )
    if licence or title:
        describe_data(model_dir, licence=licence, title=title)
    if beside:
        from ..evaluation.beside import put_beside

        put_beside(model_dir, beside)
    if not check:
        typer.echo(f"the card is {write_card(model_dir, repo_id)}")
        return
    problems = check_card(model_dir)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"the card of {model_dir} says what results.json says")


def push(
    model_dir: Annotated[Path, typer.Argument(help="Folder of a model, with its card.")],
    repo_id: Annotated[str, typer.Argument(help="owner/name on the Hub; made where missing.")],
    public: Annotated[bool, typer.Option("--public", help="Make a NEW repository public.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all and list it; send nothing.")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch; main by default.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Name for this version, such as v1.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="URL of another Hub.")] = None,
) -> None:
    """Publish a model on the Hub, private unless told otherwise.

    Sign in with `hf auth login` first. The card must agree with results.json. Nothing is sent while any file holds a
    secret, a path of this machine, an e-mail address, or the name of a raw image. Repeating a push is safe.

    \b
    Example:
      hf-cells push runs/nuclei/model my-lab/nuclei --dry-run
      hf-cells push runs/nuclei/model my-lab/nuclei --tag v1
    """  # noqa: D301
    from ..hub.push import push_model
    from ..quiet import quiet_libraries

    quiet_libraries()
    sent = push_model(
        model_dir,
        repo_id,
        private=not public,
        dry_run=dry_run,
        revision=revision,
        tag=tag,
        endpoint=endpoint,
    )
    typer.echo(sent if isinstance(sent, str) else list_files(sent))


def list_files(sizes: Mapping[str, int]) -> str:
    """Files of a dry run with their bytes, and the sum."""
    total = f"{sum(sizes.values()):>14,}  in {len(sizes)} files, nothing was sent"
    return "\n".join([*(f"{size:>14,}  {name}" for name, size in sizes.items()), total])
