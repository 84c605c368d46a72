"""The worst, median and best images of an evaluation, ready to be drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.samples import ImageRows
from ..models.image_reading import read_image
from .scoring import choose_scoring, class_colours, class_names
from .segmentation import Evaluation


@dataclass(frozen=True)
class Example:
    """One image with its truth and prediction, for `plot_segmentation_examples`.

    Attributes:
        image: (H, W) or (H, W, C), any bit depth.
        truth: (H, W) integers, 0 = background: object ids, or classes when `class_names` is given.
        prediction: Like `truth`.
        title: One short line, the score in it.
        class_names: Names of the classes from 0, for a mask of more than two classes; None for objects.
        class_colors: Colour (red, green, blue) of each class; None to choose.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    title: str
    class_names: tuple[str, ...] | None = None
    class_colors: tuple[tuple[int, int, int], ...] | None = None


def select_examples(evaluation: Evaluation, pipe: Any, dataset: Any, each: int = 1) -> list[Example]:
    """Predict again the `each` worst, median and best images of an evaluation, for a figure.

    Titles carry the score and never an image's name, which may identify a case.
    """
    ranking = evaluation.ranking()
    middle = max(0, (len(ranking) - each) // 2)
    places = [("worst", index) for index in ranking[:each]]
    places += [("median", index) for index in ranking[middle : middle + each]]
    places += [("best", index) for index in ranking[::-1][:each]]
    first_place: dict[int, str] = {}
    for place, index in places:  # in a small split the worst may be the median too: drawn once
        first_place.setdefault(index, place)
    return [_example(evaluation, pipe, dataset, index, place) for index, place in first_place.items()]


def _example(evaluation: Evaluation, pipe: Any, dataset: Any, index: int, place: str) -> Example:
    row, scores = ImageRows(dataset)[index], evaluation.rows[index]["metrics"]
    image = read_image(row["image"])
    prediction = pipe(image)
    scoring = choose_scoring(prediction, dataset.column_names, pipe.model.config)
    title = f"{place}: {evaluation.headline} {scores[evaluation.headline]:.2f}"
    names: list[str] = []
    if scoring.output == "instance_labels":
        title += f", {scores['objects_true']:.0f} true and {scores['objects_pred']:.0f} predicted objects"
    else:
        names = class_names(pipe.model.config)
    return Example(
        image=image,
        truth=scoring.truth(row),
        prediction=np.asarray(prediction[scoring.output]),
        title=title,
        class_names=tuple(names) if len(names) > 2 else None,
        class_colors=class_colours(pipe.model.config) if len(names) > 2 else None,
    )
