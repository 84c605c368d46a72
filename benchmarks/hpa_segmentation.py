"""How well `hf-cells segment` finds simulated nuclei and cells: usual looks, and looks that nothing was trained on.

    python benchmarks/hpa_segmentation.py [--nuclei_model DIR] [--cell_model DIR] [--n_fields 12] [--output_dir DIR]

Fields of another seed than the recipes' are simulated once for every look and segmented by the classical engine and,
where models are given, by them, in the way of the command line. For each look the table has the average precision at
IoU .5 (true positives over all of true, false positive and missed, pooled over the fields) of cells and of nuclei, the
share of found objects that are two true ones merged (each of them with more than half of its pixels in the object), and
the seconds that a field takes. The last line pools all looks. What is done stays in --output_dir.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hf_cells.inference.segment_files import Settings, segment_files
from hf_cells.metrics import aggregate_instances, label_overlap, score_instances
from hf_cells.models.image_reading import read_image
from hf_cells.quiet import quiet_libraries
from hf_cells.simulate import simulate_hpa_single_cell

LEARNT = ("U2OS", "A-431", "U-251MG", "HEK293", "HeLa", "MCF7", "RT4", "PC-3")  # cell lines of the recipes
UNSEEN = ("BJ", "SK-MEL-30", "CACO-2", "Hep G2")
LOOKS: dict[str, dict[str, Any]] = {
    "usual": {"looks": LEARNT},
    "unseen cell lines": {"looks": UNSEEN},
    "blur x 4": {"looks": UNSEEN, "blur": 4.0},
    "noise x 4": {"looks": UNSEEN, "noise": 4.0},
    "brightness x 0.3": {"looks": UNSEEN, "brightness": 0.3},
    "brightness x 2": {"looks": UNSEEN, "brightness": 2.0},
    "density x 0.5": {"looks": UNSEEN, "density": 0.5},
    "density x 1.5": {"looks": UNSEEN, "density": 1.5},
    "cells x 1.6": {"looks": UNSEEN, "field_um": 100.0},
    "cells x 0.6": {"looks": UNSEEN, "field_um": 270.0},
}
KINDS = ("cell", "nucleus")
SEED = 4242  # of no recipe


@dataclass
class Tally:
    """Statistics of the fields of one look, or of all."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    merged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    seconds: float = 0.0
    fields: int = 0  # that took this time

    def add(self, other: "Tally") -> None:
        """Take in the fields of another."""
        for kind in KINDS:
            self.rows[kind] += other.rows[kind]
            self.merged[kind] += other.merged[kind]
        self.seconds += other.seconds
        self.fields += other.fields

    def figures(self) -> dict[str, float | None]:
        """Return what the table shows; no time where all fields were done already."""
        figures: dict[str, float | None] = {}
        for kind in KINDS:
            total = aggregate_instances(self.rows[kind])
            figures[f"{kind}_ap50"] = total["ap50_pooled"]
            figures[f"{kind}_merged"] = self.merged[kind] / max(total["objects_pred"], 1)
            figures[f"{kind}_true"] = total["objects_true"]
        return {**figures, "seconds_a_field": self.seconds / self.fields if self.fields else None}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nuclei_model", default="classical")
    parser.add_argument("--cell_model", default="classical")
    parser.add_argument("--n_fields", type=int, default=12, help="of every look [12]")
    parser.add_argument("--side", type=int, default=1024, help="pixels of a field [1024]")
    parser.add_argument("--looks", default=",".join(LOOKS), help="with commas between [all]")
    parser.add_argument("--output_dir", type=Path, default=Path("hpa_looks"))
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate and segment")
    options = parser.parse_args()
    quiet_libraries()
    engines = {"classical": Settings()}
    trained = Settings(options.nuclei_model, options.cell_model)
    if trained != Settings():
        engines["models"] = trained
    looks = options.looks.split(",")
    results = run(options.output_dir, engines, looks, options.n_fields, options.side, options.workers)
    for engine, figures in results.items():
        print_figures(engine, figures)


def run(
    folder: Path, engines: dict[str, Settings], looks: list[str], n_fields: int, side: int, workers: int = 1
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return (and write to results.json) the figures by engine and look."""
    results: dict[str, dict[str, dict[str, float | None]]] = {engine: {} for engine in engines}
    pooled = {engine: Tally() for engine in engines}
    for look in looks:
        fields = folder / look.replace(" ", "_")
        if not (fields / "simulated.csv").exists():
            settings = {"size": (side, side), "seed": SEED, "workers": workers, **LOOKS[look]}
            simulate_hpa_single_cell(fields, n_train=n_fields, **settings)
        for engine, settings_of in engines.items():
            tally = measure(fields, folder / engine / fields.name, settings_of, workers)
            results[engine][look] = tally.figures()
            pooled[engine].add(tally)
    for engine, tally in pooled.items():
        results[engine]["all"] = tally.figures()
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def measure(fields: Path, output: Path, settings: Settings, workers: int) -> Tally:
    """Segment the fields and compare them with the truth."""
    begun = time.perf_counter()
    summary = segment_files(
        fields / "train", output, fields / "train.csv", settings=settings, crops=False, workers=workers
    )
    assert not summary.failures, summary.failures
    tally = Tally(seconds=time.perf_counter() - begun, fields=summary.images - summary.resumed)
    for path in sorted((output / "masks").glob("*_cell.png")):
        for kind in KINDS:
            name = path.name.replace("_cell.png", f"_{kind}.png")
            true, found = (read_image(place / "masks" / name).astype(np.int32) for place in (fields, output))
            tally.rows[kind].append(score_instances(true, found))
            tally.merged[kind] += count_merged(true, found)
    return tally


def count_merged(true: np.ndarray, found: np.ndarray) -> int:
    """Count the found objects that hold more than half of the pixels of two true ones."""
    overlap = label_overlap(true, found)
    held = overlap.intersections > 0.5 * overlap.true_areas[overlap.rows]
    return int((np.bincount(overlap.cols[held], minlength=1) > 1).sum())


def print_figures(engine: str, figures: dict[str, dict[str, float | None]]) -> None:
    """Print the table of one engine."""
    columns = ("cells", "cell AP50", "merged", "nucleus AP50", "merged", "s / field")
    table = Table(engine, *columns, box=None, pad_edge=False)
    for look, own in figures.items():
        numbers = [f"{own['cell_true']:.0f}"]
        for kind in KINDS:
            numbers += [f"{own[f'{kind}_ap50']:.3f}", f"{own[f'{kind}_merged']:.3f}"]
        seconds = own["seconds_a_field"]
        table.add_row(look, *numbers, "-" if seconds is None else f"{seconds:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
