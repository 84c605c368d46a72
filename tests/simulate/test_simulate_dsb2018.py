"""The writer: contest layout, exact masks, same bytes whatever the workers, errors that name the remedy."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.simulate import LOOKS, simulate_dsb2018, simulate_nuclei


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("simulated") / "dsb"
    return simulate_dsb2018(output, n_train=9, n_test=2, seed=3, size=(96, 128))


def test_layout_is_the_contest_layout(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["simulated.csv", "stage1_test", "stage1_train"]
    for split, count in (("stage1_train", 9), ("stage1_test", 2)):
        images = sorted((folder / split).iterdir())
        assert len(images) == count
        for image in images:
            assert len(image.name) == 64 and set(image.name) <= set("0123456789abcdef")
            assert [path.name for path in (image / "images").iterdir()] == [f"{image.name}.png"]
            assert len(list((image / "masks").glob("*.png"))) >= 1


def test_masks_are_disjoint_and_cover_exactly_the_labels(folder):
    with (folder / "simulated.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["look"] for row in rows] == [list(LOOKS)[i % len(LOOKS)] for i in range(11)]
    for index, row in enumerate(rows):
        place = folder / ("stage1_train" if index < 9 else "stage1_test") / row["image_id"]
        simulated = simulate_nuclei(3, index, (96, 128), row["look"])
        masks = [read(path) for path in sorted((place / "masks").iterdir())]
        assert len(masks) == int(row["objects"]) == simulated.instance_labels.max()
        assert row["size"] == "96x128"
        assert all(mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255} for mask in masks)
        covered = np.sum([mask > 0 for mask in masks], axis=0)
        assert covered.max() == 1
        np.testing.assert_array_equal(covered > 0, simulated.instance_labels > 0)
        for mask in masks:  # each mask is one whole label
            (label,) = np.unique(simulated.instance_labels[mask > 0])
            assert (mask > 0).sum() == (simulated.instance_labels == label).sum()
        np.testing.assert_array_equal(read(place / "images" / f"{row['image_id']}.png"), simulated.image)


def test_same_seed_same_bytes_whatever_the_workers(folder, tmp_path):
    two = simulate_dsb2018(tmp_path / "two", n_train=9, n_test=2, seed=3, size=(96, 128), workers=2)
    assert fingerprint(two) == fingerprint(folder)
    other = simulate_dsb2018(tmp_path / "other", n_train=1, seed=4, size=(96, 128))
    assert not set(fingerprint(other)) & set(fingerprint(folder)) - {"simulated.csv"}


def test_writing_again_replaces_a_half_written_image(folder, tmp_path):
    first = simulate_dsb2018(tmp_path / "a", n_train=1, seed=3, size=(96, 128))
    (image,) = (first / "stage1_train").iterdir()
    (image / "masks" / "stray.png").write_bytes(b"half")
    again = simulate_dsb2018(first, n_train=1, seed=3, size=(96, 128))
    assert not (again / "stage1_train" / image.name / "masks" / "stray.png").exists()


@pytest.mark.parametrize("split", ["stage1_train", "stage1_test"])
def test_a_folder_with_other_images_is_refused_and_left_alone(tmp_path, split):
    other = tmp_path / split / "real-image"
    other.mkdir(parents=True)
    with pytest.raises(CellsError, match=r"real-image.*empty output folder"):
        simulate_dsb2018(tmp_path, n_train=1, size=(64, 64))
    assert [path.name for path in tmp_path.iterdir()] == [split]


def test_sixteen_bits_on_disk(tmp_path):
    out = simulate_dsb2018(tmp_path / "deep", n_train=6, seed=1, size=(64, 64), bit_depth=16)
    images = [read(path) for path in out.rglob("images/*.png")]
    assert len(images) == 6
    assert all(image.dtype == np.uint16 and image.max() > 255 for image in images)


def test_chosen_looks_and_mixed_sizes(tmp_path):
    out = simulate_dsb2018(tmp_path / "mixed", n_train=4, seed=0, size=None, looks=("clumps", "tissue"))
    rows = (out / "simulated.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["clumps", "tissue"] * 2
    for row in rows:
        name, look, size, _ = row.split(",")
        height, width = map(int, size.split("x"))
        assert (height, width) in LOOKS[look].sizes
        assert read(out / "stage1_train" / name / "images" / f"{name}.png").shape[:2] == (height, width)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 0}, "n_train"),
        ({"n_train": -3}, "n_train"),
        ({"n_test": -1}, "n_test"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
        ({"size": (8, 256)}, "at least 16"),
        ({"looks": ()}, "no look"),
        ({"looks": ("x-ray",)}, "x-ray.*fluorescence"),
        ({"bit_depth": 12}, "8 or 16"),
        ({"looks": ("tissue",), "bit_depth": 16}, "8-bit"),
    ],
)
def test_bad_requests_are_one_clear_line_and_write_nothing(tmp_path, arguments, message):
    with pytest.raises(CellsError, match=message) as caught:
        simulate_dsb2018(tmp_path / "no", **{"n_train": 1, "size": (64, 64)} | arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "no").exists()


def test_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CellsError, match="taken"):
        simulate_dsb2018(tmp_path / "taken", n_train=1, size=(64, 64))
    assert (tmp_path / "taken").read_text() == "mine"
