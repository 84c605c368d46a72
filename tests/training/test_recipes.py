"""Recipes: the packaged ones are whole, slips of the pen are refused, the resolved copy is the same recipe."""

from importlib import resources

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from hypothesis import given
from hypothesis import strategies as st

from hf_cells.data.augmentation import Augmentation
from hf_cells.data.registry import builder_class
from hf_cells.errors import CellsError
from hf_cells.training.optimisers import Schedule, make_optimizer
from hf_cells.training.recipe import DEFAULTS, load_recipe, recipe_names, save_recipe
from hf_cells.training.setup import build_model
from hf_cells.training.validation import metric_names


def test_there_are_recipes_and_their_files_carry_their_names():
    assert {"quickstart", "dsb2018_instance", "dsb2018_unet"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe["name"] == name
        assert recipe["description"]


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipe_builds_all_it_names(name):
    recipe = load_recipe(name)
    model, processor = build_model(recipe)
    assert model.config.model_type == recipe["model"]["type"]
    assert model.config.num_channels == processor.num_channels
    side = 2 * model.unet.multiple
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, processor.num_channels, side, side)).logits
    assert logits.shape[-2:] == (side, side)
    Augmentation.from_dict(recipe["augmentation"])
    training = recipe["training"]
    Schedule(make_optimizer(model, training["optimizer"]), training["schedule"], 10, training["epochs"])
    assert recipe["evaluation"]["metric"] in (
        None,
        *metric_names(recipe["model"]["type"].endswith("instance")),
    )
    builder = builder_class(recipe["data"]["name"])
    (config,) = [one for one in builder.BUILDER_CONFIGS if one.name == recipe["data"]["config"]]
    assert all(hasattr(config, option) for option in recipe["data"]["options"])


@pytest.mark.parametrize("name", recipe_names())
def test_the_resolved_copy_is_the_same_recipe(name, tmp_path):
    recipe = load_recipe(name, ["training.epochs=3", "training.optimizer={name: sgd, momentum: 0.9}"])
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.keys() == DEFAULTS.keys()


def test_overrides():
    recipe = load_recipe(
        "quickstart",
        [
            *[
                "training.epochs=2",
                "training.optimizer.lr=1e-3",
                "data.simulate=",
                "model.config.dropout=0.25",
            ],
            *["training.schedule={name: piecewise, milestones: [1], values: [1e-2, 5E-4]}", "name=a=b"],
        ],
    )
    assert recipe["training"]["epochs"] == 2
    assert recipe["training"]["optimizer"] == {"name": "adamw", "lr": 0.001, "weight_decay": 0.02}
    assert recipe["data"]["simulate"] is None
    assert recipe["model"]["config"]["dropout"] == 0.25
    assert recipe["model"]["config"]["hidden_sizes"] == [24, 48, 64, 96]  # the others stay
    assert recipe["training"]["schedule"] == {
        "name": "piecewise",
        "milestones": [1],
        "values": [0.01, 0.0005],
    }
    assert recipe["name"] == "a=b"
    recipe = load_recipe(
        "quickstart", ["training.max_steps=5", "training.max_steps=", "data.balance_power=1"]
    )
    assert recipe["training"]["max_steps"] is None and recipe["data"]["balance_power"] == 1
    assert DEFAULTS["training"]["epochs"] == 30  # the defaults are not touched


def test_another_optimiser_does_not_inherit_arguments():
    recipe = load_recipe("quickstart", ["training.optimizer.name=sgd", "training.schedule.name=plateau"])
    assert recipe["training"]["optimizer"] == {"name": "sgd"}
    assert recipe["training"]["schedule"] == {"name": "plateau"}


