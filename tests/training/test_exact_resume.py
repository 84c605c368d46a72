"""A run that was stopped, killed or orphaned and then resumed ends with the bits of one that was not."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from training_runs import Run, assert_same_run, history, pair, running, train_here, wait_until

from hf_cells.errors import CellsError
from hf_cells.training.checkpoints import list_checkpoints, read_checkpoint


@pytest.fixture(scope="module")
def whole(recipe, cache, tmp_path_factory):
    """A run of one process that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    Run(folder / "log", train_here, recipe, folder / "run", cache).check()
    return folder / "run"


def test_the_uninterrupted_run_is_a_real_one(whole):
    rows = history(whole)
    assert [row["step"] for row in rows] == ["6", "12", "18"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert len({row["learning_rate"] for row in rows}) == 3
    state = json.loads((list_checkpoints(whole / "checkpoints")[-1] / "state.json").read_text())
    assert state["epoch"] == 3 and state["batch_size"] == 2 and state["processes"] == 1
    assert [path.name for path in list_checkpoints(whole / "checkpoints")] == [
        "step-00000012",
        "step-00000018",
    ]


def test_stopped_twice_in_mid_epoch_by_its_own_signal(whole, recipe, cache, tmp_path):
    """The second signal goes to the whole group, as from a scheduler or Ctrl-C: the worker must not die of it."""
    run = tmp_path / "run"
    text = Run(tmp_path / "1", train_here, recipe, run, cache, signal_at=3).check(143)
    assert "stopped (SIGTERM)" in text and f"--resume {run}" in text
    (first,) = list_checkpoints(run / "checkpoints")
    state = read_checkpoint(first)["state"]
    assert (state["step"], state["step_in_epoch"], state["epoch"]) == (4, 4, 0)  # an update is whole
    assert not (run / "history.csv").exists()
    arguments = (train_here, recipe, run, cache, ["training.workers=1"])
    second = Run(tmp_path / "2", *arguments, signal_at=9, group=True)
    assert "stopped (SIGTERM)" in second.check(143)
    assert list_checkpoints(run / "checkpoints")[-1].name == "step-00000010"
    assert len(history(run)) == 1
    wait_until(lambda: not running(second.process.pid), 10, "the worker to end")
    Run(tmp_path / "3", *arguments).check()
    assert_same_run(whole, run)


@pytest.mark.parametrize("batch", [6, 18])
def test_stopped_with_the_last_batch_of_an_epoch(whole, recipe, cache, tmp_path, batch):
    run = tmp_path / "run"
    Run(tmp_path / "1", train_here, recipe, run, cache, signal_at=batch).check(143)
    state = read_checkpoint(list_checkpoints(run / "checkpoints")[-1])["state"]
    assert (state["step"], state["step_in_epoch"]) == (batch, 6)
    Run(tmp_path / "2", train_here, recipe, run, cache).check()
    assert_same_run(whole, run)


def test_killed_at_any_moment(whole, recipe, cache, tmp_path):
    """kill -9 at random moments, again and again, then on to the end."""
    run, moments, kills = tmp_path / "run", random.Random(7), 0
    for attempt in range(8):
        process = Run(tmp_path / f"{attempt}", train_here, recipe, run, cache, slow=0.05)
        wait_until(lambda: (run / "at-0").exists() or not process.process.is_alive(), what="the first batch")
        time.sleep(moments.uniform(0, 0.4))
        kills += process.process.is_alive()
        process.kill()
        for checkpoint in list_checkpoints(run / "checkpoints"):
            assert read_checkpoint(checkpoint)["state"]["step"] == int(checkpoint.name[5:])
        (run / "at-0").unlink(missing_ok=True)
        if kills == 4 or (run / "final.pt").exists():
            break
    assert kills >= 2
    Run(tmp_path / "last", train_here, recipe, run, cache).check()
    assert_same_run(whole, run)


def _die_in_torch_save(step, run_dir):
    """Kill the process when half of the second checkpoint is on disk."""
    import torch

    if step == 7:

        def half(value, path):
            Path(path).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half


def test_killed_while_saving(whole, recipe, cache, tmp_path):
    run = tmp_path / "run"
    process = Run(tmp_path / "1", train_here, recipe, run, cache, hook=_die_in_torch_save)
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-00000006"]
    assert len(list((run / "checkpoints").glob(".step-*"))) == 1  # the half one, out of sight
    Run(tmp_path / "2", train_here, recipe, run, cache).check()
    assert not list((run / "checkpoints").glob(".*"))  # swept up by the next save
    assert_same_run(whole, run)


def _fill_the_disk(step, run_dir):
    """From here on no file may pass 3 kB: the kernel refuses the write, as on a full disk."""
    import resource

    if step == 7:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))


