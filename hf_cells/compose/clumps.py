"""Platelet clumps put together from single platelets where no source shows any."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .library import Sample
from .pasting import paste, turned
from .raw_cells import crop_to
from .stain import GLASS

FEWEST, MOST = 3, 9  # platelets of a clump
SIDE = 160


def build_clumps(platelets: Sequence[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """Build `count` clumps of one split from its platelets, each beside and partly over the others.

    `built_from` names the platelets, `source_image` the images that they come from.
    """
    return [build_clump(platelets, f"platelet_clump-{number:04d}", rng) for number in range(1, count + 1)]


def build_clump(platelets: Sequence[Sample], sample_id: str, rng: np.random.Generator) -> Sample:
    """Build one clump: every platelet touches one that is there already."""
    chosen = [platelets[i] for i in rng.integers(len(platelets), size=rng.integers(FEWEST, MOST + 1))]
    light = Image.new("RGB", (SIDE, SIDE), (GLASS,) * 3)
    alpha = Image.new("L", (SIDE, SIDE), 0)
    centres: list[np.ndarray] = []
    for platelet in chosen:
        stamp = turned(platelet.rgba, float(rng.uniform(0, 360)), bool(rng.random() < 0.5))
        centre = np.array([SIDE / 2, SIDE / 2])
        if centres:
            towards = rng.uniform(0, 2 * np.pi)
            step = platelet.diameter * rng.uniform(0.55, 0.85)
            centre = centres[rng.integers(len(centres))] + step * np.array([np.cos(towards), np.sin(towards)])
            centre = np.clip(centre, 20, SIDE - 20)
        centres.append(centre)
        left, top = (round(float(c) - s / 2) for c, s in zip(centre, stamp.size))
        paste(light, stamp, left, top)
        soft = stamp.getchannel("A")
        # Coverage adds up: what neither platelet covers shows through both.
        alpha.paste(255, (left, top), soft)
    rgba = np.dstack([np.asarray(light), np.asarray(alpha)])
    rgba = rgba[crop_to(rgba[..., 3] > 0, 1)]
    first = chosen[0]
    return Sample(
        sample_id=sample_id,
        class_name="platelet_clump",
        file="",
        source="built",
        source_image=";".join(sorted({p.source_image for p in chosen})),
        patient=None,
        height=rgba.shape[0],
        width=rgba.shape[1],
        diameter=float(2 * np.sqrt((rgba[..., 3] >= 128).sum() / np.pi)),
        scale=first.scale,
        split=first.split,
        built_from=";".join(sorted({p.sample_id for p in chosen})),
        glass=first.glass,
        gain=first.gain,
        rgba=rgba,
    )
