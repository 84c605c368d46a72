"""Whole white cells in real images, by a model of ten classes that learnt from composites.

    python benchmarks/real_white_cells.py MODEL --library LIBRARY --masks WBC [--split test --split validation]

WBC is the folder or zip of white cells with masks that `hf-cells compose library` made LIBRARY of. Every image of the
library's splits that no training composite shows is enlarged by the factor that the library found for its pack, and
segmented; all kinds of white cell together are the cell. Printed is the Dice coefficient, mean over images, with 95 %
of 2,000 draws of the images. Validation composites choose the best epoch, so their images are unseen but not
untouched: give --split test for those that are.
"""

import argparse
from collections import defaultdict

import numpy as np

import hf_cells
from hf_cells.compose import read_library
from hf_cells.compose.adapter_masks import pair_masks
from hf_cells.compose.classes import WHITE_CELLS
from hf_cells.compose.source_files import SourceFiles
from hf_cells.errors import CellsError
from hf_cells.inference.rescaling import rescale_inputs
from hf_cells.progress import track
from hf_cells.quiet import quiet_libraries


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--library", required=True)
    parser.add_argument("--masks", required=True)
    parser.add_argument("--split", action="append", choices=["validation", "test"])
    options = parser.parse_args()
    quiet_libraries()
    splits = options.split or ["validation", "test"]
    scores = measure(options.model, options.library, options.masks, splits)
    draws = np.random.default_rng(0).choice(scores, (2_000, len(scores))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    print(f"whole cell Dice {np.mean(scores):.3f} [{low:.3f}, {high:.3f}] (mean of {len(scores)} images)")


def measure(model: str, library: str, masks: str, splits: list[str]) -> list[float]:
    """Return the Dice coefficient of the white cell of every image of the splits."""
    files = SourceFiles(masks)
    pairs = pair_masks(files.names())
    of_scale: dict[float, list[str]] = defaultdict(list)
    for sample in read_library(library).samples:
        image = sample.source_image.removeprefix(f"{files.name}/")
        if sample.class_name in WHITE_CELLS and sample.split in splits and image in pairs:
            of_scale[sample.scale].append(image)
    if not of_scale:
        raise CellsError(
            f"{masks}: holds no image of {library}; give what the library was made of as --masks"
        )
    scores = []
    for scale, images in of_scale.items():
        pipe = hf_cells.pipeline(model)
        rescale_inputs(pipe, scale)
        white = [index for index, name in pipe.model.config.id2label.items() if name in WHITE_CELLS]
        for image in track(images, f"enlarged {scale:.2f} times"):
            found = np.isin(pipe(files.image(image))["semantic_mask"], white)
            truth = files.image(pairs[image], "L") > 0
            scores.append(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))
    return scores


if __name__ == "__main__":
    main()