def test_a_full_disk(whole, recipe, cache, tmp_path):
    run = tmp_path / "run"
    text = Run(tmp_path / "1", train_here, recipe, run, cache, hook=_fill_the_disk).check(1)
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    assert "cannot" in line and "free space" in line
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-00000006"]
    assert not list((run / "checkpoints").glob(".*"))
    Run(tmp_path / "2", train_here, recipe, run, cache).check()
    assert_same_run(whole, run)


def test_resuming_a_finished_run_changes_nothing(whole, recipe, cache, tmp_path):
    before = {p.name: p.stat().st_mtime_ns for p in (whole / "checkpoints").iterdir()}
    rows = history(whole)
    Run(tmp_path / "log", train_here, recipe, whole, cache).check()
    assert {p.name: p.stat().st_mtime_ns for p in (whole / "checkpoints").iterdir()} == before
    assert history(whole) == rows


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
    source = list_checkpoints(whole / "checkpoints")[-1]
    for name in ("model.safetensors", "optimizer.pt", "random.safetensors"):
        broken = tmp_path / name
        broken.mkdir()
        for path in source.iterdir():
            data = path.read_bytes()
            (broken / path.name).write_bytes(data[: len(data) // 2] if path.name == name else data)
        with pytest.raises(CellsError, match=f"{broken}: damaged checkpoint .* delete this folder"):
            read_checkpoint(broken)


LAUNCHED = """
    import sys
    from pathlib import Path
    from training_runs import train_here

    if __name__ == "__main__":
        train_here(*map(Path, sys.argv[1:4]), slow=0.3)
"""


def launch(tmp_path, name, *command, **environment):
    """Start a launcher in a session of its own; returns it and its log."""
    script = tmp_path / "launched.py"
    script.write_text(textwrap.dedent(LAUNCHED))
    log = tmp_path / f"{name}.log"
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "CUDA_"))}
    keep |= {"PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with log.open("w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=tmp_path,
            env={**keep, **environment},
        )
    return process, log


def at_step(run, rank, step):
    with contextlib.suppress(OSError, ValueError):
        return int((run / f"at-{rank}").read_text().split()[0]) >= step
    return False


def test_an_orphan_of_accelerate_launch_saves_and_ends(whole, recipe, cache, tmp_path):
    """SIGTERM ends the launcher alone; its child must notice."""
    run = tmp_path / "run"
    script = tmp_path / "launched.py"
    launcher, log = launch(
        tmp_path, "accelerate", "accelerate.commands.launch", str(script), str(recipe), str(run), str(cache)
    )
    wait_until(lambda: at_step(run, 0, 2), what=f"the second batch ({log})")
    launcher.terminate()
    launcher.wait(30)
    wait_until(lambda: not running(launcher.pid), 30, "the orphan to end")
    assert "stopped (the launcher has ended)" in log.read_text(), log.read_text()
    (checkpoint,) = list_checkpoints(run / "checkpoints")
    assert 0 < read_checkpoint(checkpoint)["state"]["step"] < 18
    Run(tmp_path / "on", train_here, recipe, run, cache).check()
    assert_same_run(whole, run)


