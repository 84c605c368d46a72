"""Checkpoints that a kill cannot spoil: written beside their place, renamed when whole.

A checkpoint is a folder `checkpoints/step-00001234/` with model.safetensors, average.safetensors (when weights are
averaged), random.safetensors (one state per process), optimizer.pt (read with `weights_only`) and state.json, which is
written last. The sidecar state.json is for people and programs: epoch, step, learning rate, batch size, processor
statistics, best score and the whole history. The best weights, best.safetensors, have the same beside them: best.json.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import CellsError
from ..files import atomic_folder, atomic_write

SIDECAR = {
    "epoch": int,
    "step": int,
    "step_in_epoch": int,
    "batch_size": int,
    "processes": int,
    "learning_rate": float,
    "image_mean": list,
    "image_std": list,
    "best_score": float,
    "history": list,
}
_OPTIONAL = {"image_mean", "image_std", "best_score"}  # may be null


def save_checkpoint(
    folder: Path,
    *,
    weights: dict[str, torch.Tensor],
    average: dict[str, torch.Tensor] | None,
    optimizer: dict[str, Any],
    random: list[dict[str, torch.Tensor]],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write one checkpoint and drop all but the latest `keep`."""
    target = folder / f"step-{state['step']:08d}"
    for leftover in folder.glob(".*"):  # of a writer that was killed; there is one writer only
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    try:
        with atomic_folder(target) as temporary:
            save_tensors(weights, temporary / "model.safetensors")
            if average is not None:
                save_tensors(average, temporary / "average.safetensors")
            save_tensors(
                {f"{rank}.{k}": v for rank, states in enumerate(random) for k, v in states.items()},
                temporary / "random.safetensors",
            )
            torch.save(optimizer, temporary / "optimizer.pt")
            (temporary / "state.json").write_text(json.dumps(state, indent=1))
    except (OSError, RuntimeError, CellsError) as error:  # torch reports a full disk as RuntimeError
        reason = " ".join(str(error.__cause__ or error).split())
        raise CellsError(
            f"cannot save {target} ({reason}): free space, then resume from the checkpoint before it, which is whole"
        ) from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def save_best(folder: Path, weights: dict[str, torch.Tensor], sidecar: dict[str, Any]) -> None:
    """Write best.safetensors and, beside it, best.json.

    Raises:
        CellsError: They cannot be written.
    """
    with atomic_write(folder / "best.safetensors") as temporary:
        save_tensors(weights, temporary)
    with atomic_write(folder / "best.json") as temporary:
        temporary.write_text(json.dumps(sidecar, indent=1))


def save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file.

    Raises:
        OSError: It cannot be written (safetensors has an exception of its own for that).
    """
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, to the CPU; `load_state_dict` copies it to where it belongs.

    Raises:
        CellsError: When a file is missing or damaged; names it.
    """
    try:
        average = path / "average.safetensors"
        state = json.loads((path / "state.json").read_text())
        _check_sidecar(state)
        return {
            "weights": load_file(path / "model.safetensors"),
            "average": load_file(average) if average.exists() else None,
            "optimizer": torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
            "random": load_file(path / "random.safetensors"),
            "state": state,
        }
    except Exception as error:
        raise CellsError(
            f"{path}: damaged checkpoint ({error}); delete this folder to resume from the one before it"
        ) from error


def check_resumable(
    path: Path, state: dict[str, Any], batch_size: int, processes: int, processor: Any
) -> None:
    """Refuse to go on with other settings than those of the sidecar where that would change what was done before.

    Args:
        path: The checkpoint, for errors.
        state: Its sidecar.
        batch_size: Of all processes together, today.
        processes: Today.
        processor: The image processor of today.

    Raises:
        CellsError: Another number of processes; another batch size in the middle of an epoch, whose place would be
            lost; or another mean or standard deviation, which the weights do not know.
    """
    if state["processes"] != processes:
        raise CellsError(f"{path} was saved by {state['processes']} processes; resume with as many")
    if state["step_in_epoch"] and state["batch_size"] != batch_size:
        raise CellsError(
            f"{path} was saved in mid-epoch with batches of {state['batch_size']}, now they have {batch_size}; "
            "resume with the same training.batch_size"
        )
    for name in ("image_mean", "image_std"):
        was, now = state[name], getattr(processor, name)
        if (was is None) != (now is None) or (was is not None and list(was) != list(now)):
            raise CellsError(
                f"{path} was trained with {name} {was}, the recipe has {now}; resume with the same processor"
            )


def _check_sidecar(state: Any) -> None:
    if not isinstance(state, dict):
        raise ValueError("state.json is no JSON object")
    for name, kind in SIDECAR.items():
        value = state.get(name)
        fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if name not in state or not (fits or (value is None and name in _OPTIONAL)):
            raise ValueError(f"state.json: {name} is missing or no {kind.__name__}")


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Random state of this process. Samples draw from counters, so dropout is all that uses it."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_state(states: dict[str, torch.Tensor], rank: int, device: torch.device) -> None:
    """Put the random state of process `rank` back; call after the data iterator has started."""
    if f"{rank}.cpu" in states:
        torch.set_rng_state(states[f"{rank}.cpu"])
    if device.type == "cuda" and f"{rank}.cuda" in states:
        torch.cuda.set_rng_state(states[f"{rank}.cuda"], device)
