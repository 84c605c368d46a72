"""Glomeruli: the layout and names of the real set, two kinds that differ, cases that look alike."""

import csv
import hashlib
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.simulate import simulate_glomeruli
from hf_cells.simulate.glomeruli import plan_crops
from hf_cells.simulate.glomerulus import render_crop
from hf_cells.simulate.pas_stain import draw_case, draw_slide
from hf_cells.simulate.writing import generator

NAME = re.compile(r"(?P<case>S-19\d{2}-\d{6})_PAS_(?P<slide>[123]of[123])_[0-9a-f]{24}\.png")
SETTINGS = {"n_train": 20, "n_test": 4, "seed": 3, "size_range": (48, 96)}


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_glomeruli(tmp_path_factory.mktemp("glomeruli") / "sim", **SETTINGS)


def test_layout_of_the_source(folder):
    assert {path.name for path in folder.iterdir()} == {"public", "public.csv", "simulated.csv"}
    rows = table(folder / "public.csv")
    assert list(rows[0]) == ["name", "ground truth"]
    assert [row["name"] for row in rows] == sorted(path.name for path in (folder / "public").iterdir())
    assert Counter(row["ground truth"] for row in rows) == {"0": 20, "1": 4}
    shapes = []
    for row in rows:
        assert NAME.fullmatch(row["name"])
        with Image.open(folder / "public" / row["name"]) as image:
            assert image.mode == "RGBA" and image.getextrema()[3] == (255, 255)
            shapes.append(image.size)
    assert np.min(shapes) >= 48 and np.max(shapes) <= 96
    assert np.mean([width != height for width, height in shapes]) > 0.6


def test_cases_have_several_crops_on_one_or_two_slides(folder):
    slides, crops = defaultdict(set), Counter()
    for row in table(folder / "simulated.csv"):
        name = NAME.fullmatch(Path(row["file"]).name)
        assert name["case"] == row["case"] and name["slide"] == row["slide"]
        assert int(row["case"][2:6]) < 1910  # nobody's
        slides[row["case"]].add(row["slide"])
        crops[row["case"]] += 1
    assert len(crops) == 6 and max(crops.values()) > 3
    assert {len(found) for found in slides.values()} <= {1, 2}
    truth = {row["name"]: row["ground truth"] for row in table(folder / "public.csv")}
    rows = table(folder / "simulated.csv")
    assert {Path(row["file"]).name: row["sclerotic"] for row in rows} == truth


def test_in_full_numbers_the_plan_resembles_the_real_set():
    jobs, cases, slides = plan_crops(5758, seed=0, sclerotic_fraction=1054 / 5758)
    assert sum(job.sclerotic for job in jobs) == 1054
    assert len(cases) == len(set(cases)) == len({job.case for job in jobs}) > 200
    assert len({job.file for job in jobs}) == 5758 and {job.slide for job in jobs} <= set(range(len(slides)))
    share = [np.mean([job.sclerotic for job in jobs if job.case == case]) for case in range(len(cases))]
    assert np.quantile(share, 0.25) < 0.08 and np.quantile(share, 0.95) > 0.4
    owner = defaultdict(set)
    for job in jobs:
        owner[job.slide].add(job.case)
    assert all(len(found) == 1 for found in owner.values())


def test_same_seed_same_bytes_whatever_the_workers(folder, tmp_path):
    assert fingerprint(simulate_glomeruli(tmp_path / "two", workers=2, **SETTINGS)) == fingerprint(folder)
    other = simulate_glomeruli(tmp_path / "other", **SETTINGS | {"seed": 4})
    assert not set(fingerprint(other).values()) & set(fingerprint(folder).values())


def crop(case: int, number: int, sclerotic: bool, size_range=(70, 229)) -> np.ndarray:
    look = draw_slide(generator(22, case), draw_case(generator(21, case)))
    return render_crop(generator(23, number), look, sclerotic, size_range)[..., :3].astype(float)


