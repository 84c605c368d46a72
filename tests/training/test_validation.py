"""Validation scores every image once, whatever the number of processes, and picks what is better."""

import io
import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from training_runs import pair
from transformers.modeling_outputs import SemanticSegmenterOutput

from hf_cells.data.samples import training_targets, truth_of
from hf_cells.metrics import aggregate_instances, score_instances
from hf_cells.models import (
    CellInstanceImageProcessor,
    CellSemanticImageProcessor,
    CellUNetForInstanceSegmentation,
    CellUNetForSemanticSegmentation,
    CellUNetInstanceConfig,
    CellUNetSemanticConfig,
)
from hf_cells.training.segmentation import InstanceTask, SemanticTask
from hf_cells.training.validation import is_better, validate


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def make_rows(count):
    """Images of different sizes with squares; every third has no object."""
    rows = []
    for number in range(count):
        labels = np.zeros((32 + number, 40), np.uint16)
        for k in range(number % 3):
            labels[4 + 12 * k : 12 + 12 * k, 6:20] = k + 1
        noise = np.random.default_rng(number).integers(0, 60, labels.shape)
        rows.append(
            {"image": png((noise + 150 * (labels > 0)).astype(np.uint8)), "instance_labels": png(labels)}
        )
    return rows


def make_model():
    torch.manual_seed(0)
    return CellUNetForInstanceSegmentation(
        CellUNetInstanceConfig(num_channels=1, hidden_sizes=[8, 8], dropout=0.5)
    )


def score_in_two_processes(folder):
    """Each rank's running statistics drift away on batches of its own, as without SyncBatchNorm; then both validate."""
    accelerator = Accelerator(cpu=True)
    model = make_model()
    wrapped = accelerator.prepare(model)
    for step in range(3):
        torch.manual_seed(10 * step + accelerator.process_index)
        wrapped(torch.rand(2, 1, 32, 32) * (1 + accelerator.process_index)).logits.sum().backward()
    own = {k: v.clone() for k, v in model.named_buffers()}
    processor = CellInstanceImageProcessor(num_channels=1)
    scores = {
        count: validate(InstanceTask(), model, processor, make_rows(count), accelerator)
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
    drifted = [not torch.equal(value, saved[1]["own"][name]) for name, value in saved[0]["own"].items()]
    assert any(drifted)
    model = make_model()
    model.load_state_dict(saved[0]["model"])  # the weights that the main process would save
    processor = CellInstanceImageProcessor(num_channels=1)
    for count in (13, 1, 2):
        alone = validate(InstanceTask(), model, processor, make_rows(count), Accelerator(cpu=True))
        assert alone == scores[0][str(count)]
    assert scores[0]["13"]["objects_true"] == 12


def test_scores_are_those_of_prediction_and_the_loss_is_the_mean_over_images():
    rows, model = make_rows(5), make_model()
    model.train()
    processor = CellInstanceImageProcessor(num_channels=1)
    scores = validate(InstanceTask(), model, processor, rows, Accelerator(cpu=True))
    assert model.training  # back to training
    model.eval()
    losses, statistics = [], []
    with torch.no_grad():
        for row in rows:
            truth = truth_of(row)
            image = np.asarray(Image.open(io.BytesIO(row["image"])))
            targets = {k: v[None] for k, v in training_targets(truth, True).items()}
            output = model(processor(image)["pixel_values"], **targets)
            found = processor.post_process_instance_segmentation(output, target_sizes=[truth.shape])
            losses.append(float(output.loss))
            statistics.append(score_instances(truth, found[0]["segmentation"].numpy()))
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    for name, value in aggregate_instances(statistics).items():
        if math.isfinite(value):
            assert scores[name] == pytest.approx(value)
        else:
            assert name not in scores


def test_a_processor_that_resizes_still_has_a_loss():
    rows = make_rows(4)
    processor = CellInstanceImageProcessor(num_channels=1, size={"height": 24, "width": 24})
    scores = validate(InstanceTask(), make_model(), processor, rows, Accelerator(cpu=True))
    assert math.isfinite(scores["loss"])
    assert scores["objects_true"] == 3


def test_semantic_scores_by_a_model_that_knows_the_answer():
    class Bright(torch.nn.Module):
        def forward(self, pixel_values, labels=None):
            logits = torch.cat([0.5 - pixel_values, pixel_values - 0.5], 1) * 20
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return SemanticSegmenterOutput(loss=loss, logits=logits)

    rows = [row for row in make_rows(6) if truth_of(row).any()]
    rows = [{"image": row["image"], "semantic_mask": (truth_of(row) > 0).astype(np.uint8)} for row in rows]
    processor = CellSemanticImageProcessor(num_channels=1, scaling="dtype")
    scores = validate(SemanticTask(), Bright(), processor, rows, Accelerator(cpu=True))
    assert scores["dice_per_image"] == scores["pixel_accuracy"] == scores["mean_iou"] == 1
    assert 0 < scores["loss"] < 0.1
    for row in rows:
        row["semantic_mask"] = 1 - row["semantic_mask"]
    assert validate(SemanticTask(), Bright(), processor, rows, Accelerator(cpu=True))["dice_per_image"] == 0


def test_the_names_are_those_that_validation_gives():
    processor = CellInstanceImageProcessor(num_channels=1)
    measured = validate(InstanceTask(), make_model(), processor, make_rows(5), Accelerator(cpu=True))
    assert set(measured) <= set(InstanceTask().metric_names())
    assert {"loss", "dsb_score", "pq", "dice_per_image"} <= set(measured)
    torch.manual_seed(0)
    model = CellUNetForSemanticSegmentation(CellUNetSemanticConfig(num_channels=1, hidden_sizes=[8, 8]))
    rows = [
        {"image": row["image"], "semantic_mask": np.ones((32 + i, 40), np.uint8)}
        for i, row in enumerate(make_rows(3))
    ]
    processor = CellSemanticImageProcessor(num_channels=1)
    measured = validate(SemanticTask(), model, processor, rows, Accelerator(cpu=True))
    assert set(measured) == set(SemanticTask().metric_names())


def test_better_is_higher_but_for_losses_and_errors():
    assert is_better(0.5, None, "dsb_score")
    assert is_better(0.6, 0.5, "dsb_score") and not is_better(0.5, 0.5, "dsb_score")
    assert is_better(0.4, 0.5, "loss") and not is_better(0.6, 0.5, "loss")
    for name in ("count_mean_absolute_error", "brier_score", "log_loss", "expected_calibration_error"):
        assert is_better(1.0, 2.0, name)
    assert not is_better(1.0, 2.0, "mean_class_accuracy")
    assert not is_better(math.nan, None, "aji") and not is_better(math.nan, 0.1, "aji")
