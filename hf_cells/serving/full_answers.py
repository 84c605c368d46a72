"""Answers of the route /predict: what the Hub's form has no place for."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ..inference.objects import object_table
from ..models.handler import classification_answer, png_base64

_HIGHEST_IN_PNG = 65_535
_MEASURED = ("area", "centroid_y", "centroid_x", "min_row", "min_col", "max_row", "max_col")


def full_classification(
    pipe: Any, pixels: np.ndarray, logits: Tensor, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe one classified image.

    Args:
        pipe: The `cell-classification` pipeline.
        pixels: The image as it was read.
        logits: `(1, num_labels)`.
        parameters: Of the Hub's inference API; they act on `scores` only.

    Returns:
        `predicted`, the labels that the model decides for with its own thresholds; `scores`, all of them, best first;
        `decision_thresholds` by label, or None; and `image`.
    """
    config = pipe.model.config
    decided = [entry["label"] for entry in pipe.postprocess({"logits": logits}) if entry["predicted"]]
    options = {"top_k": config.num_labels, **parameters}
    return {
        "predicted": decided,
        "scores": classification_answer(logits[0].numpy(), config.id2label, config.multi_label, **options),
        "decision_thresholds": config.decision_thresholds,
        "image": _described(pixels),
    }


def full_segmentation(
    found: Mapping[str, Any], pixels: np.ndarray, id2label: Mapping[int, str]
) -> dict[str, Any]:
    """Describe one segmented image.

    Args:
        found: What the `cell-segmentation` pipeline gives.
        pixels: The image as it was read.
        id2label: Names of the labels.

    Returns:
        Instances: `label_image`, a 16-bit PNG in base64 with 0 for background and 1..n; `count` and `counts` by label;
        `objects` with `id`, `label`, `score` and, in pixels, area, centroid and half-open bounding box.
        Classes: `label_image`, an 8-bit PNG of class numbers; `classes` with `id`, `label`, `pixels` and `fraction`.
        Both: `image`.

    Raises:
        ValueError: There are more objects than 16 bits can number.
    """
    if "instance_labels" not in found:
        mask = found["semantic_mask"]
        counts = np.bincount(mask.ravel(), minlength=len(id2label)).tolist()
        classes = [
            {"id": i, "label": id2label[i], "pixels": n, "fraction": n / mask.size}
            for i, n in enumerate(counts)
        ]
        return {"label_image": png_base64(mask), "classes": classes, "image": _described(pixels)}
    labels, count = found["instance_labels"], len(found["scores"])
    if count > _HIGHEST_IN_PNG:
        raise ValueError(f"{count} objects: a 16-bit label image numbers {_HIGHEST_IN_PNG}; send parts of it")
    names = [id2label[int(i)] for i in found["label_ids"]]
    table = object_table(labels)
    measures = {name: table[name].tolist() for name in _MEASURED}
    objects = [
        {
            "id": i + 1,
            "label": names[i],
            "score": round(float(found["scores"][i]), 6),
            **{name: column[i] for name, column in measures.items()},
        }
        for i in range(count)
    ]
    return {
        "label_image": png_base64(labels.astype(np.uint16)),
        "count": count,
        "counts": dict(Counter(names)),
        "objects": objects,
        "image": _described(pixels),
    }


def _described(pixels: np.ndarray) -> dict[str, Any]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    height, width = pixels.shape[:2]
    return {"height": height, "width": width, "channels": channels, "dtype": str(pixels.dtype)}
