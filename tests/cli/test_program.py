"""The program as a whole: help, version, errors, interruption, and a start that loads nothing heavy."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

import hf_cells
from hf_cells.errors import CellsError
from hf_cells.simulate import SIMULATORS

Cli = Callable[..., Result]
VERBS = [
    "datasets",
    "simulate",
    "audit",
    "explore",
    "prepare",
    "train",
    "search",
    "evaluate",
    "predict",
    "segment",
    "folds",
    "explain",
    "card",
    "push",
    "push-dataset",
    "export",
    "serve",
    "demo",
    "space",
]

HELP_OF_THE_INSTALLED_PROGRAM = """
import sys
from importlib.metadata import entry_points

(entry,) = entry_points(group="console_scripts", name="hf-cells")
sys.argv = ["hf-cells", "--help"]
try:
    entry.load()()
finally:
    heavy = {"torch", "transformers", "datasets", "numpy", "huggingface_hub"} & sys.modules.keys()
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


def test_the_installed_program_answers_without_loading_heavy_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_THE_INSTALLED_PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == "heavy: []\n"
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(cli: Cli, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.exit_code == 0 and result.stderr == ""
    example = "train.py --recipe" if verb == "train" else f"\n    hf-cells {verb}"
    assert example in result.stdout and "xample" in result.stdout


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").stdout == f"hf-cells {hf_cells.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["simulate", "dsb2018"],
        ["fly"],
        ["predict", "m", "x.png", "--tile", "0"],
        ["card", "--no"],
    ],
)
def test_wrong_usage_says_where_help_is(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert "-h' for help" in result.stderr and "\nError: " in result.stderr


def simulation_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setitem(SIMULATORS, "dsb2018", fail)
    return ["simulate", "dsb2018", "--output_dir", "x"]


def test_debug_shows_the_traceback_wherever_it_stands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    command = simulation_raises(monkeypatch, CellsError("x is broken"))
    assert cli(*command).stderr == "error: x is broken\n"
    for arguments in (["--debug", *command], [*command, "--debug"]):
        assert isinstance(cli(*arguments).exception, CellsError)
    monkeypatch.setenv("HF_CELLS_DEBUG", "1")
    assert isinstance(cli(*command).exception, CellsError)


def test_an_unexpected_error_is_one_line_too(
    failing: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = simulation_raises(monkeypatch, ZeroDivisionError("a\nb"))
    assert failing(*command) == "ZeroDivisionError: a b; run again with --debug to see where"


def test_an_interruption_is_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli(*simulation_raises(monkeypatch, KeyboardInterrupt()))
    assert (result.exit_code, result.output) == (130, "")
