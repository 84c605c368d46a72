"""The program: its verbs, and what becomes of their errors.

No module of this package imports a heavy library at its top, so that `--help` answers at once.
"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import CellsError
from .audit import audit
from .compose import compose
from .data import list_datasets, prepare, simulate
from .demo import demo
from .evaluate import evaluate
from .explain import explain
from .explore import explore
from .export import export
from .folds import folds
from .predict import predict
from .publish import card, push
from .push_dataset import push_dataset
from .search import search
from .segment import segment
from .serve import serve
from .space import space
from .train import train


class Verbs(TyperGroup):
    """A group of verbs whose errors are one line on stderr and exit status 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` wherever it stands on the line."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            # Exit and usage errors know their status; a closed pipe (`| head`) is no error of ours.
            if ctx.params.get("debug") or hasattr(error, "exit_code") or isinstance(error, BrokenPipeError):
                raise
            message = " ".join(str(error).split())
            if not isinstance(error, CellsError):
                message = f"{type(error).__name__}: {message}; run again with --debug to see where"
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="hf-cells",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # --data_dir and --data-dir are the same option.
        "token_normalize_func": lambda name: name.replace("-", "_"),
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-cells {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="HF_CELLS_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Microscopy cell images on Hugging Face: from raw files to a published model.

    \b
    Example:
      hf-cells simulate dsb2018 --output_dir nuclei --n_train 64 --n_test 16
      hf-cells train --data_dir nuclei --output_dir runs/nuclei
      hf-cells evaluate runs/nuclei/model --dataset dsb2018 --data_dir nuclei
      hf-cells predict runs/nuclei/model photo.png
    """  # noqa: D301


app.command("datasets")(list_datasets)
app.command()(simulate)
app.add_typer(compose, name="compose")
app.command()(audit)
app.command()(explore)
app.command()(prepare)
app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(train)
app.command()(search)
app.command()(evaluate)
app.command()(predict)
app.command()(segment)
app.command()(folds)
app.command()(explain)
app.command()(card)
app.command()(push)
app.command("push-dataset")(push_dataset)
app.command()(export)
app.command()(serve)
app.command()(demo)
app.command()(space)


def main() -> None:
    """Run `hf-cells` with the arguments of the process."""
    try:
        app(prog_name="hf-cells")
    except KeyboardInterrupt:
        sys.exit(130)
