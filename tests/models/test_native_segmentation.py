"""Networks of transformers in our training: logits as large as the image, our loss, and plain files when saved."""

import json

import numpy as np
import pytest
import torch
import transformers
from model_tester import randomized
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from hf_cells import models
from hf_cells.errors import CellsError

LABELS = {0: "background", 1: "nucleus", 2: "debris"}
SIZES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SEGFORMER = {**SIZES, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 8}
CONVNEXT = {"model_type": "convnext", **SIZES, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
UPERNET = {"hidden_size": 8, "use_auxiliary_head": False, "backbone_config": CONVNEXT}
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]


def build(kind, **changes):
    torch.manual_seed(0)
    given = {**(SEGFORMER if kind == "segformer" else UPERNET), "id2label": LABELS, **changes}
    given["label2id"] = {name: label for label, name in given["id2label"].items()}
    model_class = models.FAMILIES[kind].model
    return model_class(model_class.config_class(**given))


@pytest.fixture(params=["segformer", "upernet"])
def kind(request):
    return request.param


@pytest.fixture
def rgb():
    return np.random.default_rng(1).integers(0, 256, (75, 60, 3)).astype(np.uint8)


def test_every_weight_learns_by_our_loss_at_the_size_of_the_image(kind):
    model = build(kind, loss_name="dice", class_weights=None).train()
    pixels, labels = torch.randn(2, 3, 64, 96), torch.randint(0, 3, (2, 64, 96))
    labels[:, :9] = 255
    output = model(pixels, labels=labels)
    assert output.logits.shape == (2, 3, 64, 96)
    torch.testing.assert_close(output.loss, models.semantic_loss(output.logits, labels, "dice"))
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    weighted = build(kind, class_weights=[0.0, 2.0, 1.0]).eval()
    output = weighted(pixels, labels=labels)
    expected = models.semantic_loss(output.logits, labels, "cross_entropy+dice", [0.0, 2.0, 1.0])
    torch.testing.assert_close(output.loss, expected)
    loss, logits = weighted(pixels, labels=labels, return_dict=False)[:2]
    assert torch.equal(logits, output.logits) and loss == output.loss


@pytest.mark.parametrize("size", [(1, 1), (33, 90), (64, 17)])
def test_any_resolution(kind, size):
    logits = build(kind).eval()(torch.randn(1, 3, *size)).logits
    assert logits.shape == (1, 3, *size) and logits.isfinite().all()


def test_what_is_saved_is_a_model_of_transformers(kind, rgb, tmp_path):
    """The stock classes take it, prepare 8-bit images alike, and say the same; our pipeline reads it again."""
    model = randomized(build(kind, class_colors={"nucleus": [1, 2, 3]}))
    processor = models.NativeSemanticImageProcessor(image_mean=MEAN, image_std=STD)
    folder = models.save_model_repository(model, processor, tmp_path / "model")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == kind and config["architectures"] == [type(model).__name__]
    assert not {"auto_map", "custom_pipelines"} & set(config) and config["id2label"]["2"] == "debris"
    assert json.loads((folder / "preprocessor_config.json").read_text())["do_resize"] is False

    stock = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    prepare = AutoImageProcessor.from_pretrained(folder)
    assert type(stock) is getattr(transformers, type(model).__name__)
    assert type(prepare).__name__.startswith("SegformerImageProcessor")
    pipe = models.pipeline(folder, device="cpu")
    assert pipe.model.config.class_colors == {"nucleus": [1, 2, 3]}
    assert pipe.image_processor.image_mean == MEAN and pipe.image_processor.image_std == STD
    with_alpha = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], -1)
    for image in (rgb, with_alpha, rgb[..., 0]):
        theirs, ours = prepare(Image.fromarray(image), return_tensors="pt"), pipe.image_processor(image)
        torch.testing.assert_close(theirs["pixel_values"], ours["pixel_values"], atol=1e-5, rtol=0)
    with torch.inference_mode():
        logits = pipe.model(**pipe.image_processor(rgb)).logits
        theirs = stock(**prepare(Image.fromarray(rgb), return_tensors="pt")).logits
    theirs = torch.nn.functional.interpolate(theirs, rgb.shape[:2], mode="bilinear")
    torch.testing.assert_close(theirs, logits, atol=1e-4, rtol=0)
    assert logits.std() > 1e-3  # there was something to compare

    classes = pipe(rgb)["semantic_mask"]
    segments = transformers.pipeline("image-segmentation", model=str(folder), device="cpu")(
        Image.fromarray(rgb)
    )
    assert len(segments) == len(np.unique(classes)) > 1
    for segment in segments:
        wanted = classes == pipe.model.config.label2id[segment["label"]]
        assert np.mean((np.asarray(segment["mask"]) > 0) != wanted) < 1e-3
    again = models.save_model_repository(pipe.model, pipe.image_processor, tmp_path / "again")
    assert {path.name for path in again.iterdir()} == names
    name = "preprocessor_config.json"
    assert (again / name).read_text() == (folder / name).read_text()


