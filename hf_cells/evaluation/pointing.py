"""The pointing game over a split whose images say where their objects are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.samples import ImageRows
from ..errors import CellsError
from ..metrics import score_pointing
from ..models.class_activation import activation_method, maps_over_image, peak_of
from ..models.image_reading import read_image
from ..progress import track
from .sections import naming_image

BOXES = "boxes"  # column: for each object {"label": name, "box": [left, top, right, bottom]} in pixels


def can_point(model: Any, dataset: Any) -> bool:
    """Whether the split knows boxes and the model has maps."""
    if BOXES not in dataset.column_names:
        return False
    try:
        activation_method(model)
    except ValueError:  # a network without convolutions
        return False
    return True


def play_pointing(
    pipe: Any,
    dataset: Any,
    names: Sequence[str],
    identities: Sequence[Mapping[str, Any]],
    split_name: str,
    progress: bool = True,
) -> np.ndarray:
    """Point at every class of every image where the model sees it.

    Args:
        pipe: A `cell-classification` pipeline.
        dataset: Split with the columns `image` and `boxes`.
        names: K class names of the model; boxes of other classes are passed over.
        identities: `image_id` of each image.
        split_name: For errors.
        progress: Show a bar on a terminal.

    Returns:
        `(N, K, 3)`, see `score_pointing`.

    Raises:
        CellsError: An image or its boxes cannot be used; it is named.
    """
    images, boxes = ImageRows(dataset), dataset[BOXES]
    rows = []
    steps = range(len(images))
    for index in track(steps, f"pointing in {split_name}") if progress else steps:
        with naming_image(identities[index]["image_id"], split_name):
            own = _boxes_by_class(boxes[index], names)
            present = [k for k, found in enumerate(own) if len(found)]
            image = read_image(images[index]["image"])
            peaks: list[tuple[float, float] | None] = [None] * len(names)
            if present:
                # The paper takes the maximum of the map itself, wherever its zero is.
                maps = maps_over_image(pipe, image, present, signed=True)
                for k, activation in zip(present, maps, strict=True):
                    peaks[k] = peak_of(activation)
            rows.append(score_pointing(peaks, own, image.shape[:2]))
    return np.stack(rows)


def _boxes_by_class(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[np.ndarray]:
    own: list[list[Any]] = [[] for _ in names]
    place = {name: k for k, name in enumerate(names)}
    for entry in found or ():
        box = entry["box"]
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise CellsError(f"box {list(box)} of {entry['label']} is not left, top, right, bottom")
        if entry["label"] in place:
            own[place[entry["label"]]].append(box)
    return [np.array(boxes, np.float64).reshape(-1, 4) for boxes in own]
