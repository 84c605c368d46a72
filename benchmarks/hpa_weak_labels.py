"""Weak labels: how well single cells are labelled by models that have only seen the labels of whole fields.

    python benchmarks/hpa_weak_labels.py [--output_dir hpa_weak_labels] [--n_fields 480] [--quick]

Simulates fields of which every cell's labels are known, hides these, and goes the way of real data: `segment`, folds
by antibody, a model of single cells that learns the label of the field, a model of fields, and their fusion as
`predict --format hpa` does it. Cells of the test fold, whose antibodies no model has seen, are then labelled by chance,
by the field's scores (the same for all of its cells), by the cell's own, by these with what the field's cells say
together (`predict` without a model of fields), and by both models. How well each weight of the fusion does on the
validation fold, by the simulator's truth, is printed too: that is where the package's own comes from.

Two figures are printed for each: the metric of the 2021 challenge (mAP of segmented cells, mask IoU .6) with what
segmentation loses, and the plain mean average precision of those cells that were found, against the simulator's truth.
About half an hour on one core; what is done stays in --output_dir. --quick is a trial of a minute that says nothing.
"""

import argparse
import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hf_cells.dataset_scripts.hpa_single_cell import CLASS_NAMES
from rich.console import Console
from rich.table import Table

from hf_cells.data.folds import write_folds
from hf_cells.inference.hpa_fields import FieldCells, FieldClassifier
from hf_cells.inference.hpa_fusion import CELL_WEIGHT, fuse_scores, scores_of_field
from hf_cells.inference.segment_files import segment_files
from hf_cells.inference.segment_files_fields import find_fields, read_field
from hf_cells.metrics.classification import multilabel_metrics
from hf_cells.metrics.hpa import aggregate_cells, overlaps, predicted_cells, score_cells, true_cells
from hf_cells.models.image_reading import read_image
from hf_cells.models.saving import save_model_repository
from hf_cells.progress import track
from hf_cells.quiet import quiet_libraries
from hf_cells.simulate import simulate_hpa_single_cell

TEST_FOLD, VALIDATION_FOLD = 0, 1
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
CHANCE, IMAGE, CELL, FUSION = "chance", "image level only", "cell level only", "fusion"
TOGETHER = "cell level, field's cells together"
METHODS = (CHANCE, IMAGE, CELL, TOGETHER, FUSION)
COMPARED = ((CELL, IMAGE), (TOGETHER, IMAGE), (FUSION, IMAGE), (FUSION, CELL), (FUSION, TOGETHER))


@dataclass(frozen=True)
class Size:
    """How large the experiment is."""

    n_fields: int = 480
    n_test_fields: int = 150  # besides the test fold: they cost no training
    side: int = 384  # pixels of a field, 110 micrometres
    n_folds: int = 6
    widths: tuple[int, ...] = (32, 64, 128, 256)
    cell_side: int = 128
    cell_epochs: int = 20
    window: int = 192  # pixels of a field that the image model sees in a step of training
    field_samples: int = 640
    field_epochs: int = 20


QUICK = Size(36, 6, 192, 3, (8, 16), 32, 1, 96, 48, 1)


@dataclass(frozen=True)
class Judged:
    """A test field: its truth, what the models say, and which segmented cell is which true one."""

    found: FieldCells
    true_labels: np.ndarray  # (H, W)
    classes: list[tuple[int, ...]]
    antibody: str


