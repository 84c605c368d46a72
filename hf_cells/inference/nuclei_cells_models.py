"""Engines made of this package's instance models: nuclei from the blue stain, cells from all reference stains."""

from typing import Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from ..models.instance_decoding import merge_basins
from ..models.instance_targets import INSTANCE_MAPS
from .nuclei_cells_bodies import grow_cells, tidy_cells
from .nuclei_cells_nuclei import typical_diameter, without_debris

# Nuclei between which the distance map dips less than this share two peaks of one cell.
_NO_DIP = 0.05


class ModelNuclei:
    """Nuclei engine: an instance model on the nuclear stain."""

    def __init__(self, pipe: Any):
        self.pipe = pipe

    def __call__(self, blue: np.ndarray) -> np.ndarray:
        """Return (H, W) labels."""
        nuclei = self.pipe(blue)["instance_labels"]
        return without_debris(nuclei, typical_diameter(nuclei))


class ModelCells:
    """Cell engine: the maps of an instance model on [red, yellow, blue], flooded from the nuclei.

    The model's own peaks would tell cells apart too; nuclei do it better, because a cell of several arms has several
    peaks and one nucleus. Without ER the microtubules stand in for it.
    """

    def __init__(self, pipe: Any):
        self.pipe = pipe

    def __call__(self, nuclei: np.ndarray, channels: list[np.ndarray]) -> np.ndarray:
        """Return (H, W) cells with the numbers of their nuclei; several nuclei of one cell give it one number."""
        red, yellow, blue = channels[0], channels[-2], channels[-1]
        maps = self._maps(np.stack([red, yellow, blue], axis=-1))
        nuclei, cells = flood_from_nuclei(nuclei, maps, self.pipe.image_processor.decision_thresholds)
        cells = with_missing_cells(nuclei, cells, channels[:-1])
        return tidy_cells(cells, nuclei, typical_diameter(nuclei))

    def _maps(self, image: np.ndarray) -> np.ndarray:
        logits = self.pipe.forward(self.pipe.preprocess(image))["logits"][0]
        return self.pipe.image_processor.to_original_size(logits, image.shape[:2]).cpu().numpy()


def flood_from_nuclei(
    nuclei: np.ndarray, maps: np.ndarray, settings: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a model's foreground among the nuclei: a watershed of its distance and boundary maps.

    Args:
        nuclei: (H, W) labels 1..n.
        maps: (len(INSTANCE_MAPS), H, W) logits.
        settings: `foreground`, `boundary_weight` and `smoothing`, as in `instance_decoding`.

    Returns:
        (H, W) int32 each: the nuclei, those of one cell with one number, and the cells with these numbers; foreground
        that no nucleus reaches is 0.
    """
    foreground, boundary = (
        1 / (1 + np.exp(-np.clip(maps[INSTANCE_MAPS.index(name)], -30, 30)))
        for name in ("foreground", "boundary")
    )
    height = maps[INSTANCE_MAPS.index("distance")] - settings["boundary_weight"] * boundary
    height = ndimage.gaussian_filter(height, settings["smoothing"])
    mask = foreground > settings["foreground"]
    basins = watershed(-height, np.where(mask, nuclei, 0), mask=mask).astype(np.int32)
    cells = merge_basins(basins, height, _NO_DIP)
    number = np.arange(int(nuclei.max(initial=0)) + 1, dtype=np.int32)
    number[basins] = cells
    return number[nuclei], cells


def with_missing_cells(nuclei: np.ndarray, cells: np.ndarray, channels: list[np.ndarray]) -> np.ndarray:
    """Add a grown cell, with the nucleus' number, for every nucleus most of which lies in no cell."""
    count = int(nuclei.max(initial=0)) + 1
    covered = np.bincount(nuclei.ravel(), weights=(cells > 0).ravel(), minlength=count)
    homeless = covered < 0.5 * np.bincount(nuclei.ravel(), minlength=count)
    homeless[0] = False
    if not homeless.any():
        return cells
    grown = grow_cells(nuclei, channels, typical_diameter(nuclei))
    add = homeless[grown] & ((cells == 0) | homeless[nuclei])
    return np.where(add, grown, np.where(homeless[cells], 0, cells)).astype(np.int32)
