"""Every metric once more, slowly, straight from its published definition: objects are sets of pixels.

Shares no code with hf_cells. Where a source is undefined (division by zero, a crash) the documented value of
hf_cells stands in its place, marked "ours".
"""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

NAN = math.nan


def objects(labels):
    """Label image -> list of pixel sets, by ascending label, 0 left out."""
    pixels = {}
    for position, label in enumerate(np.asarray(labels).ravel().tolist()):
        if label != 0:
            pixels.setdefault(label, set()).add(position)
    return [pixels[label] for label in sorted(pixels)]


def iou_table(true, pred):
    return np.array([[len(t & p) / len(t | p) for p in pred] for t in true]).reshape(len(true), len(pred))


# --- 2018 Data Science Bowl (carpenterlab/2019_caicedo_dsb)


def dsb(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    if not true and not pred:
        return 1.0  # ours; the official code gives 0 / 1e-9 = 0
    table = iou_table(true, pred)
    scores = []
    for threshold in np.arange(0.5, 1.0, 0.05):
        tp = sum(1 for i in range(len(true)) if sum(table[i, j] > threshold for j in range(len(pred))) == 1)
        fp = sum(1 for j in range(len(pred)) if not any(table[i, j] > threshold for i in range(len(true))))
        fn = sum(1 for i in range(len(true)) if not any(table[i, j] > threshold for j in range(len(pred))))
        scores.append(tp / (tp + fp + fn + 1e-9))
    return sum(scores) / len(scores)


# --- StarDist matching


def stardist(true_labels, pred_labels, threshold):
    """(tp, fp, fn, sum of matched IoU), the optimal assignment found by the Hungarian method."""
    true, pred = objects(true_labels), objects(pred_labels)
    table = iou_table(true, pred)
    n_matched = min(len(true), len(pred))
    tp, iou_sum = 0, 0.0
    if n_matched and (table >= threshold).any():
        cost = -(table >= threshold).astype(float) - table / (2 * n_matched)
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if table[i, j] >= threshold:
                tp += 1
                iou_sum += table[i, j]
    return tp, len(pred) - tp, len(true) - tp, iou_sum


def stardist_scores(tp, fp, fn, iou_sum):
    return {
        "accuracy": tp / (tp + fp + fn) if tp else 0.0,
        "precision": tp / (tp + fp) if tp else 0.0,
        "recall": tp / (tp + fn) if tp else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp else 0.0,
        "mean_true_score": iou_sum / (tp + fn) if tp + fn else 0.0,
        "mean_matched_score": iou_sum / tp if tp else 0.0,
        "panoptic_quality": iou_sum / (tp + fp / 2 + fn / 2) if tp + fp + fn else 0.0,
    }


# --- Cellpose


def cellpose_ap(true_labels, pred_labels, threshold):
    tp, fp, fn, _ = stardist(true_labels, pred_labels, threshold)
    return tp / (tp + fp + fn) if tp + fp + fn else NAN


def cellpose_aji(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    foreground = set().union(*true, *pred)
    if not foreground:
        return NAN
    matched = 0
    if true and pred:
        table = iou_table(true, pred)
        cost = -(table >= 0.5).astype(float) - table / (2 * min(table.shape))
        matched = sum(len(true[i] & pred[j]) for i, j in zip(*linear_sum_assignment(cost), strict=True))
    return matched / len(foreground)


# --- HoVer-Net (MoNuSeg)


def _smoothed_table(true, pred):
    table = [[len(t & p) / (len(t | p) + 1e-6) for p in pred] for t in true]
    return np.array(table).reshape(len(true), len(pred))


def _aji_of(true, pred, pairs):
    inter = sum(len(true[i] & pred[j]) for i, j in pairs)
    union = sum(len(true[i] | pred[j]) for i, j in pairs)
    union += sum(len(true[i]) for i in range(len(true)) if i not in {i for i, _ in pairs})
    union += sum(len(pred[j]) for j in range(len(pred)) if j not in {j for _, j in pairs})
    return inter / union


def aji(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    if not true and not pred:
        return NAN  # ours
    pairs = []
    for i, row in enumerate(_smoothed_table(true, pred)):
        best = None
        for j, value in enumerate(row):
            if value > 0 and (best is None or value > row[best]):
                best = j
        if best is not None:
            pairs.append((i, best))
    return _aji_of(true, pred, pairs)


def aji_plus(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    if not true and not pred:
        return NAN
    table = _smoothed_table(true, pred)
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-table), strict=True) if table[i, j] > 0]
    return _aji_of(true, pred, pairs)


def hovernet_pq(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    if not true and not pred:
        return NAN, NAN, NAN  # ours; the source divides by zero
    matched = [value for value in iou_table(true, pred).ravel().tolist() if value > 0.5]
    tp = len(matched)
    dq = tp / (tp + 0.5 * (len(pred) - tp) + 0.5 * (len(true) - tp))
    sq = sum(matched) / (tp + 1.0e-6)
    return dq, sq, dq * sq


def dice2(true_labels, pred_labels):
    true, pred = objects(true_labels), objects(pred_labels)
    touching = [(t, p) for t in true for p in pred if t & p]
    if not touching:
        return 0.0 if true or pred else NAN  # ours; the source divides by zero
    return 2 * sum(len(t & p) for t, p in touching) / sum(len(t) + len(p) for t, p in touching)


def foreground_dice(true_labels, pred_labels):
    true, pred = set().union(*objects(true_labels)), set().union(*objects(pred_labels))
    return 2 * len(true & pred) / (len(true) + len(pred)) if true or pred else 1.0  # ours when both are empty


# --- a data set of pairs


def dataset(pairs):
    def mean(values):
        values = [v for v in values if not math.isnan(v)]
        return sum(values) / len(values) if values else NAN

    def pooled(threshold):
        counts = [stardist(t, p, threshold) for t, p in pairs]
        return stardist_scores(*(sum(column) for column in zip(*counts, strict=True)))

    counts = [(len(objects(t)), len(objects(p))) for t, p in pairs]
    return {
        "dsb_score": mean([dsb(t, p) for t, p in pairs]),
        "ap50_image_mean": mean([cellpose_ap(t, p, 0.5) for t, p in pairs]),
        "ap75_image_mean": mean([cellpose_ap(t, p, 0.75) for t, p in pairs]),
        "ap50_pooled": pooled(0.5)["accuracy"],
        "ap75_pooled": pooled(0.75)["accuracy"],
        "f1_50_pooled": pooled(0.5)["f1"],
        "precision_50_pooled": pooled(0.5)["precision"],
        "recall_50_pooled": pooled(0.5)["recall"],
        "pq": pooled(0.5)["panoptic_quality"],
        "sq": pooled(0.5)["mean_matched_score"],
        "rq": pooled(0.5)["f1"],
        "mean_true_score": pooled(0.5)["mean_true_score"],
        "pq_image_mean": mean([hovernet_pq(t, p)[2] for t, p in pairs]),
        "aji": mean([aji(t, p) for t, p in pairs]),
        "aji_plus": mean([aji_plus(t, p) for t, p in pairs]),
        "aji_cellpose": mean([cellpose_aji(t, p) for t, p in pairs]),
        "dice2": mean([dice2(t, p) for t, p in pairs]),
        "dice_per_image": mean([foreground_dice(t, p) for t, p in pairs]),
        "count_mean_absolute_error": mean([abs(m - n) for n, m in counts]),
        "objects_true": sum(n for n, _ in counts),
        "objects_pred": sum(m for _, m in counts),
    }


# --- semantic


def class_counts(true_mask, pred_mask, num_labels, ignore_index):
    """Per class (tp, true pixels, predicted pixels), the number of right pixels and of counted ones."""
    true, pred = np.asarray(true_mask).ravel().tolist(), np.asarray(pred_mask).ravel().tolist()
    pairs = list(zip(true, pred, strict=True))
    pairs = [(t, p) for t, p in pairs if t != ignore_index]
    per_class = [
        (
            sum(1 for t, p in pairs if t == p == k),
            sum(1 for t, _ in pairs if t == k),
            sum(1 for _, p in pairs if p == k),
        )
        for k in range(num_labels)
    ]
    return per_class, sum(1 for t, p in pairs if t == p), len(pairs)


def soft_dice(probabilities, targets, smooth=1.0):
    p, y = np.asarray(probabilities).ravel().tolist(), np.asarray(targets).ravel().tolist()
    shared = math.fsum(a * b for a, b in zip(p, y, strict=True))
    return (2 * shared + smooth) / (math.fsum(y) + math.fsum(p) + smooth)
