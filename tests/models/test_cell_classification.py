"""The classifier: networks from a few lists, ready backbones, heads, freezing, calibration."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tester import ModelTester, randomized
from torch import nn
from transformers import AutoModelForImageClassification

from hf_cells.models import CellClassificationConfig, CellForImageClassification

THREE = {0: "a", 1: "b", 2: "c"}
TINY_TIMM = {"backbone": "test_resnet", "pooling": None}
TINY_VIT = {"backbone": "test_vit", "pooling": None, "backbone_kwargs": {"img_size": 32}}
FLAT = {"hidden_sizes": (), "pooling": "flatten", "image_size": 32}


class ClassificationTester(ModelTester):
    config_class = CellClassificationConfig
    model_class = CellForImageClassification
    auto_classes = (AutoModelForImageClassification,)
    code = "cell_cnn.py"
    side = 32
    reloaded: list[dict[str, Any]] = [
        FLAT,
        {**FLAT, "head_hidden_sizes": (8, 4), "head_dropout": [0.1, 0.2, 0.0]},
        {"residual": True, "depths": [1, 2], "squeeze_ratio": 4, "drop_path": 0.3, "hidden_act": "mish"},
        {"head_type": "svm", "norm": "group", "stem_stride": 2, "class_weights": [1.0, 2.0, 3.0]},
        {"decision_thresholds": {"b": 0.25}, "thresholds_chosen_on": "validation"},
        TINY_TIMM,
        TINY_VIT,
    ]

    def logits_shape(self, model, batch, height, width):
        return batch, 3


class TestSingleLabel(ClassificationTester):
    tiny = {"hidden_sizes": (8, 16), "num_channels": 3, "id2label": THREE}
    variants = [
        {},
        FLAT,
        {**FLAT, "head_hidden_sizes": (8,)},
        {"pooling": "max"},
        {"pooling": "flatten", "image_size": 32, "downsample": [3, 1]},
        *({"norm": norm} for norm in ("group", "none")),
        *({"hidden_act": act, "residual": True} for act in ("mish", "leaky_relu", "gelu")),
        *({"downsample_type": kind, "downsample": [2, 2]} for kind in ("avg", "conv")),
        {"residual": True, "depths": [1, 2], "downsample_type": "conv", "squeeze_ratio": 4},
        {"kernel_size": [5, 1], "dropout": 0.2, "stem_stride": 2},
        *({"num_channels": channels} for channels in (1, 2, 4)),
        *({"head_type": kind} for kind in ("mlp", "svm")),
        {"head_hidden_sizes": [8, 8], "head_dropout": 0.3},
        *({"loss_name": name} for name in ("bce", "focal", "smooth_l1", "hinge")),
        {"class_weights": [1.0, 2.0, 3.0], "label_smoothing": 0.1},
        TINY_TIMM,
        {**TINY_TIMM, "pooling": "max", "num_channels": 1, "head_hidden_sizes": [8]},
        TINY_VIT,
        {**TINY_VIT, "pooling": "avg"},
    ]

    def labels(self, batch, height, width):
        return {"labels": torch.arange(batch) % 3}


class TestMultiLabel(ClassificationTester):
    tiny = {
        "hidden_sizes": (8, 16),
        "num_channels": 3,
        "id2label": THREE,
        "problem_type": "multi_label_classification",
    }
    variants = [
        *({"loss_name": name} for name in (None, "focal", "smooth_l1", "hinge")),
        {"head_type": "svm", "class_weights": [1.0, 2.0, 3.0]},
    ]

    def labels(self, batch, height, width):
        return {"labels": torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).repeat(batch // 2, 1)}

    def test_every_label_is_a_question_of_its_own(self):
        model = self.build().eval()
        assert model.config.loss_name == "bce"
        logits = torch.tensor([[0.0, 2.0, -1.0]])
        torch.testing.assert_close(model.probabilities(logits), logits.sigmoid())
        assert model.decide(logits).tolist() == [[True, True, False]]
        model.config.decision_thresholds = {"a": 0.6, "c": 0.2}
        assert model.decide(logits).tolist() == [[False, True, True]]


def build(**changes: Any) -> CellForImageClassification:
    torch.manual_seed(0)
    return CellForImageClassification(
        CellClassificationConfig(**{"hidden_sizes": (8, 8), "id2label": THREE, **changes})
    )


def test_alexnet_has_the_head_of_the_source():
    """Dropout, 9216-4096, ReLU, dropout, 4096-4096, ReLU, dropout, 4096-1000, ReLU, 1000-6."""
    with torch.device("meta"):
        model = CellForImageClassification(
            CellClassificationConfig(
                backbone="alexnet",
                head_hidden_sizes=[4096, 4096, 1000],
                head_dropout=[0.5, 0.5, 0.5, 0.0],
                id2label=dict(enumerate("abcdef")),
            )
        )
        logits = model(torch.zeros(2, 3, 300, 300)).logits
    assert logits.shape == (2, 6)
    kinds = [type(layer).__name__ for layer in model.head.hidden]
    assert kinds == ["Dropout", "Linear", "ReLU"] * 3
    linear = [layer for layer in model.head.hidden if isinstance(layer, nn.Linear)] + [model.head.classifier]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (9216, 4096),
        (4096, 4096),
        (4096, 1000),
        (1000, 6),
    ]
    assert [layer.p for layer in model.head.hidden if isinstance(layer, nn.Dropout)] == [0.5] * 3
    assert model.head.dropout.p == 0
    convolutions = [layer for layer in model.backbone.features if isinstance(layer, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in convolutions] == [
        (64, 3, 11, 11),
        (192, 64, 5, 5),
        (384, 192, 3, 3),
        (256, 384, 3, 3),
        (256, 256, 3, 3),
    ]
    with torch.device("meta"):
        grey = CellForImageClassification(CellClassificationConfig(backbone="alexnet", num_channels=1))
    assert grey.backbone.features[0].weight.shape == (64, 1, 11, 11)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_flattened_features_have_the_size_that_the_head_expects(data):
    stages = data.draw(st.integers(0, 3))
    changes = {
        "hidden_sizes": [4] * stages,
        "downsample": data.draw(st.lists(st.integers(1, 3), min_size=stages, max_size=stages)),
        "downsample_type": data.draw(st.sampled_from(["max", "avg", "conv"])),
        "stem_stride": data.draw(st.integers(1, 3)),
        "kernel_size": data.draw(st.sampled_from([1, 3, 5])),
        "depths": data.draw(st.integers(1, 2)),
        "residual": data.draw(st.booleans()),
        "image_size": data.draw(st.tuples(st.integers(1, 23), st.integers(1, 23))),
    }
    model = build(pooling="flatten", norm="none", **changes).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, *changes["image_size"])).logits.shape == (2, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (64, 64)], ids=str)
@pytest.mark.parametrize("kind", ["max", "avg", "conv"])
def test_pooled_networks_take_any_size(size, kind):
    model = build(hidden_sizes=(8, 8, 8), downsample_type=kind, residual=True, stem_stride=2).eval()
    logits = model(torch.randn(2, 3, *size)).logits
    assert torch.isfinite(logits).all()


def test_depths_kernels_and_pools_are_those_of_the_configuration():
    model = build(hidden_sizes=[4, 8, 16], depths=[1, 2, 1], kernel_size=[7, 5, 3], downsample=[2, 4, 1])
    kernels = [[block[0].kernel_size[0] for block in stage] for stage in model.backbone.stages]
    assert kernels == [[7], [5, 5], [3]]
    assert model.backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 8, 8)
    assert build(hidden_sizes=[4, 8, 16]).backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 16, 16)
    assert build(hidden_sizes=[4, 8, 16], pooling="max", stem_stride=2).backbone(
        torch.zeros(1, 3, 63, 64)
    ).shape == (1, 16, 8, 8)


def test_drop_path_rises_to_the_last_block_and_is_off_in_evaluation():
    model = build(residual=True, depths=[1, 2], drop_path=0.4)
    blocks = [block for stage in model.backbone.stages for block in stage]
    assert [block.drop for block in blocks] == pytest.approx([0, 0.2, 0.4])
    block, x = blocks[-1], torch.randn(400, 8, 4, 4)
    block.train()
    for norm in (block.norm1, block.norm2):
        norm.eval()
    with torch.no_grad():
        branch = block.norm2(block.conv2(block.act(block.norm1(block.conv1(x)))))
        seen = block(x)
        dropped = (seen - block.act(x)).abs().amax((1, 2, 3)) == 0
        kept = block.act(branch / 0.6 + x)[~dropped]
        torch.testing.assert_close(seen[~dropped], kept)
        assert dropped.float().mean().item() == pytest.approx(0.4, abs=0.1)
        block.eval()
        torch.testing.assert_close(block(x), block.act(branch + x))


def test_svm_scores_do_not_depend_on_the_scale_of_the_features():
    """Standardised features: a backbone 100 times louder gives the same margins."""
    model = build(head_type="svm", norm="none", **FLAT).train()
    assert model.config.loss_name == "hinge"
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(model(x).logits, model(100 * x).logits, atol=1e-3, rtol=1e-3)
    assert not list(model.head.standardise.parameters())


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 1.618, 20.0])
def test_folding_a_temperature_divides_the_logits(temperature):
    model = randomized(build(head_hidden_sizes=[8]))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        before = model(x).logits
        model.fold_temperature(temperature)
        torch.testing.assert_close(model(x).logits, before / temperature, atol=0, rtol=1e-5)
    assert model.config.calibration_temperature == pytest.approx(temperature)
    model.fold_temperature(2.0)
    assert model.config.calibration_temperature == pytest.approx(2 * temperature)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            model.fold_temperature(wrong)


@pytest.mark.parametrize("views", [4, 8])
def test_views_make_the_logits_blind_to_how_the_image_lies(views):
    single, model = (randomized(build(test_time_views=count)) for count in (1, views))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ways = [x, x.flip(-1), x.flip(-2), torch.rot90(x, 2, (-2, -1))]
        if views == 8:
            ways += [torch.rot90(way, 1, (-2, -1)) for way in ways]
        by_hand = torch.stack([single(way).logits for way in ways]).mean(0)
        torch.testing.assert_close(model(x).logits, by_hand, atol=1e-4, rtol=1e-5)
        turned = torch.rot90(x, 2 if views == 4 else 1, (-2, -1))
        torch.testing.assert_close(model(turned).logits, by_hand, atol=1e-4, rtol=1e-5)
        assert not torch.allclose(single(turned).logits, single(x).logits, atol=1e-3)


def test_training_sees_one_view():
    model = build(test_time_views=8, norm="group").train()
    seen = []
    model.backbone.register_forward_hook(lambda *_: seen.append(1))
    model(torch.randn(2, 3, 16, 16))
    assert len(seen) == 1
    model.eval()(torch.randn(2, 3, 16, 16))
    assert len(seen) == 9


def test_decisions_of_the_model():
    model = build()
    logits = torch.tensor([[0.2, 0.3, 0.5], [0.45, 0.35, 0.2]]).log()
    assert model.decide(logits).tolist() == [2, 0]
    model.config.decision_thresholds = {"b": 0.3, "c": 0.6}
    assert model.decide(logits).tolist() == [1, 1]
    assert model.decide(logits).dtype == torch.int64


def test_the_layers_are_the_parts_with_weights():
    assert [type(layer).__name__ for layer in build(dropout=0.2).layers()] == ["Sequential", "Sequential"]
    names = [type(layer).__name__ for layer in build(**TINY_TIMM).layers()]
    stem = ["Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d"]
    assert names[:6] == stem and set(names[6:]) == {"BasicBlock", "Bottleneck"}
    vit = [type(layer).__name__ for layer in build(**TINY_VIT).layers()]
    assert vit[0] == "PatchEmbed" and vit[1] == "Block"
    assert build(**FLAT).layers() == []


@pytest.mark.parametrize("changes", [{"residual": True}, TINY_TIMM, TINY_VIT], ids=str)
@pytest.mark.parametrize("count", [None, 1, 2])
def test_frozen_layers_stay(changes, count):
    """Weights and running statistics, through training steps; the rest moves."""
    model = build(**changes)
    model.freeze(count)
    frozen = {
        f"{id(tensor)}"
        for layer in (model.layers() if count is None else model.layers()[:count])
        for tensor in layer.state_dict(keep_vars=True).values()
    }
    state = model.state_dict(keep_vars=True)
    before = {name: tensor.detach().clone() for name, tensor in state.items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(2):
        model.train()
        model(torch.randn(4, 3, 32, 32), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.eval()
    assert frozen
    for name, tensor in state.items():
        still = f"{id(tensor)}" in frozen or (count is None and name.startswith("backbone."))
        if still:
            assert torch.equal(tensor, before[name]), name
        elif tensor.requires_grad:
            assert not torch.equal(tensor, before[name]), name


def test_freezing_fewer_layers_or_none():
    model = build()
    model.freeze(0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.train().modules())


def test_frozen_norms_stay_frozen_where_they_are_converted():
    """Several GPUs: SyncBatchNorm takes the places of the norms."""
    model = build(**TINY_TIMM)
    model.freeze(2)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
    norms = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) > 3
    assert not norms[0].training and all(norm.training for norm in norms[1:])


def test_initialisation_of_plain_networks():
    """He et al. 2015: a standard deviation of sqrt(2 / fan), biases at zero."""
    model = build(hidden_sizes=[64, 128], norm="none", head_hidden_sizes=[256])
    for layer, fan in (
        (model.backbone.stages[0][0][0], 9 * 64),
        (model.backbone.stages[1][0][0], 9 * 128),
        (model.head.hidden[1], 128),
    ):
        assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.06)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "layer"}, "norm='layer' is unknown; choose one of batch, group, none"),
        ({"pooling": "mean"}, "pooling='mean' is unknown"),
        ({"head_type": "tree"}, "head_type='tree'"),
        ({"loss_name": "dice"}, "loss_name='dice'"),
        ({"downsample_type": "nearest"}, "downsample_type='nearest'"),
        ({"problem_type": "regression"}, "problem_type='regression'"),
        ({"hidden_act": "sparkle"}, "hidden_act='sparkle' is unknown; relu"),
        ({"id2label": {0: "one"}}, "two labels at least"),
        ({"pooling": "flatten"}, "needs image_size"),
        ({"class_weights": [1.0]}, "class_weights has 1 entries for 3 labels"),
        ({"decision_thresholds": {"d": 0.5}}, "decision_thresholds names 'd'"),
        ({"depths": [1, 2, 3]}, "depths has 3 entries for 2 stages"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"test_time_views": 3}, "test_time_views=3: give 1, 4"),
        ({"head_dropout": [0.1, 0.2]}, "head_dropout has 2 entries for 1 dense layers"),
        (
            {"problem_type": "multi_label_classification", "loss_name": "cross_entropy"},
            "cross_entropy is for one label",
        ),
        ({"backbone": "resnet99"}, "backbone='resnet99': Unknown model"),
    ],
)
def test_wrong_configurations_are_explained(changes, words):
    with pytest.raises(ValueError, match=words):
        build(**changes)


def test_one_label_is_a_question_where_several_are_allowed():
    model = build(id2label={0: "mitotic"}, problem_type="multi_label_classification")
    assert model(torch.zeros(2, 3, 8, 8), labels=torch.ones(2, 1)).logits.shape == (2, 1)
