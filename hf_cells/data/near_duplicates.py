"""Near duplicates: pictures that show the same thing although their pixels differ.

The descriptor is the low-frequency part of the discrete cosine transform of a thumbnail, each coefficient
weighted by its frequency to the power 1.5. Pictures of cells lose power with frequency, so without the weight
two round cells are one picture; with it the texture decides. Contrast and brightness cancel, and turning or
flipping a picture only swaps axes and signs, so the eight positions are compared without reading it again.

The threshold is calibrated on real images. Of copies of HEp-2 cells that were recompressed (JPEG quality 30),
halved, darkened, given noise (8 of 255), flipped or turned, 98 % reach 0.97; brightened into saturation, 0.92;
shifted by 2 % of their side, half reach 0.86. Among 10,876 cells, 192 pairs that are no exact copies reach 0.90:
by eye about 97 % are one cell twice, from overlapping fields of view, and none is from distant parts of the set.
Below 0.88 smooth round cells join them. The same value parts repeated from other fields of blood smears.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import fft

from ..progress import track

NEAR = 0.90
FREQUENCIES = 16
WEIGHT = 1.5
MOST_PAIRS = 200_000  # kept; a film has nearly all of its pairs


def cosine_descriptors(thumbnails: np.ndarray) -> np.ndarray:
    """Describe thumbnails (N, S, S) by unit vectors (N, 256) float32; without any contrast by zeros."""
    spectrum = fft.dctn(thumbnails, axes=(1, 2), norm="ortho", workers=-1)[:, :FREQUENCIES, :FREQUENCIES]
    frequency = np.arange(FREQUENCIES)
    weighted = spectrum * np.hypot(frequency[:, None], frequency) ** WEIGHT
    return unit_vectors(weighted.reshape(len(thumbnails), -1))


def turned(descriptors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the descriptors (N, 256) of the eight turned and flipped positions; the first is as it stands."""
    grid = descriptors.reshape(-1, FREQUENCIES, FREQUENCIES)
    signs = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
    for spectrum in (grid, grid.swapaxes(1, 2)):
        for flipped in (spectrum, spectrum * signs[:, None]):
            for mirrored in (flipped, flipped * signs):
                yield mirrored.reshape(len(grid), -1)


def as_they_stand(descriptors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the descriptors themselves: the only position."""
    yield descriptors


def calibrated(features: np.ndarray, again: Mapping[int, np.ndarray]) -> tuple[np.ndarray, float]:
    """Turn features of a model into descriptors, with the threshold that suits the model.

    Args:
        features: (N, D).
        again: {row: (D,)} of changed copies of some rows.

    Returns:
        (N, D) unit vectors about the mean, and the similarity that 95 % of the copies reach, but no less than
        the 99.99th percentile of that between other images: a model that tells few pictures apart finds few.
    """
    mean = features.mean(axis=0)
    descriptors = unit_vectors(features - mean)
    rows = np.array(list(again))
    copies = unit_vectors(np.stack(list(again.values())) - mean)
    same = (copies * descriptors[rows]).sum(axis=1)
    between = descriptors[rows] @ descriptors.T
    between[np.arange(len(rows)), rows] = -1
    return descriptors, float(max(np.quantile(same, 0.05), np.quantile(between, 0.9999)))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Scale rows (N, D) to length 1 in float32; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, 1e-6)).astype(np.float32)


def similar_pairs(
    descriptors: np.ndarray,
    threshold: float = NEAR,
    positions: Callable[[np.ndarray], Iterator[np.ndarray]] = turned,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs whose cosine similarity reaches a threshold in any position.

    Args:
        descriptors: (N, D) float32 unit vectors.
        threshold: Least similarity.
        positions: Gives the descriptors of every position that counts as the same picture.

    Returns:
        (P, 2) int64 rows, first below second, and (P,) float32 similarities, the most similar first; the
        strongest 200,000 when there are more.
    """
    others = [np.ascontiguousarray(position.T) for position in positions(descriptors)]
    pairs, similarities = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    step = block_rows(len(descriptors))
    starts = range(0, len(descriptors), step)
    for start in track(starts, "Comparing images", total=len(starts)):
        rows = descriptors[start : start + step]
        similarity = rows @ others[0][:, start:]
        for other in others[1:]:
            np.maximum(similarity, rows @ other[:, start:], out=similarity)
        first, second = np.nonzero(np.triu(similarity >= threshold, 1))
        pairs = np.concatenate([pairs, np.stack([first, second], 1) + start])
        similarities = np.concatenate([similarities, similarity[first, second]])
        best = np.argsort(-similarities, kind="stable")[:MOST_PAIRS]
        pairs, similarities = pairs[best], similarities[best]
    return pairs, similarities


def block_rows(count: int) -> int:
    """Return how many rows of a (count, count) float32 matrix to hold at once: 64 MB of it."""
    return min(1024, max(16, 2**24 // max(count, 1)))