def main() -> None:
    """Run the experiment and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, default=Path("hpa_weak_labels"))
    parser.add_argument("--n_fields", type=int, help="of all folds together [480]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate and segment")
    parser.add_argument("--quick", action="store_true", help="a trial of the program, not of the models")
    options = parser.parse_args()
    quiet_libraries()
    size = QUICK if options.quick else Size()
    if options.n_fields:
        size = Size(**{**vars(size), "n_fields": options.n_fields})
    results = run(options.output_dir, size, options.seed, options.workers)
    print_results(results)


def run(folder: Path, size: Size, seed: int = 0, workers: int = 1) -> dict[str, Any]:
    """Do what is not done yet, and return (and write to results.json) the figures of every method."""
    fields, cells = make_data(folder, size, seed, workers)
    further = make_test_fields(folder, size, seed, workers)
    cell_model = train_model(folder / "cell_model", cells, cell_overrides(size), seed)
    image_model = train_model(folder / "image_model", fields, field_overrides(size, cell_model), seed)
    classifier = FieldClassifier(cell_model, image_model)
    weights = compare_weights(judge(classifier, fields, cells, VALIDATION_FOLD))
    test = judge(classifier, fields, cells, TEST_FOLD) + judge(classifier, *further)
    results = {"fields": len(test), "methods": measure(test, seed), "weights_on_validation": weights}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def make_data(folder: Path, size: Size, seed: int, workers: int) -> tuple[Path, Path]:
    """Simulate, segment and divide into folds; returns the folder of fields and that of cells."""
    fields, cells = folder / "fields", folder / "cells"
    if not (fields / "simulated.csv").exists():
        _simulate(fields, size.n_fields, size, seed, workers)
    segment_files(fields / "train", cells, fields / "train.csv", workers=workers)
    write_folds(fields / "train.csv", fields / "folds.csv", size.n_folds, seed=seed)
    write_folds(
        cells / "cells.csv", cells / "folds.csv", size.n_folds, folds_of=fields / "folds.csv",
        groups_csv=fields / "antibodies.csv",
    )  # fmt: skip
    return fields, cells


def make_test_fields(folder: Path, size: Size, seed: int, workers: int) -> tuple[Path, Path]:
    """Simulate and segment fields of another seed, so of other antibodies; returns the folders as `make_data` does."""
    fields, cells = folder / "test_fields", folder / "test_cells"
    if not (fields / "simulated.csv").exists():
        _simulate(fields, size.n_test_fields, size, seed + 1_000, workers)
    segment_files(fields / "train", cells, fields / "train.csv", workers=workers)
    return fields, cells


def _simulate(fields: Path, count: int, size: Size, seed: int, workers: int) -> None:
    shape = (size.side, size.side)
    simulate_hpa_single_cell(
        fields, n_train=count, size=shape, seed=seed, field_um=110, rare=0, workers=workers
    )


def cell_overrides(size: Size) -> list[str]:
    """The recipe of cells at the size of the experiment."""
    return [
        "recipe=hpa_cells_128",
        "data.options={drop_border: false}",
        f"model.config.hidden_sizes={list(size.widths)}",
        f"processor.size={{height: {size.cell_side}, width: {size.cell_side}}}",
        f"training.epochs={size.cell_epochs}",
    ]


def field_overrides(size: Size, cell_model: Path) -> list[str]:
    """The recipe of fields: it starts from the model of cells, and sees windows of the pixels that there are."""
    return [
        "recipe=hpa_fields",
        f"model.init_from={cell_model}",
        f"model.config.hidden_sizes={list(size.widths)}",
        f"processor.size={{height: {size.side}, width: {size.side}}}",
        f"augmentation.size={[size.window] * 2}",
        f"augmentation.crop={[size.window / size.side] * 2}",
        f"training.samples_per_epoch={size.field_samples}",
        f"training.epochs={size.field_epochs}",
    ]


def train_model(folder: Path, data: Path, overrides: list[str], seed: int) -> Path:
    """Train a recipe with one fold left out, calibrate it on the next one, and save it; returns the model's folder."""
    from hf_cells.training.loop import train
    from hf_cells.training.one_run import forget_run
    from hf_cells.training.recipe import load_recipe
    from hf_cells.training.setup import prepare

    model_dir = folder / "model"
    if (model_dir / "config.json").exists():
        return model_dir
    name = overrides[0].removeprefix("recipe=")
    recipe = load_recipe(name, [*overrides[1:], f"data.options.fold={TEST_FOLD}"])
    recipe |= {"output_dir": str(folder / "run"), "seed": seed}
    recipe["data"]["data_dir"] = str(data)
    recipe["training"] |= {"workers": 0, "trackers": []}
    setup, _ = prepare(recipe, None)
    state = train(setup)
    model = setup.model.float().to("cpu").eval()
    setup.task.tune(setup, model)
    saved = save_model_repository(model, setup.processor, model_dir)
    forget_run()  # the next one may choose another precision
    print(
        f"{name}: {recipe['evaluation']['metric']} {state.best_score:.3f} on validation, {state.seconds:.0f} s"
    )
    return Path(saved)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labelled(
    classifier: FieldClassifier, fields: Path, cells: Path, fold: int | None
) -> dict[str, FieldCells]:
    """What the models say of the fields of a fold, or of all."""
    rows = read_table(fields / ("train.csv" if fold is None else "folds.csv"))
    wanted = [row["ID"] for row in rows if fold is None or int(row["fold"]) == fold]
    there = {one.field_id: one for one in find_fields(fields / "train", None)}
    found = {}
    for name in track(wanted, "labelling"):
        masks = read_image(cells / "masks" / f"{name}_cell.png").astype(np.int32)
        found[name] = classifier(read_field(there[name]), masks)
    return found


def judge(classifier: FieldClassifier, fields: Path, cells: Path, fold: int | None = None) -> list[Judged]:
    """Label the fields of a fold, or all, and put the simulator's truth beside."""
    antibody = {row["ID"]: row["antibody"] for row in read_table(fields / "antibodies.csv")}
    classes: dict[str, dict[int, tuple[int, ...]]] = defaultdict(dict)
    for row in read_table(fields / "cells.csv"):
        classes[row["ID"]][int(row["cell_number"])] = tuple(int(part) for part in row["Label"].split("|"))
    judged = []
    for name, found in labelled(classifier, fields, cells, fold).items():
        true_labels = read_image(fields / "masks" / f"{name}_cell.png").astype(np.int32)
        own = [classes[name][number] for number in sorted(classes[name])]
        judged.append(Judged(found, true_labels, own, f"{fields.name} {antibody[name]}"))
    return judged


