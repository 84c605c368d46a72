"""`EndpointHandler`: what Inference Endpoints runs when this file lies in the root of a model repository.

The platform puts the repository on the import path, builds `EndpointHandler(path)` once, and calls it with every
request. It needs no package of ours: the model's own code in the repository runs, by `trust_remote_code`. The functions
are the Hub's inference API for image classification and image segmentation; the server of hf-cells uses them too.
"""

import base64
import binascii
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSIFICATION, SEGMENTATION = "image-classification", "image-segmentation"
TOP_K = 5  # what the Hub gives to those who do not ask for more


class WrongTask(ValueError):
    """A request that another kind of model could answer."""


def task_of(model_type: str) -> str:
    """The Hub's name of what a model of this type does."""
    return CLASSIFICATION if model_type == "cell_classification" else SEGMENTATION


# --- the request --------------------------------------------------------------------------------------------


def check_parameters(model_type: str, parameters: Any) -> dict[str, Any]:
    """Check the `parameters` of a request; null ones count as not given, numbers may be text.

    Args:
        model_type: Of the model's configuration.
        parameters: Of image classification `top_k`, `function_to_apply`; of image segmentation `threshold`,
            `mask_threshold`, `overlap_mask_area_threshold`, `subtask`.

    Returns:
        Those that were given, with values of the right type.

    Raises:
        WrongTask: A parameter or a subtask belongs to another kind of model.
        ValueError: A parameter is unknown, or its value is not possible.
    """
    if not isinstance(parameters, Mapping | None):
        raise ValueError('parameters is not an object, such as {"top_k": 3}')
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    task = task_of(model_type)
    known = _CHECKS[task]
    for name in given:
        if name in known:
            continue
        for other, checks in _CHECKS.items():
            if name in checks:
                raise WrongTask(f"{name} is a parameter of {other}, and this model does {task}")
        raise ValueError(f"unknown parameter {str(name)[:60]!r}; {task} knows {', '.join(known)}")
    checked = {name: known[name](name, value) for name, value in given.items()}
    does = "instance" if model_type.endswith("instance") else "semantic"
    if checked.get("subtask", does) != does:
        raise WrongTask(f"subtask {checked['subtask']!r}: this model does {does} segmentation only")
    return checked


def _count(name: str, value: Any) -> int:
    number = _number(name, value, "a whole number from 1 on")
    if number < 1 or number != int(number):
        raise ValueError(f"{name} must be a whole number from 1 on, not {_shown(value)}")
    return int(number)


def _share(name: str, value: Any) -> float:
    number = _number(name, value, "a number from 0 to 1")
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {_shown(value)}")
    return number


def _number(name: str, value: Any, wanted: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value)  # a query string has text only
        if not np.isfinite(number):
            raise OverflowError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be {wanted}, not {_shown(value)}") from None
    return number


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {_shown(value)}")
        return str(value)

    return check


def _shown(value: Any) -> str:
    return repr(value)[:60]


_CHECKS: dict[str, dict[str, Callable[[str, Any], Any]]] = {
    CLASSIFICATION: {"top_k": _count, "function_to_apply": _one_of("sigmoid", "softmax", "none")},
    SEGMENTATION: {
        "threshold": _share,
        "mask_threshold": _share,
        "overlap_mask_area_threshold": _share,
        "subtask": _one_of("instance", "panoptic", "semantic"),
    },
}


