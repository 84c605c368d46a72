"""What a recipe builds, without its data."""

import datasets

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
    features = datasets.Features({"label": datasets.ClassLabel(names=names)})
    train = datasets.Dataset.from_dict({"label": list(range(len(names)))}, features)
    return *build_model(recipe, task, datasets.DatasetDict(train=train)), task


def training_of(recipe, model):
    training = recipe["training"]
    optimizer = make_optimizer(model, training["optimizer"], training["layer_decay"])
    return optimizer, Schedule(optimizer, training["schedule"], 10, training["epochs"])
