"""What a recipe leaves to the training split: mean and std, frequencies of classes, classes and colours."""

import io

import numpy as np
import pytest
import torch
from built_recipes import build
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.models import CellSemanticImageProcessor
from hf_cells.training.recipe import load_recipe, save_recipe
from hf_cells.training.statistics import frequency_weights, resolve_normalisation


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (9 + i % 3, 8, 3)).astype(np.uint8) for i in range(count)]


TRAIN = {"image_mean": "train", "image_std": "train"}


def test_mean_and_std_are_those_of_all_pixels_after_scaling():
    pictures = images(5)
    settings = resolve_normalisation(
        CellSemanticImageProcessor, {"scaling": "dtype", **TRAIN}, [{"image": png(i)} for i in pictures], 0
    )
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    assert settings["scaling"] == "dtype"
    np.testing.assert_allclose(settings["image_mean"], pixels.mean(0), rtol=1e-4)
    np.testing.assert_allclose(settings["image_std"], pixels.std(0), rtol=1e-4)


def test_with_them_the_training_pixels_have_mean_0_and_std_1():
    pictures = images(4)
    rows = [{"image": png(picture)} for picture in pictures]
    settings = resolve_normalisation(CellSemanticImageProcessor, TRAIN, rows, 0)
    processor = CellSemanticImageProcessor(**settings)
    seen = torch.cat([processor(p)["pixel_values"][0].flatten(1) for p in pictures], 1)
    torch.testing.assert_close(seen.mean(1), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.std(1), torch.ones(3), atol=1e-2, rtol=0)


def test_numbers_stay_and_a_large_split_is_drawn_by_the_seed(monkeypatch):
    given = {"image_mean": [0.5], "image_std": [0.2]}
    assert resolve_normalisation(CellSemanticImageProcessor, given, [], 0) is given
    monkeypatch.setattr("hf_cells.training.statistics._MOST_IMAGES", 3)
    rows = [{"image": png(picture)} for picture in images(12)]
    one, again, other = (resolve_normalisation(CellSemanticImageProcessor, TRAIN, rows, s) for s in (1, 1, 2))
    assert one == again != other


def test_a_black_set_has_a_std_that_can_divide():
    rows = [{"image": png(np.zeros((8, 8, 3), np.uint8))}]
    settings = resolve_normalisation(CellSemanticImageProcessor, {"scaling": "dtype", **TRAIN}, rows, 0)
    assert settings["image_mean"] == [0, 0, 0] and min(settings["image_std"]) > 0


@pytest.mark.parametrize(
    "wrong", [{"image_mean": "train"}, {"image_mean": "imagenet", "image_std": "imagenet"}]
)
def test_half_a_wish_is_refused(wrong):
    with pytest.raises(CellsError, match="give `train` for both, or numbers"):
        resolve_normalisation(CellSemanticImageProcessor, wrong, [], 0)


def mask_rows():
    mask = np.zeros((10, 10), np.uint8)
    mask[:2] = 1  # 20 of 100 pixels; class 2 has 5
    mask[9, :5] = 2
    return [{"semantic_mask": png(mask)}, {"semantic_mask": png(mask)}]


def test_weights_make_classes_count_alike():
    weights = frequency_weights(mask_rows(), 3, 0)
    pixels = np.array([150, 40, 10])
    np.testing.assert_allclose(weights * pixels, (weights * pixels)[0].repeat(3), rtol=1e-3)
    assert np.average(weights, weights=pixels) == pytest.approx(1, rel=1e-3)
    roots = frequency_weights(mask_rows(), 3, 0, power=0.5)
    assert roots[2] / roots[0] == pytest.approx((weights[2] / weights[0]) ** 0.5, rel=1e-3)


def test_an_absent_class_weighs_as_the_rarest_and_a_foreign_one_is_refused():
    weights = frequency_weights(mask_rows(), 4, 0)
    assert weights[3] == weights[2] > weights[1]
    with pytest.raises(CellsError, match=r"hold class 2, and the model has 2 classes"):
        frequency_weights(mask_rows(), 2, 0)


def test_the_source_setting_of_the_blood_smears(tmp_path):
    recipe = load_recipe("blood_smear_unet")
    model, processor, _ = build(recipe)
    config, training = model.config, recipe["training"]
    assert list(config.hidden_sizes) == [32, 64, 128, 256, 512] and config.stem_stride == 1
    slopes = {m.negative_slope for m in model.modules() if isinstance(m, torch.nn.LeakyReLU)}
    assert slopes == {0.1}
    assert config.num_labels == 10 and config.id2label[9] == "healthy_rbc"
    assert config.class_colors["neutrophil"] == [0xFB, 0xBE, 0xBE]
    assert len(config.class_groups["white_cell"]) == 5
    assert len(set(config.class_weights)) == 1  # the masks here have as much of every class
    assert (training["epochs"], training["batch_size"]) == (35, 50)
    assert len(processor.image_mean) == 3 and processor.image_mean == recipe["processor"]["image_mean"]
    save_recipe(recipe, tmp_path / "recipe.yaml")  # what a resumed run reads: nothing is measured again
    assert load_recipe(tmp_path / "recipe.yaml")["processor"] == recipe["processor"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.class_weights=balanced",
            "give frequency or root_frequency, a list of numbers, or nothing",
        ),
        ("training.class_weights=[1, 2]", r"2 class_weights for 3 labels"),
        ("evaluation.merge_classes={cell: [nucleus, wall]}", "class_groups holds 'wall'"),
        ("evaluation.merge_classes={a: [nucleus], b: [nucleus]}", "a label may be in one group only"),
        ("evaluation.merge_classes={background: [nucleus]}", "no group has a lone label's name"),
        ("model.config.class_colors={nucleus: [0, 0, 256]}", "give red, green and blue from 0 to 255"),
    ],
)
def test_wrong_wishes_are_told(override, message):
    with pytest.raises(CellsError, match=message):
        build(load_recipe("wbc_nucleus", [override]))


def test_objects_have_no_classes_to_weigh():
    with pytest.raises(CellsError, match="for models of several classes"):
        build(load_recipe("quickstart", ["training.class_weights=frequency"]))