def decode_inputs(inputs: Any) -> Any:
    """Return the image of a request as `bytes` or a PIL image.

    A string is the content of a file in base64, with or without "data:image/png;base64," before it. Never is it a path
    or an address: whoever may ask for a prediction must not make the server read its own files or its own network.

    Raises:
        ValueError: It is anything else.
    """
    if isinstance(inputs, bytes | bytearray | Image.Image):
        return inputs
    if not isinstance(inputs, str):
        raise ValueError(f"inputs is a {type(inputs).__name__}; send the image file, as bytes or in base64")
    if inputs.startswith("data:"):
        inputs = inputs.partition(",")[2]
    try:
        return base64.b64decode("".join(inputs.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(
            "inputs is no base64; send the content of the image file (addresses and paths are not followed)"
        ) from None


# --- the answer ---------------------------------------------------------------------------------------------


def classification_answer(
    logits: np.ndarray,
    id2label: Mapping[int, str],
    multi_label: bool,
    top_k: int = TOP_K,
    function_to_apply: str | None = None,
) -> list[dict[str, Any]]:
    """Return `[{"label", "score"}]` of one image, best first.

    Args:
        logits: `(num_labels,)`, calibrated.
        id2label: Names of the labels.
        multi_label: Whether an image may have several: then a sigmoid is applied by default, else softmax.
        top_k: How many; all when there are fewer.
        function_to_apply: "sigmoid", "softmax" or "none" in place of the default.
    """
    scores = np.asarray(logits, np.float64)
    function = function_to_apply or ("sigmoid" if multi_label else "softmax")
    if function == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    elif function == "softmax":
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": id2label[int(i)], "score": float(scores[i])} for i in best]


def segmentation_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the `cell-segmentation` pipeline that these parameters mean for an instance model.

    Objects of our models never overlap, so `overlap_mask_area_threshold` changes nothing.
    """
    options: dict[str, Any] = {"threshold": parameters.get("threshold", 0.0)}
    if "mask_threshold" in parameters:
        options["decision_thresholds"] = {"foreground": parameters["mask_threshold"]}
    return options


def segmentation_answer(
    found: Mapping[str, Any], id2label: Mapping[int, str], mask_threshold: float = 0.0
) -> list[dict[str, Any]]:
    """Return `[{"label", "score", "mask"}]`: an entry for each object, or for each class that an image has.

    Args:
        found: What the `cell-segmentation` pipeline gives for one image.
        id2label: Names of the labels.
        mask_threshold: Semantic models: pixels of a lower probability belong to no mask.

    Returns:
        `mask` is a PNG in base64, 8-bit grey, 255 inside; `score` is None for classes, as on the Hub.
    """
    if "instance_labels" in found:
        entries = zip(found["scores"], found["label_ids"], strict=True)
        return [
            {
                "score": round(float(score), 6),
                "label": id2label[int(label)],
                "mask": png_base64((found["instance_labels"] == number) * np.uint8(255)),
            }
            for number, (score, label) in enumerate(entries, start=1)
        ]
    classes = found["semantic_mask"]
    masks = {int(i): classes == i for i in np.unique(classes)}
    if mask_threshold:
        sure = found["probabilities"].max(0) >= mask_threshold
        masks = {i: mask & sure for i, mask in masks.items() if (mask & sure).any()}
    return [
        {"score": None, "label": id2label[i], "mask": png_base64(mask * np.uint8(255))}
        for i, mask in masks.items()
    ]


def png_base64(pixels: np.ndarray) -> str:
    """Encode a `(H, W)` uint8 or uint16 image; masks compress well at the fastest level already."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")


# --- the platform -------------------------------------------------------------------------------------------


class EndpointHandler:
    """The model of the repository in which this file lies, as Inference Endpoints calls it.

    Args:
        path: Folder of the repository.
    """

    def __init__(self, path: str = ""):
        from transformers import pipeline

        folder = path or str(Path(__file__).parent)
        settings = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        task = next(iter(settings["custom_pipelines"]))
        self.pipe: Any = pipeline(task, model=folder, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Answer one request.

        Args:
            data: `inputs`, a PIL image, bytes, or base64 text, and perhaps `parameters`, see `check_parameters`. The
                platform turns image bodies into 8-bit RGB; send 16-bit or many-channel images in base64.

        Returns:
            What the Hub's inference API gives: `[{"label", "score"}]` or `[{"label", "score", "mask"}]`.

        Raises:
            ValueError: For anything that cannot be answered; the platform makes status 400 of it.
        """
        config = self.pipe.model.config
        parameters = check_parameters(config.model_type, data.get("parameters"))
        image = decode_inputs(data.get("inputs"))
        if task_of(config.model_type) == CLASSIFICATION:
            logits = self.pipe.forward(self.pipe.preprocess(image))["logits"][0].numpy()
            return classification_answer(logits, config.id2label, config.multi_label, **parameters)
        if config.model_type.endswith("instance"):
            return segmentation_answer(self.pipe(image, **segmentation_options(parameters)), config.id2label)
        return segmentation_answer(self.pipe(image), config.id2label, parameters.get("mask_threshold", 0.0))


__all__ = [
    "EndpointHandler",
    "WrongTask",
    "check_parameters",
    "classification_answer",
    "decode_inputs",
    "png_base64",
    "segmentation_answer",
    "segmentation_options",
    "task_of",
]
