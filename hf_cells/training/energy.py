"""What a training cost in energy: an estimate from time, cores and graphics cards, and what it assumes."""

import subprocess
from typing import Any

_WATTS_PER_CORE = 10  # a busy core of today's server processors: package power by cores is 5 to 15 W
_WATTS_PER_GPU = 300  # where the driver does not tell the card's limit


def energy_estimate(seconds: float, cores: int, gpus: int = 0) -> dict[str, Any]:
    """Estimate the energy of a run; nothing is metered, so it is an upper bound more than a measurement.

    Args:
        seconds: Time of the run.
        cores: CPU cores in use, of all processes of all machines.
        gpus: Graphics cards in use.

    Returns:
        `{"watt_hours", "assumes"}`.
    """
    limit = _power_limit() if gpus else None
    watts = cores * _WATTS_PER_CORE + gpus * (limit or _WATTS_PER_GPU)
    assumes = f"{_WATTS_PER_CORE} W for each of {cores} core{'s' if cores != 1 else ''}"
    if gpus:
        assumes += f" and {limit or _WATTS_PER_GPU:.0f} W for each of {gpus} GPU{'s' if gpus != 1 else ''}"
    return {"watt_hours": round(seconds * watts / 3600, 2), "assumes": f"{assumes}; not metered"}


def _power_limit() -> float | None:
    """The enforced power limit of the first card in watts, where the driver tells it."""
    command = ["nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return float(output.splitlines()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