@pytest.fixture(scope="module")
def crops() -> dict[bool, list[np.ndarray]]:
    return {kind: [crop(n, 100 * kind + n, kind) for n in range(24)] for kind in (False, True)}


def test_scars_are_smaller_and_have_fewer_nuclei_and_open_spaces(crops):
    def middle(image):
        height, width = image.shape[:2]
        return image[height // 4 : -height // 4, width // 4 : -width // 4]

    def nuclei(image):  # haematoxylin takes red, PAS does not
        return (middle(image)[..., 0] < 0.55 * np.quantile(image[..., 0], 0.95)).mean()

    def white(image):
        return (image.min(2) > 0.85 * np.quantile(image.min(2), 0.99)).mean()

    for measure in (nuclei, white, lambda image: image.size):
        open_, scar = ([measure(image) for image in crops[kind]] for kind in (False, True))
        assert np.median(open_) > 1.3 * np.median(scar)
        assert max(scar) > min(open_)  # none of them decides alone


def test_the_stain_is_pink_to_purple(crops):
    for image in crops[False] + crops[True]:
        red, green, blue = image.mean((0, 1))
        assert green < red and green < blue and image.mean() > 100


def test_crops_of_a_case_share_its_colours():
    images = [[crop(case, 50 + 5 * case + n, False) for n in range(5)] for case in range(8)]
    colour = np.array([[np.quantile(image, 0.9, (0, 1)) for image in case] for case in images])
    within, between = colour.var(1, ddof=1).mean(0), colour.mean(1).var(0, ddof=1)
    assert (between > 2 * within).all()


def test_a_smaller_range_is_a_lower_magnification():
    small, large = (crop(1, 7, False, size_range) for size_range in ((64, 200), (128, 400)))
    assert np.allclose(2 * np.array(small.shape[:2]), large.shape[:2], atol=2)


def test_a_run_that_was_cut_off_is_finished(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sim")
    (tmp_path / "sim/simulated.csv").unlink()
    (tmp_path / "sim/public.csv").unlink()
    next((tmp_path / "sim/public").iterdir()).unlink()
    assert fingerprint(simulate_glomeruli(tmp_path / "sim", **SETTINGS)) == fingerprint(folder)


@pytest.mark.parametrize("place", ["public/S-1901-123456_PAS_1of2_0123.png", "public.csv"])
def test_foreign_files_are_refused_and_left_alone(tmp_path, place):
    foreign = tmp_path / place
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    with pytest.raises(CellsError, match="is not of this simulation; choose an empty output folder"):
        simulate_glomeruli(tmp_path, n_train=2, size_range=(24, 32))
    assert fingerprint(tmp_path) == {place: hashlib.sha256(b"mine").hexdigest()}


def test_crops_of_other_settings_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sim")
    for change in ({"seed": 4}, {"n_train": 30}, {"size_range": (48, 97)}, {"sclerotic_fraction": 0.5}):
        with pytest.raises(CellsError, match="not of this simulation"):
            simulate_glomeruli(tmp_path / "sim", **SETTINGS | change)
    assert fingerprint(tmp_path / "sim") == fingerprint(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 1}, "n_train of 2 or more, one for each class"),
        ({"n_test": -1}, "n_test -1"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"size_range": (8, 64)}, r"size_range is \(8, 64\); give"),
        ({"size_range": (64, 64)}, "size_range is"),
        ({"size_range": 64}, "size_range is 64"),
        ({"size_range": (64, 96, 128)}, "size_range is"),
        ({"size_range": ("a", "b")}, "size_range is"),
        ({"sclerotic_fraction": 0.0}, "sclerotic_fraction is 0.0"),
        ({"sclerotic_fraction": 1.0}, "sclerotic_fraction is 1.0"),
    ],
)
def test_bad_requests_are_one_clear_line_and_write_nothing(tmp_path, arguments, message):
    with pytest.raises(CellsError, match=message) as caught:
        simulate_glomeruli(tmp_path / "no", **{"n_train": 2, "size_range": (24, 32)} | arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "no").exists()
