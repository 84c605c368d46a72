"""Validation of classifiers scores every image once, as prediction would, whatever the number of processes."""

import io
import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from training_runs import pair

from hf_cells.models import (
    CellClassificationConfig,
    CellClassificationImageProcessor,
    CellForImageClassification,
    classification_loss,
)
from hf_cells.training.classification import ClassificationTask
from hf_cells.training.validation import validate


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def make_rows(count, label="label", sizes=((16, 16),)):
    rows = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 80 + 60 * (number % 3), sizes[number % len(sizes)])
        truth = number % 3 if label == "label" else [k for k in range(3) if (number >> k) & 1]
        rows.append({"image": png(pixels.astype(np.uint8)), label: truth})
    return rows


def make_model(**changes) -> CellForImageClassification:
    torch.manual_seed(0)
    config = {"num_channels": 1, "hidden_sizes": [8, 8], "id2label": {0: "a", 1: "b", 2: "c"}, **changes}
    return CellForImageClassification(CellClassificationConfig(**config))


PROCESSOR = CellClassificationImageProcessor(
    num_channels=1, scaling="dtype", image_mean=[0.3], image_std=[0.2]
)


def test_accuracy_of_a_batch():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    right = ClassificationTask().accuracy(logits, {"labels": torch.tensor([0, 2, 1, 2])})
    assert right.item() == 0.75
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.0, 0.4], [0.1, 0.5, 0.4], [0.9, 0.1, 0.0]])
    assert ClassificationTask().accuracy(logits, {"labels": soft}).item() == 0.75  # the main label


@pytest.mark.parametrize("several", [False, True])
def test_scores_are_those_of_prediction_and_the_loss_is_the_mean_over_images(several):
    """Also of images of several sizes, which the pipeline never pads."""
    kind = {"problem_type": "multi_label_classification"} if several else {"loss_name": "focal"}
    model = make_model(class_weights=[1.0, 2.0, 3.0], **kind).train()
    rows = make_rows(70, "labels" if several else "label", sizes=((16, 16), (16, 16), (12, 20)))
    scores = validate(ClassificationTask(), model, PROCESSOR, rows, Accelerator(cpu=True))
    assert model.training
    model.eval()
    truths = torch.zeros(70, 3)
    for number, row in enumerate(rows):
        truths[number, row["labels"] if several else row["label"]] = 1
    with torch.no_grad():
        logits = torch.cat([model(PROCESSOR(row["image"])["pixel_values"]).logits for row in rows])
    name = "bce" if several else "focal"
    assert scores["loss"] == pytest.approx(
        classification_loss(logits, truths, name, multi_label=several).item(), rel=1e-4
    )
    probabilities = model.probabilities(logits).numpy()
    if several:
        right = ((probabilities >= 0.5) == (truths > 0).numpy()).all(1)
        assert scores["exact_match"] == pytest.approx(right.mean())
    else:
        right = probabilities.argmax(1) == truths.argmax(1).numpy()
        assert scores["accuracy"] == pytest.approx(right.mean())
        recalls = [right[truths[:, k].numpy() > 0].mean() for k in range(3)]
        assert scores["mean_class_accuracy"] == pytest.approx(np.mean(recalls))
    assert set(scores) <= set(ClassificationTask().metric_names())
    assert all(isinstance(value, float) for value in scores.values())


def test_thresholds_have_no_part_in_validation():
    """They are chosen on it, afterwards."""
    rows, task = make_rows(12), ClassificationTask()
    plain = validate(task, make_model(), PROCESSOR, rows, Accelerator(cpu=True))
    decided = make_model(decision_thresholds={"a": 0.01, "b": 0.9, "c": 0.9})
    assert validate(task, decided, PROCESSOR, rows, Accelerator(cpu=True)) == plain


def score_in_two_processes(folder):
    """Running statistics drift apart, as without SyncBatchNorm; then both validate."""
    accelerator = Accelerator(cpu=True)
    model = make_model()
    wrapped = accelerator.prepare(model)
    for step in range(3):
        torch.manual_seed(10 * step + accelerator.process_index)
        wrapped(torch.rand(4, 1, 16, 16) * (1 + accelerator.process_index)).logits.sum().backward()
    own = {k: v.clone() for k, v in model.named_buffers()}
    scores = {
        count: validate(ClassificationTask(), model, PROCESSOR, make_rows(count), accelerator)
        for count in (13, 1, 2)
    }
    rank = accelerator.process_index
    (folder / f"{rank}.json").write_text(json.dumps(scores))
    torch.save({"own": own, "model": model.state_dict()}, folder / f"{rank}.pt")


def test_two_processes_score_as_one(tmp_path):
    """13 rows do not divide by 2, and one row leaves a process with none."""
    for one in pair(tmp_path, "validate", score_in_two_processes, tmp_path):
        one.check()
    scores = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert scores[0] == scores[1]  # all processes know the same
    saved = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert any(not torch.equal(value, saved[1]["own"][name]) for name, value in saved[0]["own"].items())
    model = make_model()
    model.load_state_dict(saved[0]["model"])  # the weights that the main process would save
    for count in (13, 1, 2):
        alone = validate(ClassificationTask(), model, PROCESSOR, make_rows(count), Accelerator(cpu=True))
        assert scores[0][str(count)] == pytest.approx(alone, rel=1e-6)  # other batches, other rounding
    assert len(scores[0]["13"]) > 8
