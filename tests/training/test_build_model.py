"""From a recipe to a model: what the data decides, what a saved model brings, and slips of the pen."""

import numpy as np
import pytest
import torch
from built_recipes import build, training_of

from hf_cells.errors import CellsError
from hf_cells.models import CellClassificationConfig, CellForImageClassification
from hf_cells.training.recipe import load_recipe


@pytest.mark.parametrize(
    "override, message",
    [
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
        build(load_recipe("quickstart", [override]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["model.config.backbone=resnet99"], "model or processor of the recipe: .*Unknown model"),
        (["model.config.hidden_act=relux"], "hidden_act='relux' is unknown"),
        (["model.config.head=svm"], "model.config.head is unknown; choose from: head_type"),
        (["processor.squared=white"], "processor.squared is unknown; choose from: square"),
        (["processor.square=black"], "square='black' is unknown"),
        (["training.class_weights=[1, 2]"], "class_weights has 2 entries for 3 labels"),
        (["training.class_weights=rare"], "training.class_weights='rare': give balanced, a list"),
        (["training.freeze=head"], "training.freeze='head': give backbone, or how many"),
        (["training.freeze=9"], "training.freeze=9: the backbone has 4 layers"),
        (["model.pretrained_backbone=/no/such/file"], "ready weights are for a timm model"),
    ],
)
def test_wrong_classifiers(overrides, message):
    with pytest.raises(CellsError, match=message) as caught:
        build(load_recipe("cells_classification", overrides))
    assert "\n" not in str(caught.value)


def save_classifier(folder, names, **settings_of):
    torch.manual_seed(0)
    config = CellClassificationConfig(hidden_sizes=[4, 8], id2label=dict(enumerate(names)), **settings_of)
    model = CellForImageClassification(config)
    model.fold_temperature(2.0)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("names", ["abc", "xyz", "pqrst"])
def test_a_saved_classifier_goes_on_with_the_classes_of_its_new_data(names, tmp_path):
    """Else a model of as many classes would keep the names of the old ones; so would its thresholds."""
    old = save_classifier(
        tmp_path, names, decision_thresholds={names[0]: 0.2}, class_weights=[2.0] * len(names)
    )
    overrides = [
        f"model.init_from={tmp_path}",
        "model.config.loss_name=focal",
        "training.class_weights=balanced",
    ]
    model, _, _ = build(load_recipe("cells_classification", overrides))
    config = model.config
    assert config.id2label == {0: "a", 1: "b", 2: "c"} and config.label2id == {"a": 0, "b": 1, "c": 2}
    assert config.num_labels == model.head.classifier.out_features == 3
    assert config.class_weights == [1, 1, 1] and config.loss_name == "focal"
    assert config.decision_thresholds is None and config.calibration_temperature == 1
    assert config.hidden_sizes == [4, 8] and not config.residual  # the network is the saved one
    for name, value in old.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    kept = torch.equal(model.head.classifier.weight[:3], old.head.classifier.weight[:3])
    assert kept == (len(names) == 3)
    assert 0.05 < model.head.classifier.weight.std() < 2  # a new one is a drawn one
    assert model(torch.zeros(1, 3, 16, 16), labels=torch.tensor([2])).loss.isfinite()


def test_a_flattened_network_takes_its_size_from_the_processor():
    overrides = ["processor.size={height: 24, width: 20}"]
    model, processor, _ = build(load_recipe("glomeruli_baseline_01", overrides))
    assert list(model.config.image_size) == [24, 20]
    assert model(processor(np.zeros((9, 7, 3), np.uint8))["pixel_values"]).logits.shape == (1, 2)
    cropped = [*overrides, "processor.crop_size={height: 12, width: 10}"]
    model, processor, _ = build(load_recipe("glomeruli_baseline_01", cropped))
    assert model(processor(np.zeros((9, 7, 3), np.uint8))["pixel_values"]).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="the head takes 360 features and gets 1440: with pooling='flatten'"):
        model(torch.zeros(1, 3, 24, 20))


def test_what_only_classifiers_have():
    with pytest.raises(CellsError, match="training.freeze needs a classifier"):
        build(load_recipe("quickstart", ["training.freeze=2"]))
    recipe = load_recipe("quickstart", ["training.layer_decay=0.5"])
    with pytest.raises(CellsError, match="training.layer_decay needs a classifier"):
        training_of(recipe, build(recipe)[0])


def test_labels_of_a_recipe():
    model, _, _ = build(load_recipe("dsb2018_unet", ["model.config.id2label={0: ground, 1: cell, 2: wall}"]))
    assert model.config.id2label == {0: "ground", 1: "cell", 2: "wall"}
    assert model.config.label2id == {"ground": 0, "cell": 1, "wall": 2}
    assert model.config.num_labels == 3
