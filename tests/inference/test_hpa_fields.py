"""Fusion of fields and cells, and its files: by hand, on tiny cultures with untrained models, and with faults."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_hpa_fields import COLOURS, draw_culture, write_field

from hf_cells import models
from hf_cells.cli.app import app
from hf_cells.errors import CellsError
from hf_cells.inference.cell_crops import cell_rows, write_crops
from hf_cells.inference.hpa_fields import FieldClassifier, cut_cells, predict_fields
from hf_cells.inference.hpa_fusion import CELL_WEIGHT, decide_cells, fuse_scores, scores_of_field
from hf_cells.inference.hpa_submission import read_submission

LABELS = {0: "Nucleoplasm", 1: "Cytosol", 2: "Negative"}


def save_model(folder, seed=0, **changes):
    torch.manual_seed(seed)
    given = {"problem_type": "multi_label_classification", "id2label": LABELS, **changes}
    config = models.CellClassificationConfig(num_channels=4, hidden_sizes=[4], stem_stride=2, **given)
    processor = models.CellClassificationImageProcessor(
        num_channels=4, channel_names=list(COLOURS), scaling="dtype", size={"height": 16, "width": 16}
    )
    return str(models.save_model_repository(models.CellForImageClassification(config), processor, folder))


@pytest.fixture(scope="module")
def cell_model(tmp_path_factory):
    thresholds = {"Nucleoplasm": 0.4, "Negative": 0.7}
    return save_model(tmp_path_factory.mktemp("models") / "cells", decision_thresholds=thresholds)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    thresholds = {"Nucleoplasm": 0.2, "Cytosol": 0.9}
    return save_model(tmp_path_factory.mktemp("models") / "fields", 1, decision_thresholds=thresholds)


@pytest.fixture
def culture(tmp_path):
    """Two fields `a` and `b` with the masks of `hf-cells segment`."""
    (tmp_path / "masks").mkdir()
    for seed, name in enumerate("ab"):
        images, _, cells = draw_culture(96, seed, cells=4)
        write_field(tmp_path / "fields", name, images)
        Image.fromarray(cells.astype(np.uint16)).save(tmp_path / "masks" / f"{name}_cell.png")
    return tmp_path


# ---------------------------------------------------------------- the fusion


def test_fusion_by_hand():
    cells, image = np.array([[0.9, 0.4], [0.1, 0.4]]), np.array([0.4, 0.9])
    np.testing.assert_allclose(fuse_scores(cells, image, 0.5), [[0.6, 0.6], [0.2, 0.6]])
    np.testing.assert_allclose(fuse_scores(cells, image)[0, 0], 0.9**CELL_WEIGHT * 0.4 ** (1 - CELL_WEIGHT))
    np.testing.assert_allclose(fuse_scores(cells, image, 0.25)[0, 0], 0.9**0.25 * 0.4**0.75)
    np.testing.assert_allclose(fuse_scores(cells, image, 1), cells)
    np.testing.assert_allclose(fuse_scores(cells, image, 0), [image, image])
    with pytest.raises(ValueError, match="give 0 to 1"):
        fuse_scores(cells, image, 1.5)


def test_what_the_cells_of_a_field_say_together():
    cells = np.array([[0.1], [0.9], [np.nan], [0.2], [0.7], [0.3]])
    assert scores_of_field(cells) == pytest.approx([0.8])  # two of five
    assert scores_of_field(cells, np.array([0.2])) == pytest.approx([0.4])
    assert scores_of_field(cells[:1]) == pytest.approx([0.1])
    assert scores_of_field(cells[2:3]).tolist() == [0] and scores_of_field(cells[:0]).tolist() == [0]


def test_decisions_by_hand():
    """At the thresholds of both models a cell just gets the label; one that is many is not helped by that."""
    cut, of_fields = np.array([0.4, 0.6]), np.array([0.3, 0.8])
    assert decide_cells(cut[None], of_fields, cut, of_fields, 0.5).all()
    assert not decide_cells(cut[None] - 0.01, of_fields, cut, of_fields, 0.5).any()
    crowd = np.full((20, 1), 0.3)
    crowd[0] = 0.9  # among twenty one is sure
    alone = decide_cells(crowd, None, np.array([0.5]), None, 0.5)
    assert alone[:, 0].tolist() == [True, *[False] * 19]  # sqrt(0.9 * 0.33) is above a half
    assert not decide_cells(np.full((1, 2), np.nan), None, cut, None, 0).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(0.05, 1))
def test_within_a_field_the_cells_keep_their_order_and_the_field_is_a_gate(seed, weight):
    draw = np.random.default_rng(seed)
    cells, image = draw.random((6, 3)), draw.random(3)
    fused = fuse_scores(cells, image, weight)
    assert (fused.argsort(0) == cells.argsort(0)).all()
    assert (fused >= np.minimum(cells, image) - 1e-12).all()
    assert (fused <= np.maximum(cells, image) + 1e-12).all()
    assert (fuse_scores(cells, np.zeros(3), min(weight, 0.99)) == 0).all()


# ---------------------------------------------------------------- cells and fields


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_cells_are_cut_as_segment_writes_them(tmp_path, kind):
    images, _, cells = draw_culture(96, 0, cells=4)
    scale = {"uint8": 1, "uint16": 200, "float32": 0.01}[kind]
    channels = {colour: (plane * scale).astype(kind) for colour, plane in images.items()}
    rows = cell_rows("a", cells, "0")
    write_crops(tmp_path, rows, cells, channels)
    crops = cut_cells(channels, cells)
    assert list(crops) == [row["cell_number"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        for colour, crop in crops[row["cell_number"]].items():
            stored = np.array(Image.open(tmp_path / f"{row['cell_id']}_{colour}.png"))
            assert stored.dtype == crop.dtype and (stored == crop).all()


def test_a_field_gets_both_scores_and_fused_decisions(cell_model, image_model):
    images, _, cells = draw_culture(96, 0, cells=4)
    found = FieldClassifier(cell_model, image_model, weight=0.3)(images, cells)
    pipes = [models.pipeline(model) for model in (cell_model, image_model)]
    crops = cut_cells(images, cells)
    np.testing.assert_allclose(found.cell_scores, pipes[0].probabilities(crops.values()), rtol=1e-5)
    np.testing.assert_allclose(found.image_scores, pipes[1].probabilities([images])[0], rtol=1e-5)
    field = np.sqrt(found.cell_scores.max(0) * found.image_scores)  # one is a quarter of four
    np.testing.assert_allclose(found.scores, found.cell_scores**0.3 * field**0.7, rtol=1e-6)
    cut = np.array([0.4, 0.5, 0.7]) ** 0.3 * np.array([0.2, 0.9, 0.5]) ** 0.7
    assert (found.labels == (found.cell_scores**0.3 * found.image_scores**0.7 >= cut)).all()


def test_without_an_image_model_the_cells_of_a_field_speak_for_it(cell_model):
    images, _, cells = draw_culture(96, 0, cells=4)
    cells[cells == 2] = 0  # numbers may be missing
    found = FieldClassifier(cell_model, weight=0.3)(images, cells)
    there = [0, 2, 3]
    surest = found.cell_scores[there].max(0)  # one is a quarter of three
    np.testing.assert_allclose(found.scores[there], found.cell_scores[there] ** 0.3 * surest**0.7, rtol=1e-6)
    usual = found.cell_scores[there] ** 0.3 * found.cell_scores[there].mean(0) ** 0.7
    assert found.image_scores is None and (found.labels[there] == (usual >= [0.4, 0.5, 0.7])).all()
    assert np.isnan(found.scores[1]).all() and not found.labels[1].any()
    by_field = FieldClassifier(cell_model, weight=0)(images, cells)
    assert np.isnan(by_field.scores[1]).all() and not by_field.labels[1].any()
    alone = FieldClassifier(cell_model, weight=1)(images, cells)
    np.testing.assert_allclose(alone.scores, alone.cell_scores)
    one = FieldClassifier(cell_model)(images, np.where(cells == 1, 1, 0))
    np.testing.assert_allclose(one.scores, one.cell_scores)  # a cell by itself is its field


def test_a_field_without_masks_is_segmented_and_one_without_cells_is_empty(cell_model):
    images, _, true = draw_culture(192, 0, cells=4)
    found = FieldClassifier(cell_model)(images)
    assert found.cells.shape == true.shape and len(found.scores) == found.cells.max() > 0
    black = dict.fromkeys(COLOURS, np.zeros((64, 64), np.uint8))
    empty = FieldClassifier(cell_model)(black)
    assert empty.scores.shape == (0, 3) and not empty.cells.any()


def test_models_that_do_not_fit_are_refused(tmp_path, cell_model):
    single = save_model(tmp_path / "single", problem_type="single_label_classification")
    with pytest.raises(CellsError, match="one label or none"):
        FieldClassifier(single)
    other = save_model(tmp_path / "other", id2label={0: "a", 1: "b"})
    with pytest.raises(CellsError, match="other labels"):
        FieldClassifier(cell_model, other)
    with pytest.raises(CellsError, match="give 0 to 1"):
        FieldClassifier(cell_model, weight=2)


# ---------------------------------------------------------------- files


def run(*arguments):
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="hf-cells")
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def test_the_program_writes_a_submission_that_reads_back(culture, cell_model, image_model):
    out = culture / "out"
    options = (
        "--format",
        "hpa",
        "--image_model",
        image_model,
        "--weight",
        0.4,
        "--masks_dir",
        culture / "masks",
    )
    made = run("predict", cell_model, culture / "fields", *options, "--output_dir", out)
    assert (made.code, made.err) == (0, "") and made.out.startswith("2 fields, 8 cells in ")
    fields = read_submission(out / "submission.csv")
    with (out / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [field.image_id for field in fields] == ["a", "b"] and len(rows) == 8
    classifier = FieldClassifier(cell_model, image_model, weight=0.4)
    for field in fields:
        cells = np.array(Image.open(culture / "masks" / f"{field.image_id}_cell.png")).astype(np.int32)
        images = {c: np.array(Image.open(culture / "fields" / f"{field.image_id}_{c}.png")) for c in COLOURS}
        expected = classifier(images, cells)
        own = [row for row in rows if row["parent_image_id"] == field.image_id]
        for statement, (cell, label) in enumerate(zip(field.cells, field.classes, strict=True)):
            (number,) = np.unique(cells[field.mask(cell)])
            assert (field.mask(cell) == (cells == number)).all()
            assert field.scores[statement] == pytest.approx(expected.scores[number - 1, label], rel=1e-4)
        for row, scores, labels in zip(own, expected.scores, expected.labels, strict=True):
            assert row["Label"] == "|".join(str(k) for k in range(3) if labels[k])
            told = [float(row[f"probability_{name}"]) for name in LABELS.values()]
            np.testing.assert_allclose(told, scores, rtol=1e-4)
    assert json.loads((out / "summary.json").read_text())["cells"] == 8


def test_fields_that_fail_are_named_and_the_others_done(culture, cell_model):
    (culture / "fields" / "a_green.png").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(culture / "masks" / "c_cell.png")
    write_field(culture / "fields", "c", draw_culture(96, 2, cells=4)[0])
    (culture / "fields" / "test.csv").write_text("ID\nb\na\nc\nnone\n")
    made = run(
        "predict", cell_model, culture / "fields" / "test.csv", "--format", "hpa",
        "--masks_dir", culture / "masks", "--output_dir", culture / "out",
    )  # fmt: skip
    assert made.code == 1 and made.out.startswith("1 fields, 4 cells")
    told = made.err.splitlines()
    assert len(told) == 3 and all(line.startswith("error: ") for line in told)
    assert "a_green.png is missing" in told[0]
    assert "c_cell.png" in told[1] and "(5, 5)" in told[1]
    assert "none: has no image" in told[2]
    assert [field.image_id for field in read_submission(culture / "out" / "submission.csv")] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "json"], "--format json is unknown"),
        (["--image_model", "x"], "--image_model: for --format hpa only"),
        (["--format", "hpa", "--tile", "64"], "--tile: means nothing with --format hpa"),
    ],
)
def test_options_that_mean_nothing_are_refused(culture, cell_model, arguments, message):
    made = run("predict", cell_model, culture / "fields", *arguments)
    assert made.code == 1 and message in made.err and made.err.count("\n") == 1


def test_fields_given_twice_are_refused(culture, cell_model):
    with pytest.raises(CellsError, match="a is there twice"):
        predict_fields(FieldClassifier(cell_model), [culture / "fields", culture / "fields"], culture / "out")
