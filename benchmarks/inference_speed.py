"""Seconds per 256x256 image, decoding included: our pipeline against Otsu + watershed, in one run.

python benchmarks/inference_speed.py model_cards/dsb2018_instance [--precision bf16]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

import hf_cells
from hf_cells.simulate import simulate_nuclei


def otsu_watershed(image: np.ndarray) -> np.ndarray:
    """Threshold, distance transform, watershed: the classical way."""
    grey = image.mean(-1) if image.ndim == 3 else image
    mask = grey > threshold_otsu(grey)
    if mask.mean() > 0.5:
        mask = ~mask
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    seeds = np.zeros(mask.shape, int)
    peaks = peak_local_max(distance, min_distance=5, labels=ndimage.label(mask)[0])
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, seeds, mask=mask)


def seconds(function: Callable, images: list[np.ndarray]) -> float:
    """Mean over the images, after one round of warm-up."""
    for image in images[:2]:
        function(image)
    begun = time.perf_counter()
    for image in images:
        function(image)
    return (time.perf_counter() - begun) / len(images)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    options = parser.parse_args()
    pipe = hf_cells.pipeline(options.model, precision=options.precision)
    images = [simulate_nuclei(11, i, size=(256, 256)).image for i in range(24)]
    ours, classical = seconds(pipe, images), seconds(otsu_watershed, images)
    print(f"{'method':34}{'ms/image':>10}")
    print(f"{'Otsu + watershed (scikit-image)':34}{classical * 1e3:>10.1f}")
    print(f"{'hf-cells, ' + options.precision:34}{ours * 1e3:>10.1f}")
    print(f"ratio {ours / classical:.2f}")


if __name__ == "__main__":
    main()