@given(st.floats(1e-12, 1e12), st.integers(0, 12))
def test_numbers_in_any_notation_are_numbers(value, digits):
    for text in (f"{value:.{digits}e}", f"{value:.{digits}E}".replace("E+", "E")):
        recipe = load_recipe("quickstart", [f"training.optimizer.lr={text}"])
        assert recipe["training"]["optimizer"]["lr"] == float(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("training: {epoch: 3}", "unknown key training.epoch; known here: epochs"),
        ("trainng: {epochs: 3}", "unknown key trainng; known here: name"),
        ("training: 5", "training. must be a mapping"),
        ("- a\n- b", "the recipe must be a mapping"),
        ("training: {epochs: [1", "not valid YAML"),
    ],
)
def test_wrong_files_name_the_file(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(CellsError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.epoch=3", "override 'training.epoch=3': unknown key training.epoch"),
        ("training.epochs", "override 'training.epochs' is not of the form key.sub=value"),
        ("training=3", "must be a mapping"),
        ("training.epochs.x=3", "training.epochs is {'x': 3}; it must be a whole number"),
        ("training.epochs=ten", "training.epochs is 'ten'; it must be a whole number"),
        ("training.epochs=true", "training.epochs is True; it must be a whole number"),
        ("training.batch_size=0", "training.batch_size is 0; it must be 1 or more"),
        ("data.balance_power=half", "data.balance_power is 'half'; it must be a number"),
        ("evaluation.test=1", "evaluation.test is 1; it must be true or false"),
        ("training.trackers=tensorboard", "training.trackers is 'tensorboard'; it must be a list"),
        ("data.options=", "data.options is None; it must be a mapping"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(CellsError, match=message):
        load_recipe("quickstart", [override])


def test_no_such_recipe(tmp_path):
    with pytest.raises(CellsError, match="no recipe 'quickstar'; choose from: .*quickstart"):
        load_recipe("quickstar")
    with pytest.raises(CellsError, match=r"none.yaml: no such recipe file"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.type=unet", "model.type='unet' is unknown; choose from: cell_unet_instance"),
        ("model.config.hiden_sizes=[8]", "model.config.hiden_sizes is unknown; choose from: hidden_sizes"),
        ("model.config.decoder_type=unet3", "decoder_type='unet3' is unknown"),
        ("model.config.hidden_act=relux", "hidden_act='relux' is unknown"),
        ("processor.scalling=dtype", "processor.scalling is unknown; choose from: scaling"),
        ("processor.scaling=log", "scaling='log' is unknown"),
        ("model.init_from=/no/such/folder", "model or processor of the recipe: .*/no/such/folder"),
    ],
)
def test_wrong_models(override, message):
    with pytest.raises(CellsError, match=message) as caught:
        build_model(load_recipe("quickstart", [override]))
    assert "\n" not in str(caught.value)


def test_labels_of_a_recipe():
    model, _ = build_model(
        load_recipe("dsb2018_unet", ["model.config.id2label={0: ground, 1: cell, 2: wall}"])
    )
    assert model.config.id2label == {0: "ground", 1: "cell", 2: "wall"}
    assert model.config.label2id == {"ground": 0, "cell": 1, "wall": 2}
    assert model.config.num_labels == 3


ACCELERATE = sorted(
    item.name
    for item in (resources.files("hf_cells.recipes") / "accelerate").iterdir()
    if item.name.endswith(".yaml")
)


@pytest.mark.parametrize("name", ACCELERATE)
def test_launch_configurations_are_accelerates_own(name, tmp_path):
    text = (resources.files("hf_cells.recipes") / "accelerate" / name).read_text()
    path = tmp_path / name
    path.write_text(text)
    config = load_config_from_file(str(path))  # raises on unknown keys
    machines = {"one_gpu.yaml": (1, 1), "multi_gpu.yaml": (1, 8), "multi_machine.yaml": (2, 16)}
    assert (config.num_machines, config.num_processes) == machines[name]
    assert config.distributed_type.value == ("NO" if name == "one_gpu.yaml" else "MULTI_GPU")
    assert config.mixed_precision == "bf16" and config.use_cpu is False
    assert set(yaml.safe_load(text)) <= set(vars(config))
    assert set(ACCELERATE) == set(machines)
