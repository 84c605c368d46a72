"""Time the blood-smear composer on one core, and the source's way of composing beside it.

    python benchmarks/composer_speed.py [--library FOLDER] [--samples 520]

"The source's way" is how a first script does it: for every pasted cell its sample is read again from disk,
turned on a canvas as large as the image, and blended over the whole image; the 1000x1000 background is read
again for every crop. Both ways paste the same cells at the same places with the same look, and write the same
four files with the same PNG level, so the ratio shows what the cache, the small stamps and the grouping by
background save. Without --library a simulated one is drawn. Seconds are processor time, as one core that does
nothing else would take.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hf_cells.compose import compose_dataset, read_library, simulate_library
from hf_cells.compose.backgrounds import Background, make_background
from hf_cells.compose.classes import CLASS_IDS
from hf_cells.compose.dataset import SAMPLES_PER_BACKGROUND, background_shares
from hf_cells.compose.library import Library
from hf_cells.compose.looks import apply_look, look_sources
from hf_cells.compose.pasting import SOLID
from hf_cells.compose.plan import generator, make_cycle
from hf_cells.compose.sample import CROP, Composite, compose, describe
from hf_cells.compose.stain import Look
from hf_cells.compose.writing import make_folders, write_background, write_composite

BATCH = 26


def peak_memory() -> float:
    """Largest memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def source_way(label: dict, composed: Path, library: Library, files: dict[str, str]) -> Composite:
    """Compose one sample from the record of the other way, re-reading and blending whole images."""
    record = label["background"]
    left, top, right, bottom = record["crop"]
    picture = np.asarray(Image.open(composed / "backgrounds" / f"{record['name']}.png"))
    image = np.rot90(picture[top:bottom, left:right], record["quarter_turns"]).astype(np.float64)
    red = json.loads((composed / "backgrounds" / f"{record['name']}.json").read_text())["cells"]
    labels = np.zeros((CROP, CROP), np.uint16)
    for number, cell in enumerate(red, start=1):
        if left - 30 < cell["x"] < right + 30 and top - 30 < cell["y"] < bottom + 30:
            centre = cell["x"] - left, cell["y"] - top
            alpha = whole_canvas(library.path / files[cell["sample"]], cell, centre)[..., 3]
            labels[alpha >= SOLID] = number
    labels = np.rot90(labels, record["quarter_turns"]).copy()
    pasted = [cell for cell in label["objects"] if cell["pasted"]]
    for number, cell in enumerate(pasted, start=len(red) + 1):
        x0, y0, x1, y1 = cell["box"]
        canvas = whole_canvas(library.path / files[cell["sample"]], cell, ((x0 + x1) / 2, (y0 + y1) / 2))
        alpha = canvas[..., 3:] / 255
        image = image * (1 - alpha) + canvas[..., :3] * alpha
        labels[canvas[..., 3] >= SOLID] = number
    look = Look(tuple(label["look"]["glass"]), tuple(label["look"]["gain"]))
    picture = apply_look(generator(label["index"]), Image.fromarray(image.astype(np.uint8)), look)
    cells = [*red, *pasted]
    classes = np.array([0, *(CLASS_IDS[cell["class"]] for cell in cells)], np.uint8)[labels]
    instances, objects = describe(labels, cells, len(red))
    return Composite(picture, classes, instances, {**label, "objects": objects})


def whole_canvas(path: Path, cell: dict, centre: tuple[float, float]) -> np.ndarray:
    """Read a sample and turn it on a transparent canvas of the size of the image."""
    sample = Image.open(path)
    if cell["flipped"]:
        sample = sample.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = Image.new("RGBA", (CROP, CROP))
    canvas.paste(sample, (round(centre[0] - sample.width / 2), round(centre[1] - sample.height / 2)))
    return np.asarray(canvas.rotate(cell["angle"], Image.Resampling.BILINEAR, center=centre))


def batch_seconds(work: Callable[[int], object], batches: list[range]) -> float:
    """Processor seconds per item of the quickest batch: the one least disturbed by other work."""
    times = []
    for batch in batches:
        begun = time.process_time()
        for item in batch:
            work(item)
        times.append((time.process_time() - begun) / len(batch))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", type=Path)
    parser.add_argument("--samples", type=int, default=520)
    options = parser.parse_args()
    count = options.samples
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        place = options.library or simulate_library(root / "library", per_class=20)
        begun = time.perf_counter()
        composed = compose_dataset(place, root / "ours", train=count, validation=0, test=0)
        wall, memory = time.perf_counter() - begun, peak_memory()

        library = read_library(place)
        backgrounds = background_shares({"train": count, "validation": 0, "test": 0}, None)["train"]
        made: list[Background] = []
        (root / "backgrounds").mkdir()

        def prepare(number: int) -> None:
            made.append(make_background(library, 0, "train", number))
            write_background(root / "backgrounds", made[-1])

        preparing = batch_seconds(prepare, [range(n, n + 1) for n in range(backgrounds)])

        cycle, looks = make_cycle(0, "train"), look_sources(library, "train")
        make_folders(root / "again", ["train"])

        def ours(index: int) -> None:
            background = made[index * backgrounds // count]
            plan = cycle[index % len(cycle)]
            composite = compose(library, looks, background, 0, "train", index, plan)
            write_composite(root / "again/train", composite)

        ready = batch_seconds(ours, [range(n, min(n + BATCH, count)) for n in range(0, count, BATCH)])

        files = {sample.sample_id: sample.file for sample in library.samples}
        records = [json.loads(path.read_text()) for path in sorted(composed.glob("train/labels/*.json"))]
        make_folders(root / "source", ["train"])

        def source(index: int) -> None:
            write_composite(root / "source/train", source_way(records[index], composed, library, files))

        slow = batch_seconds(source, [range(n, min(n + BATCH, count)) for n in range(0, count, 3 * BATCH)])

    print(f"{count} samples of {CROP}x{CROP}, {backgrounds} backgrounds, {len(library.samples)} cells\n")
    print(f"{'one core, the quickest batch':54}{'ms/sample':>10}{'samples/s':>11}")
    rows = {
        "composer, library and backgrounds ready": ready,
        "composer, backgrounds composed and written as well": ready + preparing / SAMPLES_PER_BACKGROUND,
        "source's way, backgrounds ready": slow,
    }
    for name, seconds in rows.items():
        print(f"{name:54}{1000 * seconds:10.1f}{1 / seconds:11.1f}")
    print(
        f"\nratio {slow / ready:.1f}; peak memory {memory:.0f} MB; wall clock of the whole command {wall:.1f} s"
    )


if __name__ == "__main__":
    main()
