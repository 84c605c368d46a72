"""Recipes: the packaged ones are whole, slips of the pen are refused, the resolved copy is the same recipe."""

from importlib import resources

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from built_recipes import build, training_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.data.augmentation import Augmentation
from hf_cells.data.image_augmentation import ImageAugmentation
from hf_cells.data.registry import builder_class
from hf_cells.errors import CellsError
from hf_cells.training.recipe import DEFAULTS, is_changed, load_recipe, recipe_names, save_recipe
from hf_cells.training.variants import study_variants


def test_there_are_recipes_and_their_files_carry_their_names():
    assert {"quickstart", "dsb2018_instance", "dsb2018_unet"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe["name"] == name
        assert recipe["description"]


def check_data(recipe):
    if recipe["data"]["name"] == "own":  # --data_dir says which
        return
    builder = builder_class(recipe["data"]["name"])
    wanted = recipe["data"]["config"] or builder.DEFAULT_CONFIG_NAME
    (config,) = [one for one in builder.BUILDER_CONFIGS if one.name == wanted]
    assert all(hasattr(config, option) for option in recipe["data"]["options"])


def recipes_of(classifiers):
    return [
        name
        for name in recipe_names()
        if load_recipe(name)["model"]["type"].endswith("classification") == classifiers
    ]


@pytest.mark.parametrize("name", recipes_of(classifiers=False))
def test_packaged_segmentation_recipe_builds_all_it_names(name):
    recipe = load_recipe(name)
    model, processor, task = build(recipe)
    assert model.config.model_type == recipe["model"]["type"]
    assert getattr(model.config, "num_channels", 3) == processor.num_channels
    side = 2 * model.multiple
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, processor.num_channels, side, side)).logits
    assert logits.shape[-2:] == (side, side)
    Augmentation.from_dict(recipe["augmentation"])
    training_of(recipe, model)
    assert recipe["evaluation"]["metric"] in (None, *task.metric_names())
    check_data(recipe)


@pytest.mark.parametrize("name", recipes_of(classifiers=True))
def test_packaged_classification_recipe_builds_all_it_names(name):
    """At its full size, on the meta device: shapes alone cost nothing, whatever VGG weighs."""
    recipe = load_recipe(name)
    ready = recipe["model"]["pretrained_backbone"]
    assert bool(ready) == (recipe["model"]["config"].get("backbone") is not None)
    recipe["model"]["pretrained_backbone"] = None  # needs the network
    for variant in study_variants(recipe["study"]) if recipe["study"] else [None]:
        varied = load_recipe(name, variant.overrides if variant else [])
        varied["model"]["pretrained_backbone"] = None
        with torch.device("meta"):
            model, processor, task = build(varied)
        assert model.config.model_type == varied["model"]["type"]
        assert model.config.num_channels == processor.num_channels
        channels = max(3, processor.num_channels)
        rows = np.random.default_rng(0).integers(0, 256, (50, 78, channels)).astype(np.uint8)
        pixels = processor([rows, rows])["pixel_values"]
        with torch.device("meta"):
            one = torch.zeros(2, dtype=torch.int64)
            labels = torch.zeros(2, model.config.num_labels) if model.config.multi_label else one
            logits = model(pixels.to("meta"), labels=labels).logits
        assert logits.shape == (2, model.config.num_labels)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    if varied["training"]["freeze"] == "backbone":
        assert all(name.startswith("head.") for name in learning)
    else:
        assert len(learning) == len(list(model.named_parameters()))
    training_of(varied, model)
    augmentation = ImageAugmentation.from_dict(varied["augmentation"])
    made, _ = augmentation(torch.rand(4, processor.num_channels, 32, 32), torch.eye(4), 0, 0, range(4))
    assert made.shape == (4, processor.num_channels, 32, 32) and torch.isfinite(made).all()
    metric = varied["evaluation"]["metric"]
    assert (metric or task.default_metric) in task.metric_names()
    check_data(varied)


def test_baselines_are_the_networks_of_their_descriptions():
    def of(number):
        return build(load_recipe(f"glomeruli_baseline_{number:02}", ["model.config.image_size=16"]))[0]

    def count(model, kind):
        return sum(isinstance(module, kind) for module in model.modules())

    nn = torch.nn
    convolutions = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2]
    dense = [1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 3, 3]
    norms = [0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2]
    pooled = [False] * 8 + [True, False, False, True]
    dropped = [False] * 9 + [True, True, True]
    for number in range(1, 13):
        model, place = of(number), number - 1
        assert count(model, nn.Conv2d) == convolutions[place], number
        assert count(model, nn.Linear) == dense[place], number
        assert count(model, nn.BatchNorm2d) == norms[place], number
        assert (max(model.backbone.factors, default=1) > 1) == pooled[place], number
        drops = [m.p for m in model.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))]
        assert (max(drops) > 0) == dropped[place], number


