"""Time every instance metric on one large image, and the same metrics computed one after another.

    python benchmarks/metrics_speed.py

"One after another" does what a script does that calls each metric and threshold on its own: count the
overlaps, build the IoU matrix and solve the assignment every time. It counts with numpy too and gets labels
that are already sequential, so the ratio shows what sharing the overlaps and dropping needless assignments
saves, not slow loops. The line with relabelling adds the `np.unique` that such functions run to be safe from
gaps in the labels. All ways must give the same numbers, or the benchmark stops.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment

from hf_cells.metrics import DSB_THRESHOLDS, MATCHING_THRESHOLDS, label_overlap, score_instances

Pair = tuple[np.ndarray, np.ndarray]


def nuclei(size: int, count: int, seed: int = 0) -> Pair:
    """Draw discs on a jittered grid, and a prediction that moves, resizes, loses and invents some."""
    rng = np.random.default_rng(seed)
    true, pred = np.zeros((size, size), np.int32), np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    side = int(np.ceil(np.sqrt(count)))
    step = size / side
    for label in range(1, count + 1):
        cell = np.array(divmod(label - 1, side))
        centre = (cell + 0.5 + rng.uniform(-0.25, 0.25, 2)) * step
        radius = step * rng.uniform(0.3, 0.5)
        for image, keep, shift, scale in (
            (true, 0.96, 0.0, 1.0),
            (pred, 0.94, 0.06, rng.uniform(0.85, 1.15)),
        ):
            if rng.random() < keep:
                row, col = centre + rng.normal(0, shift * step, 2)
                box = np.s_[
                    max(0, int(row - step)) : int(row + step) + 1,
                    max(0, int(col - step)) : int(col + step) + 1,
                ]
                image[box][(y[box] - row) ** 2 + (x[box] - col) ** 2 < (radius * scale) ** 2] = label
    return true, pred


def iou_matrices(
    true: np.ndarray, pred: np.ndarray, relabel: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return intersections, unions, true areas and predicted areas, densely."""
    if relabel:
        true, pred = (np.unique(labels, return_inverse=True)[1] for labels in (true, pred))
    shape = int(true.max()) + 1, int(pred.max()) + 1
    table = np.bincount(true.ravel() * shape[1] + pred.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    true_areas, pred_areas = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    shared = table[1:, 1:]
    return shared, true_areas[:, None] + pred_areas - shared, true_areas, pred_areas


def one_after_another(true: np.ndarray, pred: np.ndarray, relabel: bool) -> dict[str, object]:
    """Compute each metric and each threshold from the label images anew."""
    dsb, hits = [], []
    for threshold in DSB_THRESHOLDS:
        shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
        matches = shared / unions > threshold
        tp = int((matches.sum(axis=1) == 1).sum())
        fp, fn = int((matches.sum(axis=0) == 0).sum()), int((matches.sum(axis=1) == 0).sum())
        dsb.append(tp / (tp + fp + fn + 1e-9))
    for threshold in MATCHING_THRESHOLDS:
        shared, unions, _, _ = iou_matrices(true, pred, relabel)
        iou = shared / unions
        chosen = linear_sum_assignment(-(iou >= threshold).astype(float) - iou / (2 * min(iou.shape)))
        hits.append(int((iou[chosen] >= threshold).sum()))

    def jaccard(rows: np.ndarray, cols: np.ndarray) -> float:
        valid = shared[rows, cols] > 0
        rows, cols = rows[valid], cols[valid]
        lone_true = np.setdiff1d(np.arange(len(true_areas)), rows)
        lone_pred = np.setdiff1d(np.arange(len(pred_areas)), cols)
        union = unions[rows, cols].sum() + true_areas[lone_true].sum() + pred_areas[lone_pred].sum()
        return float(shared[rows, cols].sum() / union)

    shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
    aji = jaccard(np.arange(len(true_areas)), (shared / (unions + 1e-6)).argmax(axis=1))
    shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
    aji_plus = jaccard(*linear_sum_assignment(-shared / (unions + 1e-6)))
    shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
    iou = shared / unions
    chosen = linear_sum_assignment(-(iou >= 0.5).astype(float) - iou / (2 * min(iou.shape)))
    aji_cellpose = float(shared[chosen].sum() / np.count_nonzero((true > 0) | (pred > 0)))
    shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
    iou = shared / unions
    tp = np.count_nonzero(iou > 0.5)
    pq = float(iou[iou > 0.5].sum() / (tp + 1e-6) * tp / (sum(iou.shape) / 2))
    shared, unions, true_areas, pred_areas = iou_matrices(true, pred, relabel)
    dice2 = float(2 * shared.sum() / (unions + shared)[shared > 0].sum())
    return {
        "dsb_score": float(np.mean(dsb)),
        "true_positives": hits,
        "aji": aji,
        "aji_plus": aji_plus,
        "aji_cellpose": aji_cellpose,
        "pq_image": pq,
        "dice2": dice2,
    }


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Return the time of the quickest call: the one least disturbed by other work on the machine."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="image side in pixels")
    parser.add_argument("--objects", type=int, default=520, help="objects drawn")
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    true, pred = (
        np.unique(labels, return_inverse=True)[1] for labels in nuclei(arguments.size, arguments.objects)
    )
    true, pred = true.astype(np.int32), pred.astype(np.int32)

    row = score_instances(true, pred)
    for relabel in (False, True):
        for key, value in one_after_another(true, pred, relabel).items():
            if not np.allclose(row[key], value, rtol=0, atol=1e-9):
                raise SystemExit(f"{key}: {row[key]} together but {value} one after another")

    few = max(3, arguments.repeats // 10)
    together = milliseconds(lambda: score_instances(true, pred), arguments.repeats)
    lines = {
        "all metrics and thresholds together (score_instances)": together,
        "    of which counting the overlaps": milliseconds(
            lambda: label_overlap(true, pred), arguments.repeats
        ),
        "each metric and threshold on its own": milliseconds(
            lambda: one_after_another(true, pred, False), few
        ),
        "the same, relabelling each time": milliseconds(lambda: one_after_another(true, pred, True), few),
    }
    print(
        f"{arguments.size} x {arguments.size} pixels, {row['objects_true']} true and {row['objects_pred']} "
        f"predicted objects, DSB score {row['dsb_score']:.3f}; same numbers every way\n"
    )
    print(f"{'':56}{'ms':>9}{'ratio':>8}")
    for name, duration in lines.items():
        print(f"{name:56}{duration:9.1f}{duration / together:8.1f}")


if __name__ == "__main__":
    main()
