"""What a recipe builds, without its data."""

import io

import datasets
import numpy as np
from PIL import Image

from hf_cells.data.registry import builder_class, dataset_names
from hf_cells.training.optimisers import Schedule, make_optimizer
from hf_cells.training.setup import build_model
from hf_cells.training.task import task_of


def build(recipe):
    """Model, processor and task of a recipe, with data that has the classes of its dataset."""
    task = task_of(recipe["model"]["type"])
    assert task is not None
    named = recipe["data"]["name"] in dataset_names()
    names = list(builder_class(recipe["data"]["name"]).class_names) if named else ["a", "b", "c"]
    classifier = recipe["model"]["type"].endswith("classification")
    channels = recipe["processor"].get("channel_names") or []  # a column each, and several labels a row
    for name in ("image_mean", "image_std"):  # nothing can be measured on the meta device
        if recipe["processor"].get(name) == "train":
            recipe["processor"][name] = [0.5] * recipe["processor"].get("num_channels", 3)
    train = _labelled(names, channels) if classifier else _masked(len(names))
    return *build_model(recipe, task, datasets.DatasetDict(train=train)), task


def _labelled(names, channels):
    if not channels:
        features = datasets.Features({"label": datasets.ClassLabel(names=names)})
        return datasets.Dataset.from_dict({"label": list(range(len(names)))}, features)
    planes = {channel: datasets.Image() for channel in channels}
    features = datasets.Features({**planes, "labels": [datasets.ClassLabel(names=names)]})
    noise = np.random.default_rng(0).integers(0, 256, (2, len(channels), 8, 8)).astype(np.uint8)
    rows = [{**dict(zip(channels, map(_png, image))), "labels": [0, 1]} for image in noise]
    return datasets.Dataset.from_list(rows, features)


def _masked(classes):
    """Two images of noise whose masks have a row of every class."""
    noise = np.random.default_rng(0).integers(0, 256, (2, classes, 8, 3)).astype(np.uint8)
    mask = np.repeat(np.arange(classes, dtype=np.uint8)[:, None], 8, axis=1)
    features = datasets.Features({"image": datasets.Image(), "semantic_mask": datasets.Image()})
    rows = [{"image": _png(image), "semantic_mask": _png(mask)} for image in noise]
    return datasets.Dataset.from_list(rows, features)


def _png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def training_of(recipe, model):
    training = recipe["training"]
    optimizer = make_optimizer(model, training["optimizer"], training["layer_decay"])
    return optimizer, Schedule(optimizer, training["schedule"], 10, training["epochs"])