def test_16_bits_and_tiles(rgb, tmp_path):
    model, processor = randomized(build("segformer")), models.NativeSemanticImageProcessor()
    folder = models.save_model_repository(model, processor, tmp_path / "model")
    pipe = models.pipeline(folder, device="cpu")
    assert pipe.image_processor.image_mean is None  # do_normalize was saved as false
    eight, sixteen = pipe(rgb), pipe(rgb.astype(np.uint16) * 257)
    np.testing.assert_allclose(eight["probabilities"], sixteen["probabilities"], atol=1e-6)
    tiled = pipe(np.tile(rgb, (2, 2, 1)), tile=96, overlap=32)
    assert tiled["probabilities"].shape == (3, 150, 120)


def test_settings_that_would_not_be_saved_are_refused():
    for given in ({"size": {"height": 9, "width": 9}}, {"scaling": "percentile"}, {"num_channels": 1}):
        with pytest.raises(
            ValueError, match=f"{next(iter(given))}=.* is nothing that a SegformerImageProcessor"
        ):
            models.NativeSemanticImageProcessor(**given)
    assert models.NativeSemanticImageProcessor(scaling="dtype", num_channels=3).image_std is None


def test_models_that_are_not_ours_are_refused_in_one_line(tmp_path):
    build("segformer").save_pretrained(tmp_path / "elsewhere")
    transformers.SegformerImageProcessor().save_pretrained(tmp_path / "elsewhere")
    config = transformers.SegformerConfig(**SEGFORMER)
    transformers.SegformerForImageClassification(config).save_pretrained(tmp_path / "head")
    for name, words in (("elsewhere", "do_resize=True"), ("head", "a SegformerForImageClassification")):
        with pytest.raises(CellsError, match=f"cannot load a model of hf-cells from .*{words}") as caught:
            models.pipeline(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("segformer", {"id2label": {0: "a"}}, "two labels at least"),
        ("segformer", {"class_weights": [1.0]}, "1 class_weights for 3 labels"),
        ("upernet", {"class_groups": {"all": ["cell"]}}, "class_groups holds 'cell'"),
        ("upernet", {"use_auxiliary_head": True}, "the auxiliary head is not trained here"),
    ],
)
def test_wrong_configurations_are_explained(kind, changes, words):
    with pytest.raises(ValueError, match=words):
        build(kind, **changes)


def test_ready_weights_for_the_encoder(tmp_path):
    """From a model with another head, as `nvidia/mit-b0` and `facebook/convnext-tiny-224` are."""
    torch.manual_seed(5)
    folders = {"segformer": tmp_path / "mit", "upernet": tmp_path / "convnext"}
    ready = {
        "segformer": transformers.SegformerForImageClassification(transformers.SegformerConfig(**SEGFORMER)),
        "upernet": transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**SIZES)),
    }
    for kind, folder in folders.items():
        randomized(ready[kind]).save_pretrained(folder)
    for kind, folder in folders.items():
        fresh = build(kind)
        model = type(fresh).from_backbone(fresh.config, folder)
        theirs, ours = ready[kind].base_model.state_dict(), getattr(model, model.encoder).state_dict()
        shared = theirs.keys() & ours.keys()
        assert len(shared) > 0.8 * len(ours)
        assert all(torch.equal(theirs[name], ours[name]) for name in shared)
        for wrong, error in (
            (True, "give a folder or a name on the Hub"),
            (folders["upernet" if kind == "segformer" else "segformer"], "holds no weights of a"),
        ):
            with pytest.raises(ValueError, match=error):
                type(fresh).from_backbone(fresh.config, wrong)
