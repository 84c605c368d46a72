"""From the names of engines to engines: "classical", or a model of this package by folder or Hub name."""

from typing import Any

from ..errors import CellsError
from .nuclei_cells import CellEngine, ModelCells, ModelNuclei, NucleiEngine

CLASSICAL = "classical"


def load_engines(
    nuclei_model: Any = CLASSICAL, cell_model: Any = CLASSICAL, device: str | None = None
) -> tuple[NucleiEngine | None, CellEngine | None]:
    """Return the engines for nuclei and cells; None stands for the classical one.

    Args:
        nuclei_model: "classical" or None, a folder or Hub name of an instance model, or its pipeline.
        cell_model: The same for cells.
        device: Where models run; by default the first accelerator, otherwise the CPU.

    Raises:
        CellsError: A model cannot be loaded or finds no instances.
    """
    nuclei = (
        None if _is_classical(nuclei_model) else ModelNuclei(_pipeline(nuclei_model, device, channels=(1, 3)))
    )
    cells = None if _is_classical(cell_model) else ModelCells(_pipeline(cell_model, device, channels=(3,)))
    return nuclei, cells


def _is_classical(model: Any) -> bool:
    return model is None or (isinstance(model, str) and model == CLASSICAL)


def _pipeline(model: Any, device: str | None, channels: tuple[int, ...]) -> Any:
    if isinstance(model, str) and model.endswith((".pth", ".pt")):
        raise CellsError(
            f"{model}: weights of the HPA tool are whole pickled programs for an old torch and are not read; "
            f"give {CLASSICAL!r} or an instance model of hf-cells"
        )
    if not callable(model):
        from ..models.loading import pipeline

        model = pipeline(model, device)
    config = model.model.config
    if config.model_type != "cell_unet_instance":
        raise CellsError(f"a {config.model_type} model finds no single cells; give an instance model")
    if config.num_channels not in channels:
        wanted = " or ".join(map(str, channels))
        raise CellsError(f"the model takes {config.num_channels} channels, it has to take {wanted}")
    return model