def test_two_processes_stopped_by_one_rank_and_by_torchrun(recipe, cache, tmp_path):
    """Uninterrupted against: SIGTERM to rank 1 alone, then SIGTERM to torchrun, then to the end."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    for one in pair(tmp_path, "whole", train_here, recipe, whole, cache, ["training.trackers=[tensorboard]"]):
        one.check()
    assert {"recipe.yaml", "history.csv", "step-00000012"} <= set(
        (whole / "written-by-0").read_text().split()
    )
    assert not (whole / "written-by-1").exists()  # one writer per file
    assert len(list((whole / "hf-cells").glob("events.*"))) == 1
    stopped = pair(tmp_path, "first", train_here, recipe, run, cache, signal_at=3, ranks=(1,))
    texts = [one.check(143) for one in stopped]
    assert "stopped (another process was told to)" in texts[0]
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-00000004"]

    script = tmp_path / "launched.py"
    torchrun = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script))
    (run / "at-1").unlink()
    launcher, log = launch(
        tmp_path, "torchrun", *torchrun, str(recipe), str(run), str(cache), ACCELERATE_USE_CPU="1"
    )
    wait_until(lambda: at_step(run, 1, 6), what=f"the sixth batch ({log})")
    launcher.terminate()
    launcher.wait(60)
    wait_until(lambda: not running(launcher.pid), 30, "the workers to end")
    state = read_checkpoint(list_checkpoints(run / "checkpoints")[-1])["state"]
    assert 4 < state["step"] < 12 and state["processes"] == 2, log.read_text()
    for one in pair(tmp_path, "last", train_here, recipe, run, cache):
        one.check()
    assert_same_run(whole, run)


def test_another_number_of_processes_is_refused(recipe, cache, tmp_path):
    run = tmp_path / "run"
    Run(tmp_path / "1", train_here, recipe, run, cache, signal_at=3).check(143)
    for one in pair(tmp_path, "two", train_here, recipe, run, cache):
        assert "was saved by 1 processes; resume with as many" in one.check(1)


def test_the_best_weights_have_their_sidecar(whole):
    from safetensors.torch import load_file

    folder = whole / "checkpoints"
    side = json.loads((folder / "best.json").read_text())
    rows = history(whole)
    losses = [float(row["validation_loss"]) for row in rows]
    best = losses.index(min(losses))
    assert (side["epoch"], side["step"]) == (best + 1, 6 * (best + 1))
    assert side["metric"] == "loss" and side["best_score"] == min(losses)
    assert (side["batch_size"], side["processes"]) == (2, 1)
    assert side["learning_rate"] == float(rows[best]["learning_rate"])
    assert {"image_mean", "image_std"} <= set(side)
    assert [row["epoch"] for row in side["history"]] == list(range(1, best + 2))
    assert side["history"][-1]["validation_loss"] == min(losses)
    assert load_file(folder / "best.safetensors")  # what it speaks of


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=1", "in mid-epoch with batches of 2, now they have 1; resume with the same"),
        ("processor.image_mean=[0.5]", r"was trained with image_mean None, the recipe has \[0.5\]"),
    ],
)
def test_settings_that_the_sidecar_contradicts_are_refused(recipe, cache, tmp_path, override, message):
    run = tmp_path / "run"
    Run(tmp_path / "1", train_here, recipe, run, cache, signal_at=3).check(143)
    before = (list_checkpoints(run / "checkpoints")[-1] / "state.json").read_bytes()
    text = Run(tmp_path / "2", train_here, recipe, run, cache, [override]).check(1)
    assert re.search(message, text) and "Traceback" not in text
    assert (list_checkpoints(run / "checkpoints")[-1] / "state.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "kind", "no object"])
def test_a_damaged_sidecar_is_named(whole, tmp_path, damage):
    source = list_checkpoints(whole / "checkpoints")[-1]
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    state = json.loads((broken / "state.json").read_text())
    if damage == "missing":
        del state["history"]
    if damage == "kind":
        state["batch_size"] = "two"
    (broken / "state.json").write_text(json.dumps([] if damage == "no object" else state))
    reason = {
        "missing": "history is missing",
        "kind": "batch_size is missing or no int",
        "no object": "no JSON object",
    }
    with pytest.raises(CellsError, match=f"{broken}: damaged checkpoint .*{reason[damage]}"):
        read_checkpoint(broken)
