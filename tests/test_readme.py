"""Every `hf-cells`, `accelerate` and `python benchmarks/…` command of the README is run, its long ones cut short."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, loopback_hub  # noqa: F401  (a fixture)
from readme_workplace import finish_runs, make_images

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
SHORT = ["training.max_steps=2", "training.epochs=1", "training.samples_per_epoch=8", "training.batch_size=2"]
SHORT += ["training.workers=0", "training.precision=fp32", "training.memory_format=contiguous"]
SHORT += ["evaluation.n_resamples=20"]
SEGMENTATION = ["model.config.hidden_sizes=[8,8]", "augmentation.size=32", "evaluation.tune=false"]
CLASSIFICATION = ["model.config.hidden_sizes=[4,8]", "processor.size={height: 24, width: 24}"]
CLASSIFICATION += ["model.config.depths=1", "model.config.downsample=[2,2]"]


def commands_of(program: str) -> list[str]:
    return [command for command in COMMANDS if program in shlex.split(command)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and the finished runs that the README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    make_images(folder)
    for name in ("model_cards", "hf_cells", "train.py", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    finish_runs(folder, SHORT, CLASSIFICATION, SEGMENTATION)
    return folder


@pytest.fixture
def in_workplace(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workplace)
    return workplace


def call(function: Callable[..., object], *arguments: object) -> int:
    """Run a command's entry point; return its exit code."""
    try:
        function(*arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def is_sent(command: str) -> bool:
    """Whether a command sends something to the Hub."""
    words = shlex.split(command)
    return words[:2] in (["hf-cells", "push"], ["hf-cells", "push-dataset"]) and "--dry-run" not in words


@pytest.mark.parametrize("command", [c for c in commands_of("hf-cells") if not is_sent(c)])
def test_hf_cells_command(command: str, in_workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_cells.cli import main

    words = shlex.split(command)
    assert words[0] == "hf-cells"
    if words[1] == "simulate":
        place = words.index("--output_dir") + 1
        words[place] += (
            "_anew" if Path(words[place]).exists() else ""
        )  # there already, smaller, for other commands
    if words[1] in ("serve", "demo"):  # they run until they are stopped; their own tests start them
        words.append("--help")
    if words[1] == "train":
        of_masks = words[words.index("--recipe") + 1] in ("hpa_nuclei", "hpa_whole_cells")
        words += [*SHORT, *(SEGMENTATION if of_masks else CLASSIFICATION)]
    if words[1] == "search":
        words[words.index("--trials") + 1] = "1"
        words += ["--epochs", "1", "--output_dir", "search", "--no-final", *SHORT, *CLASSIFICATION]
    monkeypatch.setattr(sys, "argv", words)
    assert call(main) == 0, command


def test_what_is_pushed_predicts_in_one_line(
    in_workplace: Path,
    loopback_hub: LoopbackHub,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The README's push goes to a Hub on this machine, and its one line of Python runs in a process of its own."""
    from hf_cells.cli import main

    monkeypatch.setenv("HF_TOKEN", loopback_hub.token)
    (push,) = [c for c in COMMANDS if is_sent(c)]
    monkeypatch.setattr(sys, "argv", [*shlex.split(push), "--endpoint", loopback_hub.endpoint])
    assert call(main) == 0, push
    (line,) = [shlex.split(c) for c in COMMANDS if c.startswith("python -c ")]
    environment = {**os.environ, **loopback_hub.environment}
    done = subprocess.run([sys.executable, *line[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"'label': '(round|square)', 'score': 0\.\d+", done.stdout)


def training_arguments(command: str) -> list[str]:
    """Cut the launcher off; its own options must be ones that `accelerate launch` knows."""
    from accelerate.commands.launch import launch_command_parser

    words = [word for word in shlex.split(command) if "=" not in word or not word.isupper()]
    words = words[words.index("launch") + 1 :]
    parsed = launch_command_parser().parse_args(words)
    if parsed.config_file:
        from accelerate.commands.config.config_args import load_config_from_file

        assert load_config_from_file(parsed.config_file).num_processes >= 1
    assert parsed.training_script == ("hf_cells.training" if parsed.module else "train.py"), command
    return parsed.training_script_args


@pytest.mark.parametrize("command", commands_of("accelerate"))
def test_training_command(command: str, in_workplace: Path, tmp_path: Path) -> None:
    """The launcher's options are parsed by accelerate itself, the script runs here with the numbers made small."""
    from hf_cells.training import main
    from hf_cells.training.checkpoints import list_checkpoints

    arguments = training_arguments(command.rpartition("&&")[2])
    if "--list" in arguments:
        assert call(main, arguments) == 0
        return
    if "--resume" in arguments:  # of a run that another command of the README would have left
        run = in_workplace / arguments[arguments.index("--resume") + 1]
        first = ["--data_dir", "stage1_train.zip", "--output_dir", str(run), *SHORT, *SEGMENTATION]
        assert call(main, first) == 0
        assert call(main, [*arguments, "training.max_steps=3", "training.epochs=2"]) == 0
        assert list_checkpoints(run / "checkpoints")[-1].name == "step-00000003"
        return
    recipe = arguments[arguments.index("--recipe") + 1] if "--recipe" in arguments else "quickstart"
    segments = recipe.startswith(("dsb2018", "quickstart", "blood_smear", "wbc"))
    short = [*SHORT, *(SEGMENTATION if segments else CLASSIFICATION)]
    if recipe == "blood_gmp_fast":
        short = [*SHORT, "model.config.hidden_sizes=[4,4,4,4,4,4,8]"]
    if recipe in ("dsb2018_segformer", "dsb2018_upernet"):
        short = [*SHORT, "augmentation.size=32", "evaluation.tune=false"]
    if recipe == "hep2_block_split":
        short.append("study={data.options.fold: [0, 1]}")
    if recipe == "glomeruli_padding_study":
        short = [*SHORT, "study={processor.square: [white, zero]}", *CLASSIFICATION]
    if "--seeds" in arguments:
        arguments[arguments.index("--seeds") + 1] = "2"
    if recipe == "quickstart":
        short += ["data.simulate.n_train=12", "data.simulate.size=[64,64]"]
    assert call(main, [*arguments, *short, "--output_dir", str(tmp_path / "run")]) == 0, command
    assert list((tmp_path / "run").glob("**/model/README.md"))


def test_every_command_is_covered() -> None:
    """A command of a kind that no test here runs has to be added to one."""
    known = {"hf-cells", "accelerate"}
    others = [c for c in COMMANDS if not known & set(shlex.split(c))]
    for command in others:
        words = shlex.split(command)
        if words[:2] == ["python", words[1]] and words[1].startswith("benchmarks/"):
            compile((ROOT / words[1]).read_text(), words[1], "exec")
        else:
            known_here = words[:2] in (["pip", "install"], ["python", "-c"]) or words == [
                "hf",
                "auth",
                "login",
            ]
            assert known_here or "torchrun" in words, command
    assert os.environ.get("MPLBACKEND") == "Agg"
