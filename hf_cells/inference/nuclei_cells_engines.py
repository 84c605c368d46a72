"""From the names of engines to engines: "classical", or a model of this package by folder or Hub name."""

from typing import Any

from ..errors import CellsError
from .nuclei_cells import CellEngine, NucleiEngine
from .nuclei_cells_models import ModelCells, ModelNuclei

CLASSICAL = "classical"
NUCLEI_CHANNELS = ("blue",)
CELL_CHANNELS = ("red", "yellow", "blue")


def load_engines(
    nuclei_model: Any = CLASSICAL, cell_model: Any = CLASSICAL, device: str | None = None
) -> tuple[NucleiEngine | None, CellEngine | None]:
    """Return the engines for nuclei and cells; None stands for the classical one.

    Args:
        nuclei_model: "classical" or None, a folder or Hub name of an instance model, or its pipeline.
        cell_model: The same for cells.
        device: Where models run; by default the first accelerator, otherwise the CPU.

    Raises:
        CellsError: A model cannot be loaded, finds no instances, or takes other channels.
    """
    nuclei: NucleiEngine | None = None
    cells: CellEngine | None = None
    if not _is_classical(nuclei_model):
        nuclei = ModelNuclei(_pipeline(nuclei_model, device, NUCLEI_CHANNELS, counts=(1, 3)))
    if not _is_classical(cell_model):
        cells = ModelCells(_pipeline(cell_model, device, CELL_CHANNELS, counts=(3,)))
    return nuclei, cells


def _is_classical(model: Any) -> bool:
    return model is None or (isinstance(model, str) and model == CLASSICAL)


def _pipeline(model: Any, device: str | None, channels: tuple[str, ...], counts: tuple[int, ...]) -> Any:
    """Load a model that takes these channels: as many as one of `counts`, or called like them where they have names."""
    if isinstance(model, str) and model.endswith((".pth", ".pt")):
        raise CellsError(
            f"{model}: weights of the HPA tool are whole pickled programs for an old torch and are not read; "
            f"give {CLASSICAL!r} or an instance model of hf-cells"
        )
    pipe = model
    if not callable(model):
        from ..models.loading import pipeline

        pipe = pipeline(model, device)
    which = f"{model}: " if pipe is not model else ""
    config = pipe.model.config
    if config.model_type != "cell_unet_instance":
        raise CellsError(f"{which}a {config.model_type} model finds no single cells; give an instance model")
    if config.num_channels not in counts:
        wanted = " or ".join(map(str, counts))
        raise CellsError(f"{which}the model takes {config.num_channels} channels, it has to take {wanted}")
    names = getattr(pipe.image_processor, "channel_names", None)
    if names and tuple(names) != channels:
        raise CellsError(
            f"{which}the model takes {', '.join(names)}, it has to take {', '.join(channels)}; "
            "are the models of nuclei and of cells exchanged?"
        )
    return pipe
