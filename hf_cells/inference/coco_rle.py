"""COCO's run lengths as text: counts of pixels outside and inside by turns, down the columns, six bits a character.

The format of `pycocotools.mask` (Lin et al. 2014, arXiv:1405.0312): every third and later count is stored as the
difference to the one two before it, in groups of five bits, the lowest first, a sixth bit telling that more follow.
"""

import numpy as np


def runs_of_mask(mask: np.ndarray) -> np.ndarray:
    """Return the runs of a `(H, W)` mask, non-zero is foreground: `(m, 2)` int64, start and end (exclusive) of each.

    Pixels are numbered from 0, down the columns first.
    """
    flat = np.zeros(mask.size + 2, np.int8)
    flat[1:-1] = np.asarray(mask).ravel(order="F") != 0
    changes = np.flatnonzero(np.diff(flat))
    return changes.reshape(-1, 2).astype(np.int64)


def mask_of_runs(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the `(H, W)` bool mask of runs."""
    edges = np.zeros(shape[0] * shape[1] + 1, np.int32)
    np.add.at(edges, runs[:, 0], 1)
    np.add.at(edges, runs[:, 1], -1)
    return (np.cumsum(edges[:-1]) > 0).reshape(shape, order="F")


def encode_runs(runs: np.ndarray, shape: tuple[int, int]) -> bytes:
    """Write runs `(m, 2)` of an image of this height and width as COCO's text."""
    edges = np.concatenate([[0], np.asarray(runs, np.int64).ravel(), [shape[0] * shape[1]]])
    counts = np.diff(edges)
    if counts[-1] == 0 and len(counts) > 1:
        counts = counts[:-1]  # COCO writes no count after the last pixel
    steps = counts.copy()
    steps[3:] -= counts[1:-2]
    text = bytearray()
    for step in steps.tolist():
        more = True
        while more:
            bits = step & 31
            step >>= 5
            # Done when the rest is nothing but the sign of what was written.
            more = step != -1 if bits & 16 else step != 0
            text.append(48 + (bits | 32 if more else bits))
    return bytes(text)


def decode_runs(text: bytes | str, shape: tuple[int, int]) -> np.ndarray:
    """Read COCO's text as runs `(m, 2)`.

    Raises:
        ValueError: It is no such text, or does not have as many pixels as an image of this height and width.
    """
    codes = text.encode("ascii", "replace") if isinstance(text, str) else bytes(text)
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError(f"COCO run lengths hold {chr(code)!r}, which is no character of theirs")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("COCO run lengths are cut off in the middle of a number")
    pixels = shape[0] * shape[1]
    if any(count < 0 for count in counts) or sum(counts) != pixels:
        raise ValueError(
            f"COCO run lengths cover {sum(counts):,} pixels, and {shape[0]} x {shape[1]} (height x width) are "
            f"{pixels:,}; check the size"
        )
    edges = np.cumsum(np.array(counts, np.int64))
    edges = edges if len(edges) % 2 == 0 else edges[:-1]
    runs = edges.reshape(-1, 2)
    return runs[runs[:, 1] > runs[:, 0]]
