"""One finished sample: a function of the library, the seed, the split and the index, and of nothing else."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .backgrounds import Background
from .classes import CLASS_IDS, CLASS_NAMES, WHITE_CELLS
from .library import Library, Sample
from .looks import apply_look, draw_look
from .pasting import mark, paste, turned
from .placement import PARTIAL_SHARE, STEP, occupy, place
from .plan import Plan, generator, split_number

CROP = 224
EXTRA = 2  # at most so many cells more of a class in a multi sample


@dataclass
class Composite:
    """A finished sample.

    Attributes:
        image: RGB (CROP, CROP).
        classes: (CROP, CROP) uint8 class ids.
        instances: (CROP, CROP) uint16, 0 background, 1..n as `label["objects"]`.
        label: What `labels/*.json` holds.
    """

    image: Image.Image
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    label: dict[str, Any]


def background_number(seed: int, split: str, index: int, plan: Plan, kinds: dict[str, list[int]]) -> int:
    """Number of the background that a sample is cropped from."""
    choices = kinds[plan.kind]
    return choices[int(generator(seed, split_number(split), 3, index).integers(len(choices)))]


def compose(
    library: Library,
    sources: list[list[Sample]],
    background: Background,
    seed: int,
    split: str,
    index: int,
    plan: Plan,
) -> Composite:
    """Crop, turn, paste, and give the whole one look."""
    rng = generator(seed, split_number(split), 4, index)
    top, left = (int(v) for v in rng.integers(0, background.labels.shape[0] - CROP + 1, 2))
    turns, flipped = int(rng.integers(4)), bool(rng.random() < 0.5)
    light = _dihedral(background.light[top : top + CROP, left : left + CROP], turns, flipped)
    labels = _dihedral(background.labels[top : top + CROP, left : left + CROP], turns, flipped).copy()
    canvas = Image.fromarray(np.ascontiguousarray(light))

    pasted: list[dict[str, Any]] = []
    first = len(background.cells) + 1  # labels of pasted cells follow those of the background
    taken = (labels[STEP // 2 :: STEP, STEP // 2 :: STEP] > 0).astype(np.uint8)
    for class_name in _with_extras(rng, plan):
        samples = library.of(split, class_name)
        sample = samples[int(rng.integers(len(samples)))]
        angle, mirrored = float(np.round(rng.uniform(0, 360), 1)), bool(rng.random() < 0.5)
        partial = class_name in WHITE_CELLS and bool(rng.random() < PARTIAL_SHARE)
        stamp = turned(sample.rgba, angle, mirrored)
        x, y = place(rng, taken, stamp.size, partial)
        occupy(taken, x, y, stamp.size)
        paste(canvas, stamp, x, y)
        mark(labels, stamp, x, y, first + len(pasted))
        pasted.append({"class": class_name, "sample": sample.sample_id, "angle": angle, "flipped": mirrored})

    look = draw_look(rng, sources)
    image = apply_look(rng, canvas, look)
    cells = [*background.cells, *pasted]
    class_ids = np.concatenate([background.class_ids, [CLASS_IDS[p["class"]] for p in pasted]]).astype(
        np.uint8
    )
    instances, objects = describe(labels, cells, len(background.cells))
    label = {
        "index": index,
        "split": split,
        "layout": plan.layout,
        "width": CROP,
        "height": CROP,
        "background": {
            "name": background.name,
            "kind": background.kind,
            "crop": [left, top, left + CROP, top + CROP],
            "quarter_turns": turns,
            "flipped": flipped,
        },
        "look": {"glass": look.glass, "gain": look.gain},
        "objects": objects,
    }
    return Composite(image, class_ids[labels], instances, label)


def describe(
    labels: NDArray[np.uint16], cells: list[dict[str, Any]], in_background: int
) -> tuple[NDArray[np.uint16], list[dict[str, Any]]]:
    """Number the cells that show 1..n, pasted ones after those of the background, and describe them.

    Boxes are [left, top, right, bottom), of the pixels that show.
    """
    areas = np.bincount(labels.ravel(), minlength=len(cells) + 1)
    shown = np.flatnonzero(areas[1:]) + 1
    numbers = np.zeros(len(cells) + 1, np.uint16)
    numbers[shown] = np.arange(1, len(shown) + 1)
    instances = numbers[labels]
    height, width = labels.shape
    objects = []
    for number, (old, box) in enumerate(zip(shown.tolist(), ndimage.find_objects(instances)), start=1):
        rows, columns = box
        cell = cells[old - 1]
        objects.append(
            {
                "id": number,
                "class": cell["class"],
                "box": [columns.start, rows.start, columns.stop, rows.stop],
                "pixels": int(areas[old]),
                "sample": cell["sample"],
                "angle": cell["angle"],
                "flipped": cell["flipped"],
                "pasted": old > in_background,
                "partial": rows.start == 0
                or columns.start == 0
                or rows.stop == height
                or columns.stop == width,
            }
        )
    return instances, objects


def _with_extras(rng: np.random.Generator, plan: Plan) -> list[str]:
    """Classes to paste, white cells first; a multi sample has some classes more than once, platelets mostly."""
    classes = list(plan.classes)
    if plan.layout == "multi":
        small = [name for name in classes if name not in WHITE_CELLS] or classes
        classes += [small[int(i)] for i in rng.integers(len(small), size=int(rng.integers(EXTRA + 1)))]
    return sorted(classes, key=CLASS_NAMES.index)


def _dihedral(pixels: NDArray[Any], turns: int, flipped: bool) -> NDArray[Any]:
    return np.rot90(pixels[:, ::-1] if flipped else pixels, turns)
