"""Simulated HPA fields: the challenge's layout, exact truth, proteins where they belong, same bytes."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hf_cells.dataset_scripts import hpa_single_cell as script
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.simulate import simulate_hpa_single_cell
from hf_cells.simulate.hpa import plan_fields
from hf_cells.simulate.hpa_culture import LINES, grow_culture
from hf_cells.simulate.hpa_field import COLOURS, Antibody, Conditions, SimulatedField, simulate_field
from hf_cells.simulate.hpa_markers import microtubules, reticulum
from hf_cells.simulate.hpa_proteins import INTERPHASE, NEGATIVE, SPINDLE, paint
from hf_cells.simulate.writing import generator

NUMBERS = {"n_train": 5, "n_test": 2, "seed": 4, "size": (96, 80), "looks": ["HeLa", "BJ"]}


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_hpa_single_cell(tmp_path_factory.mktemp("hpa") / "sim", **NUMBERS)


def test_layout_of_the_challenge(folder):
    for split, count in (("train", 5), ("test", 2)):
        ids = [row["ID"] for row in rows(folder / f"{split}.csv")]
        assert len(ids) == len(set(ids)) == count
        assert {p.name for p in (folder / split).iterdir()} == {f"{i}_{c}.png" for i in ids for c in COLOURS}
        for name in ids:
            planes = [read(folder / split / f"{name}_{colour}.png") for colour in COLOURS]
            assert {(p.dtype.name, p.shape) for p in planes} == {("uint8", (96, 80))}
            assert all(p.max() > 30 for p in planes[::2])  # red and blue always show something
    assert [row["cell_line"] for row in rows(folder / "antibodies.csv")] == ["HeLa", "BJ"] * 3 + ["HeLa"]


def test_labels_of_a_field_are_the_union_of_its_cells(folder):
    of_cells: dict[str, dict[int, set[str]]] = {}
    for row in rows(folder / "cells.csv"):
        of_cells.setdefault(row["ID"], {})[int(row["cell_number"])] = set(row["Label"].split("|"))
    for row in rows(folder / "train.csv") + rows(folder / "test.csv"):
        own = of_cells[row["ID"]]
        assert set(row["Label"].split("|")) == set.union(*own.values())
        assert all(labels == {str(NEGATIVE)} or str(NEGATIVE) not in labels for labels in own.values())
        cell, nucleus = (read(folder / "masks" / f"{row['ID']}_{kind}.png") for kind in ("cell", "nucleus"))
        assert cell.dtype == nucleus.dtype == np.uint16
        assert sorted(own) == list(range(1, int(cell.max()) + 1)) == np.unique(nucleus)[1:].tolist()
        assert (cell[nucleus > 0] == nucleus[nucleus > 0]).all()


def test_no_antibody_is_in_train_and_test():
    jobs = plan_fields((40, 20), 0, tuple(LINES), (64, 64), 164.0, 0.5)
    names = {split: {job.antibody.name for job in jobs if job.split == split} for split in ("train", "test")}
    assert not names["train"] & names["test"] and len(names["train"]) == 14


def test_every_label_comes_when_there_are_enough_fields():
    jobs = plan_fields((60, 0), 1, tuple(LINES), (64, 64), 164.0, 1.0)
    assert {label for job in jobs for label in job.antibody.labels} == set(range(19))


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path, folder):
    again = simulate_hpa_single_cell(tmp_path / "again", **NUMBERS, workers=2)
    assert fingerprint(again) == fingerprint(folder)
    other = simulate_hpa_single_cell(tmp_path / "other", **{**NUMBERS, "n_train": 1, "n_test": 0, "seed": 5})
    assert not set(fingerprint(other).values()) & set(fingerprint(folder).values())


def test_sixteen_bits(tmp_path):
    folder = simulate_hpa_single_cell(tmp_path / "deep", n_train=1, size=(64, 64), bit_depth=16)
    image = read(next((folder / "train").glob("*_blue.png")))
    assert image.dtype == np.uint16 and image.max() > 300


def test_conditions_change_the_look_and_nothing_else_when_they_are_usual():
    def field(**factors: float) -> SimulatedField:
        antibody = Antibody("A", (16,), (1.0,), 100.0)
        return simulate_field(generator(9), (128, 128), "U2OS", antibody, 0.64, 8, Conditions(**factors))

    def grain(one: SimulatedField) -> float:
        """What changes from pixel to pixel outside of cells."""
        return float(
            np.abs(np.diff(one.channels[..., 2].astype(float), axis=0))[:60][one.cell_labels[:60] == 0].mean()
        )

    usual = field()
    antibody = Antibody("A", (16,), (1.0,), 100.0)
    assert (usual.channels == simulate_field(generator(9), (128, 128), "U2OS", antibody, 0.64).channels).all()
    dim, blurred, noisy = field(brightness=0.3), field(blur=6), field(noise=5)
    for other in (dim, blurred, noisy):
        assert (other.cell_labels == usual.cell_labels).all()
    red = usual.channels[..., 0].astype(float)
    assert dim.channels[..., 0].mean() < 0.6 * red.mean()
    edges = [np.abs(np.diff(one.channels[..., 2].astype(float), axis=1)).max() for one in (usual, blurred)]
    assert edges[1] < 0.7 * edges[0]
    assert grain(noisy) > 2 * grain(usual)
    crowded, sparse = (
        np.mean(
            [
                (
                    simulate_field(
                        generator(9, n), (128, 128), "U2OS", antibody, 0.64, 8, Conditions(density=d)
                    ).cell_labels
                    > 0
                ).mean()
                for n in range(4)
            ]
        )
        for d in (1.6, 0.4)
    )
    assert crowded > 1.3 * sparse


def test_other_images_are_neither_mixed_nor_replaced(tmp_path, folder):
    with pytest.raises(CellsError, match="not of this simulation"):
        simulate_hpa_single_cell(folder, **{**NUMBERS, "seed": 9})
    before = fingerprint(folder)
    simulate_hpa_single_cell(folder, **NUMBERS)
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bit_depth": 12}, "bit_depth"),
        ({"size": (20, 64)}, "64 pixels"),
        ({"looks": ["HeLa", "CHO"]}, "'CHO'"),
        ({"looks": []}, "no look"),
        ({"field_um": 5}, "field_um"),
        ({"rare": 2}, "rare"),
        ({"blur": 0}, "blur is 0"),
        ({"density": 11}, "density is 11"),
        ({"n_train": 0}, "n_train"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_numbers_are_refused(tmp_path, wrong, said):
    with pytest.raises(CellsError, match=said):
        simulate_hpa_single_cell(tmp_path, **{"n_train": 1, **wrong})
    assert not any(tmp_path.iterdir())


def test_labels_are_those_of_the_script():
    names = script.CLASS_NAMES
    assert COLOURS == script.COLOURS and len(names) == NEGATIVE + 1
    assert (names[SPINDLE], names[NEGATIVE]) == ("Mitotic spindle", "Negative")
    # The two that are made of the reference stains.
    assert (names[6], names[10]) == ("Endoplasmic reticulum", "Microtubules")
    undivided = [name for name in names if name.startswith("Nucle")]
    undivided += ["Golgi apparatus", "Intermediate filaments", "Microtubules"]
    assert sorted(names[label] for label in INTERPHASE) == sorted(undivided)


@pytest.fixture(scope="module")
def cells():
    """Cells at four pixels a micrometre, and one that divides."""
    grown = grow_culture(generator(5), (320, 320), LINES["HeLa"], 4.0, "some").cells
    resting = [
        cell for cell in grown if not cell.dividing and cell.box[0].start > 0 and cell.box[0].stop < 320
    ]
    return resting[:4], next(cell for cell in grown if cell.dividing)


def share(light: np.ndarray, place: np.ndarray) -> float:
    return float(light[place].sum() / light.sum())


@pytest.mark.parametrize("label", range(19))
def test_every_pattern_is_where_it_belongs(cells, label):
    resting, dividing = cells
    for cell in [dividing] if label == SPINDLE else resting:
        rng = generator(1, label)
        light = paint(rng, cell, label, microtubules(rng, cell), reticulum(rng, cell))
        assert light.shape == cell.shape and (light >= 0).all() and (light[~cell.mask] == 0).all()
        if label == NEGATIVE:
            assert not light.any()
            continue
        grown = cell.outward < cell.microns(0.6)
        if label in (0, 2, 3, 4, 5):
            assert share(light, grown) > 0.98
        elif label == 1:
            rim = np.abs(cell.outward) < cell.microns(0.4)
            assert light[rim].mean() > 2.5 * light[cell.mask & ~rim].mean()
        elif label in (6, 7, 8, 14, 16, 17):
            assert light[cell.cytoplasm].mean() > 1.3 * light[cell.nucleus].mean()
        elif label == 13:
            rim = cell.inward < cell.microns(0.6)
            assert light[rim & cell.mask].mean() > 2 * light[cell.mask & ~rim].mean()
        elif label in (12, 15):
            away = np.hypot(*(np.indices(cell.shape) - cell.pole[:, None, None]))
            assert (
                light[away < cell.microns(1.5)].mean()
                > 4 * light[cell.mask & (away > cell.microns(4))].mean()
            )
        elif label == SPINDLE:
            near = cell.outward < cell.microns(4)
            assert light[near & cell.mask].mean() > 2 * light[~near & cell.mask].mean()


def test_fibrillar_centres_lie_in_nucleoli(cells):
    for cell in cells[0]:
        rng = generator(2)
        light = paint(rng, cell, 3, microtubules(rng, cell), reticulum(rng, cell))
        assert light[cell.nucleoli > 0.5].mean() > 3 * light[(cell.nucleoli < 0.1) & cell.nucleus].mean()


def test_only_dividing_cells_show_the_spindle():
    antibody = Antibody("A", (SPINDLE, 16), (1.0, 0.5), 150.0)
    for number in range(3):
        field = simulate_field(generator(3, number), (128, 128), "HeLa", antibody, 0.6)
        assert any(SPINDLE in own for own in field.cell_classes)
        assert not all(SPINDLE in own for own in field.cell_classes)


@pytest.mark.parametrize("line", LINES)
def test_cells_of_every_line_touch_and_own_their_nuclei(line):
    touching = 0
    for number in range(3):
        grown = grow_culture(generator(6, number), (256, 256), LINES[line], 256 / 164)
        labels = grown.cell_labels
        assert len(grown.cells) == labels.max() >= 1
        for index, cell in enumerate(grown.cells, start=1):
            assert (cell.mask == (labels[cell.box] == index)).all() and cell.nucleus.any()
            assert cell.mask[cell.nucleus].all()
        pairs = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
        touching += int(pairs.any())
    assert touching >= 1


def test_brightness_and_sparsity_are_those_of_real_fields(real_data):
    """Dark medium over a large part of the field, and the same order of brightness, as in two real fields."""
    import io
    import zipfile

    archive = zipfile.ZipFile(real_data("hpa_fields.zip"))
    for colour in ("red", "blue", "yellow"):
        real = [
            np.array(Image.open(io.BytesIO(archive.read(name))))[::4, ::4]
            for name in archive.namelist()
            if name.endswith(f"_{colour}.png")
        ]
        made = [
            simulate_field(
                generator(8, n), (256, 256), "U2OS", Antibody("A", (16,), (1.0,), 100.0), 0.64
            ).channels[..., COLOURS.index(colour)]
            for n in range(4)
        ]
        for percentile in (25, 99):
            found, wanted = (np.mean([np.percentile(i, percentile) for i in group]) for group in (made, real))
            assert found < wanted + 12 if percentile == 25 else 0.3 * wanted < found < 3 * wanted
