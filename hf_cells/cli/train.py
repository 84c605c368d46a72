"""The verb `train`: the same as train.py."""

import typer


def train(context: typer.Context) -> None:
    """Train a model from a recipe (the arguments of train.py).

    \b
    Example:
      hf-cells train --recipe dsb2018_instance --data_dir stage1_train.zip training.epochs=10
    """  # noqa: D301
    from ..quiet import quiet_libraries
    from ..training.main import make_parser, run

    quiet_libraries()
    parser = make_parser()
    parser.prog = "hf-cells train"
    run(parser.parse_intermixed_args([_with_underscores(argument) for argument in context.args]))


def _with_underscores(argument: str) -> str:
    """Spell the name of an option with underscores, as every verb takes it."""
    name, equals, value = argument.partition("=")
    if not name.startswith("--"):
        return argument
    return f"--{name[2:].replace('-', '_')}{equals}{value}"
