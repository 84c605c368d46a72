"""HEp-2 cells: the layouts and leaks of the real set, patterns that differ, same bytes whatever the workers."""

import csv
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from hf_cells.errors import CellsError
from hf_cells.simulate import simulate_hep2
from hf_cells.simulate.hep2 import CELLS, SPECIMENS, plan_cells
from hf_cells.simulate.hep2_cells import render_cell
from hf_cells.simulate.hep2_specimens import PATTERNS, draw_specimen
from hf_cells.simulate.writing import apportion, generator

NUMBERS = {"n_train": 60, "n_test": 21, "seed": 3, "duplicate_pairs": 5}


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def table(folder: Path, name: str = "simulated.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_hep2(tmp_path_factory.mktemp("hep2") / "sim", **NUMBERS)


def test_contest_layout(folder):
    places = {path.name for path in folder.iterdir()}
    assert places == {"training", "validation", "test", "gt_training.csv", "simulated.csv"}
    counts = {split: len(list((folder / split).iterdir())) for split in ("training", "validation", "test")}
    assert counts == {"training": 60, "validation": 15, "test": 21}
    files = sorted(folder.glob("*/*.png"), key=lambda path: path.name)
    assert [path.name for path in files] == [f"{number:05d}.png" for number in range(1, 97)]
    for path in files:
        image = read(path)
        assert image.dtype == np.uint8 and image.shape == (78, 78)
        assert image.min() == 0 and image.max() == 255
    assert (
        (folder / "gt_training.csv").read_bytes().startswith(b"Image ID,Image class\r\n00001,Homogeneous\r\n")
    )
    assert [row["Image ID"] for row in table(folder, "gt_training.csv")] == [path.stem for path in files]


def test_ids_run_through_classes_and_specimens_and_the_split_ignores_both(folder):
    labels = [row["Image class"] for row in table(folder, "gt_training.csv")]
    assert list(dict.fromkeys(labels)) == list(CELLS)
    assert sum(a != b for a, b in zip(labels, labels[1:], strict=False)) == len(CELLS) - 1
    rows = table(folder)
    assert [row["class_name"] for row in rows] == labels
    own = [row["specimen"] for row in rows if not row["copy_of"]]
    assert sum(a != b for a, b in zip(own, own[1:], strict=False)) == len(set(own)) - 1 > len(CELLS)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["specimen"], set()).add(row["file"].split("/")[0])
    assert sum(len(folders) > 1 for folders in sides.values()) > 0.8 * len(sides)
    for split in ("training", "validation", "test"):
        assert {row["class_name"] for row in rows if row["file"].startswith(split)} == set(CELLS)


def test_copies_have_the_same_pixels_in_other_bytes_at_one_offset(folder):
    rows = table(folder)
    path_of = {Path(row["file"]).stem: folder / row["file"] for row in rows}
    copies = [(Path(row["file"]).stem, row["copy_of"]) for row in rows if row["copy_of"]]
    assert len(copies) == 5 and {int(copy) - int(first) for copy, first in copies} == {5}
    for copy, first in copies:
        np.testing.assert_array_equal(read(path_of[copy]), read(path_of[first]))
        assert path_of[copy].read_bytes() != path_of[first].read_bytes()
    pixels = Counter(read(path).tobytes() for path in path_of.values())
    assert Counter(pixels.values()) == {1: 86, 2: 5}
    twice = {row["class_name"] for row in rows if pixels[read(folder / row["file"]).tobytes()] == 2}
    assert twice == {"NuMem"}


def test_in_full_numbers_the_plan_is_that_of_the_published_set():
    jobs = plan_cells((8701, 2175, 2720), seed=0, layout="contest", duplicate_pairs=None)
    counts = Counter(job.label for job in jobs)
    assert counts.total() == 13596 and max(abs(counts[label] - CELLS[label]) for label in CELLS) <= 1
    copies = [(int(Path(job.file).stem), int(job.copy_of)) for job in jobs if job.copy_of]
    assert copies == [(number + 194, number) for number in range(11005, 11199)]
    assert Counter(label for label, _ in {(job.label, job.specimen) for job in jobs}) == SPECIMENS