def scores_of(method: str, one: Judged, draw: np.random.Generator) -> np.ndarray:
    """Return (n, 19) scores of the segmented cells."""
    cells, image = one.found.cell_scores, one.found.image_scores
    if method == CHANCE:
        return draw.random(cells.shape)
    if method == CELL:
        return cells
    if method == IMAGE:
        return np.broadcast_to(image, cells.shape)
    return fuse_scores(cells, scores_of_field(cells, None if method == TOGETHER else image))


def measure(test: list[Judged], seed: int) -> dict[str, dict[str, Any]]:
    """Measure all methods, and what one gains on another: 95 % of 300 draws of the antibodies."""
    draw = np.random.default_rng(seed)
    scores = {m: [scores_of(m, one, draw) for one in test] for m in METHODS}
    truths = [true_cells(one.true_labels, one.classes) for one in test]
    pairs = [matched(one) for one in test]
    names = [str(k) for k in range(len(CLASS_NAMES))]
    truth = np.concatenate([multi_hot(one, pair) for one, pair in zip(test, pairs, strict=True)])
    units: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(test):
        units[one.antibody].append(index)
    draws = [draw.choice(list(units), len(units)) for _ in range(300)]
    measured: dict[str, dict[str, Any]] = {}
    resampled: dict[str, np.ndarray] = {}
    for name, own in scores.items():
        images = [
            score_cells(t, predicted_cells(one.found.cells, s), verified=range(len(CLASS_NAMES)))
            for t, one, s in zip(truths, test, own, strict=True)
        ]
        total = aggregate_cells(images)
        flat = np.concatenate([s[pair[:, 1] - 1] for s, pair in zip(own, pairs, strict=True)])
        plain = multilabel_metrics(truth, flat, flat > 0.5, names)
        resampled[name] = np.array(
            [
                aggregate_cells([images[i] for unit in again for i in units[unit]])["mean_average_precision"]
                for again in draws
            ]
        )
        measured[name] = {
            "challenge_map": total["mean_average_precision"],
            "cell_map": plain["mean_average_precision"],
            "average_precision": {  # of the labels that the test fold has
                label: value
                for label, value in zip(CLASS_NAMES, total["average_precision"], strict=True)
                if not np.isnan(value)
            },
        }
    for method, other in COMPARED:
        gain = np.percentile(resampled[method] - resampled[other], [2.5, 97.5]).tolist()
        measured[method].setdefault("gain_interval", {})[other] = gain
    return measured


def compare_weights(fields: list[Judged]) -> dict[str, float]:
    """Return the mean average precision of found cells for each weight of the cells in the fusion."""
    pairs = [matched(one) for one in fields]
    truth = np.concatenate([multi_hot(one, pair) for one, pair in zip(fields, pairs, strict=True)])
    names = [str(k) for k in range(len(CLASS_NAMES))]
    found = {}
    for weight in WEIGHTS:
        fused = []
        for one in fields:
            cells, image = one.found.cell_scores, one.found.image_scores
            fused.append(fuse_scores(cells, scores_of_field(cells, image), weight))
        flat = np.concatenate([s[pair[:, 1] - 1] for s, pair in zip(fused, pairs, strict=True)])
        measured = multilabel_metrics(truth, flat, flat > 0.5, names)
        found[f"{weight:g}"] = measured["mean_average_precision"]
    return found


def matched(one: Judged) -> np.ndarray:
    """Return (m, 2) numbers of true and segmented cells with a mask IoU of .6, which pairs each at most once."""
    truth = true_cells(one.true_labels, one.classes)
    found = predicted_cells(one.found.cells, np.zeros((one.found.cell_scores.shape[0], 1)))
    shared, true_areas, areas = overlaps(truth.runs, found.runs, truth.shape)
    iou = shared / np.maximum(true_areas[:, None] + areas[None] - shared, 1)
    return np.argwhere(iou >= 0.6) + 1


def multi_hot(one: Judged, pairs: np.ndarray) -> np.ndarray:
    """Return the (m, 19) true labels of the matched cells."""
    truth = np.zeros((len(pairs), len(CLASS_NAMES)), int)
    for line, (number, _) in zip(truth, pairs, strict=True):
        line[list(one.classes[number - 1])] = 1
    return truth


def print_results(results: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("method", "challenge mAP", "mAP of found cells", box=None, pad_edge=False)
    for name, own in results["methods"].items():
        table.add_row(name, f"{own['challenge_map']:.3f}", f"{own['cell_map']:.3f}")
    console = Console(width=100)
    console.print(table)
    for method, other in COMPARED:
        low, high = results["methods"][method]["gain_interval"][other]
        console.print(f"{method} less {other}: {low:+.3f} to {high:+.3f} (95 %, antibodies drawn again)")
    console.print(f"{results['fields']} test fields")
    told = ", ".join(f"{weight} {value:.3f}" for weight, value in results["weights_on_validation"].items())
    console.print(f"mAP of found cells of the validation fold by the weight of the cells: {told}")
    console.print(f"the fusion's weight is {CELL_WEIGHT}")


if __name__ == "__main__":
    main()
