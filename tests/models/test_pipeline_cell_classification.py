"""Our pipeline and the stock one, on a classifier of textures that was trained for a second."""

import copy
import io

import numpy as np
import pytest
import torch
from patterns import NAMES, draw_pattern
from PIL import Image
from transformers import pipeline as stock_pipeline

import hf_cells
from hf_cells import models
from hf_cells.models import (
    CellClassificationConfig,
    CellClassificationImageProcessor,
    CellClassificationPipeline,
    CellForImageClassification,
    decide,
)

MIXED = [(32, 32)] * 3 + [(20, 44)] * 2 + [(32, 32)] * 2


@pytest.fixture(scope="module")
def classify(classification_folder) -> CellClassificationPipeline:
    return hf_cells.pipeline(classification_folder, device="cpu")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [draw_pattern(k % 3, 100 + k, size) for k, size in enumerate(MIXED)]


def by_label(entries: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


def test_scores_and_decisions_as_promised(classify, images):
    for k, image in enumerate(images):
        entries = classify(image)
        assert [set(entry) for entry in entries] == [{"label", "score", "predicted"}] * 3
        assert sorted(entry["label"] for entry in entries) == sorted(NAMES.values())
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert [entry["predicted"] for entry in entries] == [True, False, False]
        assert entries[0]["label"] == NAMES[k % 3]  # it has learned them


def test_scores_are_the_softmax_of_the_calibrated_logits(classify, images, classification_model):
    """The temperature is in the weights: nothing divides by it again."""
    assert classify.model.config.calibration_temperature == pytest.approx(1.7)
    with torch.inference_mode():
        logits = classification_model(classify.image_processor(images[0])["pixel_values"]).logits
    expected = logits.softmax(1)[0]
    scores = by_label(classify(images[0]))
    for k, name in NAMES.items():
        assert scores[name] == pytest.approx(expected[k].item(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_probabilities_in_the_order_of_images_and_labels(classify, images, batch_size):
    found = classify.probabilities(iter(images), batch_size=batch_size)
    assert found.shape == (len(images), 3) and found.dtype == np.float32
    for row, image in zip(found, images):
        scores = by_label(classify(image))
        np.testing.assert_allclose(row, [scores[NAMES[k]] for k in range(3)], atol=1e-5)
    assert classify.probabilities([]).shape == (0, 3)


def test_lists_tuples_generators_and_batches_keep_the_order(classify, images):
    alone = [by_label(classify(image)) for image in images]
    for results in (
        classify(images, batch_size=3),
        classify(tuple(images)),
        list(classify((image for image in images), batch_size=2)),
    ):
        assert len(results) == len(images)
        for entries, expected in zip(results, alone):
            assert by_label(entries) == pytest.approx(expected, abs=1e-5)
    assert classify([]) == [] == classify(())


def test_images_of_several_sizes_are_not_padded(classification_model):
    """Without a size in the processor, a small image beside a large one scores as it does alone."""
    pipe = CellClassificationPipeline(
        classification_model, image_processor=CellClassificationImageProcessor(num_channels=1), device="cpu"
    )
    shapes = []
    hook = classification_model.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    images = [draw_pattern(1, k, size) for k, size in enumerate(MIXED)]
    together = pipe.probabilities(images)
    hook.remove()
    assert [tuple(shape[-2:]) for shape in shapes] == [(32, 32), (20, 44), (32, 32)]
    np.testing.assert_allclose(
        together, np.concatenate([pipe.probabilities([image]) for image in images]), atol=1e-5
    )


def test_thresholds_of_the_model_and_of_the_call(classify, images):
    probabilities = classify.probabilities(images)
    rare = {"flat": 0.9, "stripes": 0.9, "dots": 1e-9}
    assert (decide(probabilities, rare, NAMES, False) == 2).all()
    for entries in classify(images, decision_thresholds=rare):
        assert [entry["label"] for entry in entries if entry["predicted"]] == ["dots"]
    model = copy.deepcopy(classify.model)
    model.config.decision_thresholds = rare
    own = CellClassificationPipeline(model, image_processor=classify.image_processor, device="cpu")
    assert own(images[0]) == classify(images[0], decision_thresholds=rare)
    assert own(images[0], decision_thresholds={}) == classify(images[0])  # none, though the model has some


def test_the_best_entries(classify, images):
    assert classify(images[0], top_k=1) == classify(images[0])[:1]
    pipe = CellClassificationPipeline(
        classify.model, image_processor=classify.image_processor, device="cpu", top_k=2
    )
    assert [len(entries) for entries in pipe(images)] == [2] * len(images)


def test_several_labels():
    torch.manual_seed(0)
    config = CellClassificationConfig(
        hidden_sizes=(8,), id2label=NAMES, problem_type="multi_label_classification", num_channels=1
    )
    model = CellForImageClassification(config).eval()
    with torch.no_grad():
        model.head.classifier.weight.zero_()
        model.head.classifier.bias.copy_(torch.tensor([2.0, -1.0, 0.5]))
    processor = CellClassificationImageProcessor(num_channels=1)
    pipe = CellClassificationPipeline(model, image_processor=processor, device="cpu")
    entries = pipe(draw_pattern(0, 0))
    assert [(entry["label"], entry["predicted"]) for entry in entries] == [
        ("flat", True),
        ("dots", True),
        ("stripes", False),
    ]
    expected = torch.tensor([2.0, 0.5, -1.0]).sigmoid().tolist()
    assert [entry["score"] for entry in entries] == pytest.approx(expected)
    strict = pipe(draw_pattern(0, 0), decision_thresholds={"dots": 0.7, "stripes": 0.2})
    assert [entry["predicted"] for entry in strict] == [True, False, True]


def test_all_kinds_of_input_agree(classify, images, tmp_path):
    image = images[1]
    path = tmp_path / "cell.png"
    Image.fromarray(image).save(path)
    expected = classify(image)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path)):
        assert classify(source) == expected
    assert classify(torch.from_numpy(image.astype(np.int32))) == expected


def test_sixteen_bits_are_kept(classify):
    """Stripes of 50 levels of 65,535: nothing of them is left in 8 bits."""
    rows = np.arange(32) // 3 % 2
    image = (20_480 + 50 * rows[:, None] + np.zeros(32, int)).astype(np.uint16)
    assert by_label(classify(image)) == pytest.approx(
        by_label(classify((image - 20_480).astype(np.uint16))), abs=1e-4
    )
    cut = (image >> 8).astype(np.uint8)
    assert np.ptp(cut) == 0
    assert by_label(classify(image)) != pytest.approx(by_label(classify(cut)), abs=1e-2)


def test_precision_reaches_every_way_of_asking(classify, images, monkeypatch):
    exact, fast = classify(images[0]), classify(images[0], precision="bf16")
    assert [entry["label"] for entry in exact] == [entry["label"] for entry in fast]
    assert by_label(fast) == pytest.approx(by_label(exact), abs=0.05)
    pipe = CellClassificationPipeline(
        classify.model, image_processor=classify.image_processor, device="cpu", precision="bf16"
    )
    seen = []
    hook = classify.model.head.classifier.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    pipe(images[0])
    pipe.probabilities(images[:1])
    classify.probabilities(images[:1])
    hook.remove()
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_a_training_loop_may_lend_its_model(classification_model, classification_processor, images):
    model = copy.deepcopy(classification_model)
    pipe = CellClassificationPipeline(model, image_processor=classification_processor, device="cpu")
    expected = pipe(images[0])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert pipe(images[0]) == expected
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_stock_pipeline_gives_the_same_calibrated_scores(channels, mode, tmp_path, monkeypatch):
    """It makes 8-bit colour of everything, so 8-bit grey and colour images are where it may agree."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    torch.manual_seed(1)
    config = CellClassificationConfig(hidden_sizes=(8, 8), id2label=NAMES, num_channels=channels)
    model = CellForImageClassification(config).eval()
    processor = CellClassificationImageProcessor(
        num_channels=channels, square="white", size={"height": 24, "width": 24}
    )
    model.fold_temperature(0.05)
    folder = models.save_model_repository(model, processor, tmp_path / f"stock-{channels}")
    stock = stock_pipeline("image-classification", model=str(folder), device="cpu")
    assert type(stock.model) is CellForImageClassification
    ours = hf_cells.pipeline(folder, device="cpu")
    rng = np.random.default_rng(0)
    for size in ((24, 24), (31, 17)):
        shape = size if mode == "L" else (*size, 3)
        image = Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8))
        assert image.mode == mode
        expected = by_label(ours(image))
        assert by_label(stock(image)) == pytest.approx(expected, abs=1e-5)
        assert np.ptp(list(expected.values())) > 0.01


def test_the_stock_pipeline_knows_several_labels(tmp_path):
    torch.manual_seed(0)
    config = CellClassificationConfig(
        hidden_sizes=(8,), id2label={0: "mitotic"}, problem_type="multi_label_classification"
    )
    folder = models.save_model_repository(
        CellForImageClassification(config), CellClassificationImageProcessor(), tmp_path / "one"
    )
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8))
    ours = by_label(hf_cells.pipeline(folder, device="cpu")(image))
    stock = by_label(stock_pipeline("image-classification", model=str(folder), device="cpu")(image))
    assert stock == pytest.approx(ours, abs=1e-5)
    assert 0 < ours["mitotic"] < 1


def test_registered_task(classify, classification_folder, images):
    by_name = stock_pipeline(
        "cell-classification", model=str(classification_folder), device="cpu", trust_remote_code=True, top_k=2
    )
    assert by_name(images[0]) == classify(images[0])[:2]


def test_wrong_use_is_explained(classify, classification_model, classification_folder, tmp_path):
    with pytest.raises(TypeError, match="unknown option tile; the pipeline knows precision"):
        classify(np.zeros((8, 8)), tile=3)
    with pytest.raises(ValueError, match="precision='fp8' is unknown"):
        hf_cells.pipeline(classification_folder, precision="fp8")
    with pytest.raises(ValueError, match="needs the model's image processor"):
        CellClassificationPipeline(classification_model, device="cpu")
    with pytest.raises(ValueError, match="decision_thresholds names 'spots'; the labels are flat"):
        classify(np.zeros((8, 8)), decision_thresholds={"spots": 0.5})
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        classify(tmp_path / "none.png")
    with pytest.raises(ValueError, match="the image has 5 channels, the model takes 1"):
        classify(np.zeros((8, 8, 5), np.uint8))