def test_the_alexnet_recipe_is_the_source_setting():
    recipe = load_recipe("hep2_alexnet")
    training = recipe["training"]
    assert training["optimizer"] == {"name": "sgd", "lr": 0.001, "momentum": 0.9}
    assert training["schedule"] == {"name": "plateau", "factor": 0.1, "patience": 5}
    assert (training["batch_size"], training["epochs"], training["freeze"]) == (4, 40, "backbone")
    assert recipe["processor"]["size"] == {"height": 300, "width": 300}
    assert recipe["processor"]["image_mean"] == recipe["processor"]["image_std"] == [0.5] * 3
    assert recipe["augmentation"]["rotation"] == 5
    assert recipe["model"]["config"]["head_hidden_sizes"] == [4096, 4096, 1000]


def test_the_efficientnet_recipe_is_the_source_setting():
    recipe = load_recipe("hpa_efficientnet_b2")
    training, settings_of = recipe["training"], recipe["processor"]
    assert training["optimizer"] == {"name": "adam", "lr": 3e-4}
    assert training["schedule"] == {"name": "cosine_restarts", "T_0": 10, "eta_min": 1e-6}
    assert (training["batch_size"], training["patience"]) == (32, 3)
    assert settings_of["size"] == {"height": 260, "width": 260} and settings_of["num_channels"] == 4
    assert recipe["augmentation"] == {"transpose": True, "horizontal_flip": True, "vertical_flip": True}
    recipe["model"]["pretrained_backbone"] = None
    with torch.device("meta"):
        model, processor, _ = build(recipe)
    assert model.config.loss_name == "bce" and model.config.multi_label and model.config.num_labels == 19
    assert len(processor.image_mean) == len(processor.image_std) == 4
    for loss in ("focal", "tversky"):
        other = load_recipe(
            "hpa_efficientnet_b2", [f"model.config.loss_name={loss}", "model.config.focal_alpha=0.8"]
        )
        other["model"]["pretrained_backbone"] = None
        with torch.device("meta"):
            assert build(other)[0].config.loss_name == loss


def test_the_small_hpa_recipe_is_small():
    model = build(load_recipe("hpa_cells_128"))[0]
    assert model.num_parameters() < 25e6


# ---------------------------------------------------------------- extends


def test_a_recipe_that_extends_another_says_what_differs(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "model: {type: cell_classification, config: {hidden_sizes: [8], norm: none}}\n"
        "training: {epochs: 7, optimizer: {name: sgd, lr: 0.5, momentum: 0.9}}\n"
        "processor: {square: white}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text(
        f"extends: {tmp_path / 'base.yaml'}\nname: child\n"
        "model: {config: {hidden_sizes: [4, 4]}}\ntraining: {optimizer: {name: adam}}\n"
    )
    recipe = load_recipe(child, ["training.epochs=2"])
    assert recipe["model"]["config"] == {"hidden_sizes": [4, 4], "norm": "none"}
    assert recipe["training"]["optimizer"] == {"name": "adam"}  # not the momentum of another
    assert recipe["training"]["epochs"] == 2 and recipe["processor"] == {"square": "white"}
    assert recipe["name"] == "child" and recipe["extends"] is None
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text(f"extends: {child}\ntraining: {{batch_size: 3}}\n")
    recipe = load_recipe(grandchild)
    assert recipe["training"]["epochs"] == 7 and recipe["training"]["batch_size"] == 3
    assert recipe["model"]["config"]["hidden_sizes"] == [4, 4]
    save_recipe(recipe, tmp_path / "resolved.yaml")
    child.unlink()
    assert load_recipe(tmp_path / "resolved.yaml") == recipe  # it stands alone


def test_a_recipe_of_the_package_can_be_extended(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: glomeruli_baseline_12\nname: mine\ntraining: {epochs: 1}\n")
    recipe, base = load_recipe(path), load_recipe("glomeruli_baseline_12")
    assert recipe["model"] == base["model"] and recipe["training"]["epochs"] == 1


def test_recipes_that_extend_each_other(tmp_path):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(f"extends: {other}\n")
    other.write_text(f"extends: {one}\n")
    with pytest.raises(CellsError, match="extends .*which extends it in turn"):
        load_recipe(one)
    one.write_text("extends: no_such_recipe\n")
    with pytest.raises(CellsError, match="no recipe 'no_such_recipe'"):
        load_recipe(one)


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


@settings(deadline=None)
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


def test_overrides_change_a_recipe_and_what_a_run_fills_in_does_not():
    for name in recipe_names():
        assert not is_changed(load_recipe(name))
    run = load_recipe(
        "blood_smear_unet_fast", ["training.precision=bf16", "processor.image_mean=[0.1,0.2,0.3]"]
    )
    run["data"]["data_dir"], run["evaluation"]["metric"], run["model"]["config"]["num_labels"] = "d", "x", 10
    assert not is_changed(run)
    for override in (
        "training.epochs=3",
        "data.options.fold=0",
        "model.init_from=m",
        "training.optimizer.lr=1",
    ):
        assert is_changed(load_recipe("blood_smear_unet_fast", [override]))
    assert not is_changed({**load_recipe("quickstart", ["training.epochs=3"]), "name": "of_my_own"})
