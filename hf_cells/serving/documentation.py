"""What stands on the page /docs: how to ask, with examples that fit the model."""

from typing import Any

from ..models.handler import CLASSIFICATION
from .service import Service

_PNG = "iVBORw0KGgo…"
_ERROR = {
    "application/json": {"example": {"error": "image bytes: is not an image or its header is damaged; …"}}
}
_STATUSES = {
    400: "Broken JSON, or a request for another kind of model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "A form in place of a file.",
    422: "Not an image, an image that does not suit the model, or an unknown parameter.",
    503: "All places are taken, or the server is shutting down; see the header Retry-After.",
    504: "The answer took too long.",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "top_k": {"type": "integer", "minimum": 1, "description": "How many labels; 5 by default."},
    "function_to_apply": {
        "enum": ["sigmoid", "softmax", "none"],
        "description": "Of the logits; what suits the model by default.",
    },
    "threshold": {
        "type": "number",
        "description": "Objects of a lower score are left out; 0 by default: all that the model is tuned to find.",
    },
    "mask_threshold": {
        "type": "number",
        "description": "Pixels of a lower probability belong to no mask; by default what the model is tuned to.",
    },
    "overlap_mask_area_threshold": {
        "type": "number",
        "description": "Taken for the Hub's sake: objects never overlap, so it changes nothing.",
    },
    "subtask": {
        "enum": ["instance", "semantic"],
        "description": "What the model does; anything else is refused.",
    },
}


def description(service: Service) -> str:
    """Markdown for the top of the page."""
    call = "image_classification" if service.task == CLASSIFICATION else "image_segmentation"
    return f"""
`{service.name}`: {service.task}, labels {", ".join(map(str, service.config.id2label.values()))}.
Research use only.

    from huggingface_hub import InferenceClient

    InferenceClient(model="http://127.0.0.1:8000").{call}("cell.png")

    curl --data-binary @cell.png http://127.0.0.1:8000/predict

PNG, JPEG, TIFF, BMP, GIF and WebP, 8 and 16 bits, as many channels as the model takes. One image a request; of a TIFF,
up to five pages are its channels.
"""


def route(service: Service, full: bool) -> dict[str, Any]:
    """Keyword arguments of a route: what it takes and answers, for OpenAPI."""
    names: tuple[str, ...] = ("top_k", "function_to_apply")
    if service.task != CLASSIFICATION:
        names = ("threshold", "mask_threshold", "overlap_mask_area_threshold", "subtask")
    example = {
        "inputs": _PNG,
        "parameters": {"top_k": 3} if service.task == CLASSIFICATION else {"threshold": 0.5},
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {"type": "string", "description": "Image file in base64."},
            "parameters": {"type": "object", "properties": {name: _PARAMETERS[name] for name in names}},
        },
    }
    image = {"schema": {"type": "string", "format": "binary"}}
    content = dict.fromkeys(("image/png", "image/tiff", "image/jpeg", "application/octet-stream"), image)
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": _ERROR} for status, text in _STATUSES.items()
    }
    shown = _full_example(service) if full else _hub_example(service)
    answers[200] = {"description": "Found.", "content": {"application/json": {"example": shown}}}
    body = {
        "required": True,
        "content": {**content, "application/json": {"schema": schema, "example": example}},
    }
    return {"responses": answers, "openapi_extra": {"requestBody": body}}


def _label(service: Service) -> str:
    return str(service.config.id2label[max(service.config.id2label)])


def _hub_example(service: Service) -> Any:
    entry = {"label": _label(service), "score": 0.97}
    return [entry] if service.task == CLASSIFICATION else [{**entry, "mask": _PNG}]


def _full_example(service: Service) -> Any:
    name = _label(service)
    image = {"height": 256, "width": 256, "channels": 1, "dtype": "uint16"}
    if service.task == CLASSIFICATION:
        scores = [{"label": name, "score": 0.97}]
        return {"predicted": [name], "scores": scores, "decision_thresholds": None, "image": image}
    if not service.config.model_type.endswith("instance"):
        classes = [{"id": 1, "label": name, "pixels": 8192, "fraction": 0.125}]
        return {"label_image": _PNG, "classes": classes, "image": image}
    box = {"min_row": 4, "min_col": 9, "max_row": 18, "max_col": 22}
    thing = {
        "id": 1,
        "label": name,
        "score": 0.99,
        "area": 137,
        "centroid_y": 10.4,
        "centroid_x": 15.1,
        **box,
    }
    return {"label_image": _PNG, "count": 1, "counts": {name: 1}, "objects": [thing], "image": image}
