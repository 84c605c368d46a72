"""The `evaluate.Metric` wrappers: the numbers of the cores, nothing but rows on disk, no network."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from label_pairs import disc_pair, random_pair

from hf_cells import metrics


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a metric tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


PAIRS = [random_pair(seed)[1:] for seed in range(12)]
TRUE, PRED = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]


def expected_instances():
    return metrics.aggregate_instances(metrics.score_instances(t, p) for t, p in PAIRS)


def test_importing_the_metrics_imports_neither_evaluate_nor_torch():
    code = "import sys, hf_cells.metrics; print({'evaluate', 'datasets', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_every_public_name_can_be_had():
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    assert set(metrics.__all__) <= set(dir(metrics))
    with pytest.raises(AttributeError, match="no_such_metric"):
        _ = metrics.no_such_metric


def test_add_batch_add_and_compute_agree_with_the_cores(tmp_path):
    expected = pytest.approx(expected_instances(), nan_ok=True, abs=0, rel=0)
    metric = metrics.InstanceSegmentationMetric(cache_dir=str(tmp_path))
    assert metric.compute(predictions=PRED, references=TRUE) == expected
    metric.add_batch(predictions=PRED[:5], references=TRUE[:5])
    metric.add(prediction=PRED[5], reference=TRUE[5])
    metric.add_batch(predictions=PRED[6:], references=TRUE[6:])
    assert len(metric) == len(PAIRS)
    assert metric.compute() == expected
    in_memory = metrics.InstanceSegmentationMetric(cache_dir=str(tmp_path), keep_in_memory=True)
    assert in_memory.compute(predictions=PRED, references=TRUE) == expected


def test_masks_do_not_reach_the_disk(tmp_path):
    true, pred = disc_pair(0, size=512)
    metric = metrics.InstanceSegmentationMetric(cache_dir=str(tmp_path))
    metric.add_batch(predictions=np.stack([pred] * 8), references=np.stack([true] * 8))
    metric.writer.write_examples_on_file()
    metric.writer.stream.flush()
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0 < written < 20_000  # 8 MB as masks
    assert metric.compute()["objects_true"] == 8 * metrics.label_overlap(true, pred).n_true


def test_two_processes_make_one_score(tmp_path):
    def part(rank):
        metric = metrics.InstanceSegmentationMetric(
            num_process=2, process_id=rank, experiment_id="two", cache_dir=str(tmp_path)
        )
        metric.add_batch(predictions=PRED[rank::2], references=TRUE[rank::2])
        return metric.compute()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(part, (0, 1))
    assert second is None
    assert first == pytest.approx(expected_instances(), nan_ok=True, abs=1e-12)


def test_semantic_metric(tmp_path):
    rng = np.random.default_rng(0)
    true = [rng.choice([0, 1, 2, 255], size=(5 + i, 7)).astype(np.uint8) for i in range(6)]
    pred = [rng.integers(0, 3, size=t.shape) for t in true]
    names = ["background", "nucleus", "cytoplasm"]
    metric = metrics.SemanticSegmentationMetric(3, label_names=names, cache_dir=str(tmp_path))
    metric.add_batch(predictions=[p.tolist() for p in pred], references=[t.tolist() for t in true])
    expected = metrics.aggregate_semantic(
        [metrics.score_semantic(t, p, 3) for t, p in zip(true, pred)], names
    )
    assert metric.compute() == expected
    assert json.loads(json.dumps(expected)) == expected
    counting_all = metrics.SemanticSegmentationMetric(3, ignore_index=None, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"true labels span 0\.\.255"):
        counting_all.add(prediction=pred[0], reference=true[0])


def test_soft_dice_metric_returns_both_readings(tmp_path):
    rng = np.random.default_rng(0)
    batches = [(rng.random((n, 1, 8, 8), np.float32), rng.integers(0, 2, (n, 1, 8, 8))) for n in (4, 4, 1)]
    metric = metrics.SoftDiceMetric(cache_dir=str(tmp_path))
    for probabilities, targets in batches:
        metric.add_batch(predictions=probabilities, references=targets)
    scores = metric.compute()
    whole = [np.concatenate(side) for side in zip(*batches, strict=True)]
    assert scores["soft_dice"] == pytest.approx(metrics.soft_dice(*whole), abs=1e-12)
    by_batch = np.mean([metrics.soft_dice(*batch) for batch in batches])
    assert scores["soft_dice_batch_mean"] == pytest.approx(by_batch, abs=1e-12)
    assert scores["soft_dice"] != pytest.approx(scores["soft_dice_batch_mean"], abs=1e-6)
    metric.add(prediction=batches[2][0][0], reference=batches[2][1][0])
    assert metric.compute()["soft_dice"] == pytest.approx(metrics.soft_dice(*batches[2]))


def test_metrics_combine(tmp_path):
    import evaluate

    pair = evaluate.combine(
        [
            metrics.InstanceSegmentationMetric(cache_dir=str(tmp_path)),
            metrics.SoftDiceMetric(cache_dir=str(tmp_path)),
        ]
    )
    masks = [np.eye(4, dtype=np.uint8)] * 2
    scores = pair.compute(predictions=masks, references=masks)
    assert scores["ap50_pooled"] == 1.0 and scores["soft_dice"] == 1.0


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (PRED[:2], TRUE[:1], "2 predictions for 1 references"),
        ([np.zeros((2, 2))], [np.zeros((2, 2), int)], "predicted labels must be integers"),
    ],
)
def test_a_wrong_batch_is_refused_whole(tmp_path, predictions, references, message):
    metric = metrics.InstanceSegmentationMetric(cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.add_batch(predictions=predictions, references=references)
    assert len(metric) == 0
