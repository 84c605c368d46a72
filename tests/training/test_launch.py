"""Launchers: too few processes stop with one line; signals are noticed and given back."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_cells.errors import CellsError
from hf_cells.training import launch
from hf_cells.training.launch import (
    StopSignal,
    any_process,
    available_cores,
    check_launch,
    print_error,
    set_threads,
)

ROOT = Path(__file__).parents[2]


def test_launches_that_start_too_few_processes_stop_with_one_line(tmp_path):
    """Really launched: `--cpu` starts one process of two, `--multi_gpu` without a GPU two that are strangers."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("ACCELERATE_")}
    environment = {**keep, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    launched = []
    for kind in ("--cpu", "--multi_gpu"):
        command = ["accelerate.commands.launch", kind, "--num_processes", "2", "--main_process_port", "0"]
        log = (tmp_path / kind).open("w+")
        output = {"stdout": log, "stderr": subprocess.STDOUT, "cwd": tmp_path, "env": environment}
        program = [str(ROOT / "train.py"), "--output_dir", str(tmp_path / "run")]
        launched.append((log, subprocess.Popen([sys.executable, "-m", *command, *program], **output)))
    for (log, process), reason in zip(
        launched,
        ("was asked for several processes but started one", "announced 2 processes, 1 found each other"),
    ):
        assert process.wait(120) == 1
        log.seek(0)
        text = log.read()
        log.close()
        errors = [line for line in text.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, text
        assert reason in errors[0]
        assert "torchrun --nproc_per_node" in errors[0]
        assert "hf_cells/training" not in text  # no traceback of ours
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "environment, processes, fine",
    [
        ({}, 1, True),
        ({"WORLD_SIZE": "1"}, 1, True),
        ({"WORLD_SIZE": "4", "MASTER_PORT": "29500"}, 4, True),
        ({"MASTER_PORT": "29500"}, 1, False),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "29500"}, 1, False),
    ],
)
def test_check_launch(monkeypatch, environment, processes, fine):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if fine:
        check_launch(processes)
    else:
        with pytest.raises(CellsError, match="on CPU use: torchrun --nproc_per_node N"):
            check_launch(processes)


def test_other_ranks_wait_before_they_repeat_an_error(monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(launch.time, "sleep", waited.append)
    print_error(CellsError("one"))
    monkeypatch.setenv("RANK", "0")
    print_error(CellsError("two"))
    assert not waited
    monkeypatch.setenv("RANK", "1")
    print_error(CellsError("three"))
    assert len(waited) == 1
    assert capsys.readouterr().err == "error: one\nerror: two\nerror: three\n"


def test_one_process_on_a_cpu_takes_all_cores_unless_told_otherwise():
    alone = SimpleNamespace(device=torch.device("cpu"), num_processes=1)
    torch.set_num_threads(1)
    set_threads(None, alone)
    assert torch.get_num_threads() == available_cores()
    set_threads(1, alone)
    assert torch.get_num_threads() == 1
    set_threads(None, SimpleNamespace(device=torch.device("cpu"), num_processes=2))
    set_threads(None, SimpleNamespace(device=torch.device("cuda"), num_processes=1))
    assert torch.get_num_threads() == 1


def test_signals_are_noted_and_their_handlers_given_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        assert not stop.noticed()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.noticed() and stop.reason == "SIGTERM"
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.noticed() and stop.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):  # the second Ctrl-C means it
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_lost_parent_counts_under_a_launcher_only(monkeypatch):
    """`nohup python train.py &` loses its shell at logout and must go on."""
    monkeypatch.setattr(launch, "PARENT", -1)
    with StopSignal() as stop:
        assert not stop.noticed()
    for variable in ("ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(variable, "no")
        with StopSignal() as stop:
            assert stop.noticed() and stop.reason == "the launcher has ended"
        monkeypatch.delenv(variable)


def test_one_process_agrees_with_itself():
    alone = SimpleNamespace(num_processes=1)
    assert any_process(alone, True, False) == (True, False)