@given(st.integers(0, 500), st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(0, 3))
def test_apportion_is_exact_and_fair(total, shares, least):
    counts = apportion(total, np.array(shares), least)
    assert counts.sum() == total and counts.min() >= min(least, total // len(shares))
    if least == 0:
        assert np.abs(counts - total * np.array(shares) / sum(shares)).max() < 1


def test_class_folders_hold_the_same_cells(folder, tmp_path):
    other = simulate_hep2(tmp_path / "folders", layout="folders", **NUMBERS)
    assert sorted(path.name for path in other.iterdir()) == ["dataset", "simulated.csv"]
    names = {"training": "tra", "validation": "val", "test": "tes"}
    for row in table(folder):
        split, file = row["file"].split("/")
        copy = other / "dataset" / names[split] / row["class_name"] / file
        assert copy.read_bytes() == (folder / row["file"]).read_bytes()
    assert len(list(other.rglob("*.png"))) == 96


def test_same_seed_same_bytes_whatever_the_workers(folder, tmp_path):
    assert fingerprint(simulate_hep2(tmp_path / "two", workers=2, **NUMBERS)) == fingerprint(folder)
    other = simulate_hep2(tmp_path / "other", **NUMBERS | {"seed": 4})
    images = {read(path).tobytes() for path in other.rglob("*.png")}
    assert not images & {read(path).tobytes() for path in folder.rglob("*.png")}


def test_numbers_that_are_not_given_are_in_the_published_proportions(tmp_path):
    rows = table(simulate_hep2(tmp_path / "sim", n_train=32))
    splits = Counter(row["file"].split("/")[0] for row in rows)
    assert splits == {"training": 32, "validation": 8, "test": 10}


def cells(label: str, specimens: int, each: int) -> np.ndarray:
    """(specimens, each, 78, 78) float."""
    number = list(PATTERNS).index(label)
    looks = [draw_specimen(generator(11, number, s), label) for s in range(specimens)]
    return np.array(
        [
            [render_cell(generator(12, number, s, c), look) for c in range(each)]
            for s, look in enumerate(looks)
        ],
        float,
    )


@pytest.fixture(scope="module")
def by_class() -> dict[str, np.ndarray]:
    return {label: cells(label, specimens=12, each=4) for label in PATTERNS}


def distance_from_centre() -> np.ndarray:
    row, column = np.mgrid[:78, :78] - 38.5
    return np.hypot(row, column)


def test_each_pattern_has_its_mark(by_class):
    radius = distance_from_centre()
    inner, rim = radius < 14, (radius > 22) & (radius < 29)

    def median(measure) -> dict[str, float]:
        return {
            label: float(np.median([measure(cell) for cell in stack.reshape(-1, 78, 78)]))
            for label, stack in by_class.items()
        }

    def points(cell):
        sharp = ndimage.gaussian_filter(cell, 1) - ndimage.gaussian_filter(cell, 4)
        return ndimage.label(sharp > 0.25 * np.quantile(cell, 0.99))[1]

    edge = median(lambda cell: cell[rim].mean() / cell[inner].mean())
    assert edge["NuMem"] > max(edge["Homogeneous"], edge["Speckled"], edge["Centromere"])
    dots = median(points)
    assert dots["Centromere"] > 2 * max(dots[name] for name in PATTERNS if name != "Centromere")
    contrast = median(lambda cell: ndimage.gaussian_filter(cell, 1)[inner].std() / cell[inner].mean())
    assert contrast["Homogeneous"] < min(contrast[name] for name in ("Speckled", "Centromere", "Nucleolar"))
    outside = median(lambda cell: radius[cell >= np.quantile(cell, 0.99)].mean())
    assert outside["Golgi"] > max(outside[name] for name in PATTERNS if name not in ("Golgi", "NuMem"))
    central = median(lambda cell: cell[radius < 20].max() / np.median(cell[radius < 20]))
    assert central["Nucleolar"] > 1.5 * central["Homogeneous"]


def test_cells_of_a_specimen_look_alike(by_class):
    def measures(cell):
        noise = np.median(np.abs(cell - ndimage.gaussian_filter(cell, 1)))
        return [np.log(cell.mean()), np.log(noise + 0.1), np.log(np.quantile(cell, 0.05) + 1)]

    ratios = []
    for stack in by_class.values():
        values = np.array([[measures(cell) for cell in specimen] for specimen in stack])
        ratios.append(values.mean(1).var(0, ddof=1) / values.var(1, ddof=1).mean(0))
    brightness, noise, background = np.median(ratios, 0)  # 0.25 where specimens make no difference
    assert brightness > 0.6 and noise > 3 and background > 1


def test_brightness_varies_from_clean_to_noisy(by_class):
    noise = [
        np.median(np.abs(cell - ndimage.gaussian_filter(cell, 1)))
        for stack in by_class.values()
        for cell in stack[:, 0]
    ]
    assert np.quantile(noise, 0.9) > 3 * np.quantile(noise, 0.1)


def test_a_run_that_was_cut_off_is_finished(folder, tmp_path):
    started = tmp_path / "sim"
    shutil.copytree(folder, started)
    for lost in ("simulated.csv", "gt_training.csv", "training/00001.png"):
        (started / lost).unlink(missing_ok=True)
    simulate_hep2(started, **NUMBERS)
    assert fingerprint(started) == fingerprint(folder)


@pytest.mark.parametrize(
    "place", ["training/00001.png", "test/notes.txt", "gt_training.csv", "dataset/tra/a.png"]
)
def test_foreign_files_are_refused_and_left_alone(tmp_path, place):
    foreign = tmp_path / place
    foreign.parent.mkdir(parents=True, exist_ok=True)
    if place.endswith("png"):
        Image.new("L", (78, 78)).save(foreign)
    else:
        foreign.write_text("mine")
    before = fingerprint(tmp_path)
    layout = "folders" if place.startswith("dataset") else "contest"
    with pytest.raises(
        CellsError, match=r"is not of this simulation; choose an empty output folder"
    ) as caught:
        simulate_hep2(tmp_path, n_train=6, layout=layout)
    assert str(foreign) in str(caught.value)
    assert fingerprint(tmp_path) == before


def test_cells_of_other_numbers_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sim")
    for change in ({"seed": 4}, {"n_train": 66}, {"duplicate_pairs": 4}):
        with pytest.raises(CellsError, match="not of this simulation"):
            simulate_hep2(tmp_path / "sim", **NUMBERS | change)
    assert fingerprint(tmp_path / "sim") == fingerprint(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 5}, "n_train of 6 or more, one for each class"),
        ({"n_test": -1}, "n_test -1"),
        ({"n_validation": -1}, "n_validation is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"layout": "zip"}, "unknown layout 'zip'; choose from contest, folders"),
        ({"duplicate_pairs": 99}, "duplicate_pairs is 99; use 0 to"),
        ({"duplicate_pairs": -1}, "duplicate_pairs is -1; use 0 to"),
    ],
)
def test_bad_requests_are_one_clear_line_and_write_nothing(tmp_path, arguments, message):
    with pytest.raises(CellsError, match=message) as caught:
        simulate_hep2(tmp_path / "no", **{"n_train": 6} | arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "no").exists()


def test_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CellsError, match="cannot write .*taken"):
        simulate_hep2(tmp_path / "taken", n_train=6)
    assert (tmp_path / "taken").read_text() == "mine"
