"""The submission file: COCO's run lengths equal to pycocotools both ways, and every file read back as written."""

import base64
import csv
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.errors import CellsError
from hf_cells.inference.coco_rle import decode_runs, encode_runs, mask_of_runs, runs_of_mask
from hf_cells.inference.hpa_submission import (
    decode_mask,
    encode_mask,
    field_prediction,
    read_submission,
    write_submission,
)

mask_tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_run_lengths_are_those_of_pycocotools(height, width, density, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < density
    if rng.random() < 0.5:  # long runs need more than one character
        mask = np.repeat(np.repeat(mask, 9, axis=0), 7, axis=1)
    theirs = mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    ours = encode_runs(runs_of_mask(mask), mask.shape)
    assert ours == theirs
    assert (mask_of_runs(decode_runs(theirs, mask.shape), mask.shape) == mask).all()
    assert (decode_mask(encode_mask(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("value", [0, 1])
def test_all_and_nothing(value):
    mask = np.full((7, 5), value, bool)
    assert (
        encode_runs(runs_of_mask(mask), (7, 5))
        == mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    )
    assert (decode_mask(encode_mask(mask), (7, 5)) == mask).all()


@given(st.binary(max_size=30))
def test_broken_text_is_refused_and_never_crashes(text):
    try:
        runs = decode_runs(text, (6, 7))
    except ValueError as error:
        assert "COCO" in str(error)
    else:
        assert (runs[:, 1] > runs[:, 0]).all() and runs.max(initial=0) <= 42


def labels():
    image = np.zeros((30, 50), np.int32)
    image[2:12, 3:20], image[15:28, 10:44], image[2:9, 30:41] = 1, 2, 3
    return image


def test_what_is_written_is_read_back(tmp_path):
    scores = np.full((3, 19), np.nan)
    scores[0, [0, 7]], scores[2, 18] = [0.9, 0.25], 1.0
    fields = [
        field_prediction("a", labels(), scores),
        field_prediction("b", np.zeros((8, 9), int), np.zeros((0, 19))),
    ]
    write_submission(tmp_path / "s.csv", fields)
    with (tmp_path / "s.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["ID"], first["ImageWidth"], first["ImageHeight"]) == ("a", "50", "30")
    assert second["PredictionString"] == "" and second["ImageWidth"] == "9"
    words = first["PredictionString"].split()
    assert words[0::3] == ["0", "7", "18"] and words[1::3] == ["0.9", "0.25", "1"]
    counts = zlib.decompress(base64.b64decode(words[2]))  # as the challenge's own tools read it
    assert (mask_tools.decode({"size": [30, 50], "counts": counts}) == (labels() == 1)).all()
    one, two = read_submission(tmp_path / "s.csv")
    assert (one.image_id, one.shape, two.image_id, two.shape) == ("a", (30, 50), "b", (8, 9))
    assert (
        one.classes.tolist() == [0, 7, 18]
        and one.scores.tolist() == [0.9, 0.25, 1.0]
        and len(two.classes) == 0
    )
    assert one.cells.tolist() == [0, 0, 1]  # two statements of one cell share its mask
    assert (one.mask(0) == (labels() == 1)).all() and (one.mask(1) == (labels() == 3)).all()
    write_submission(tmp_path / "again.csv", [one, two])
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()


def test_unlikely_statements_can_be_left_out():
    scores = np.tile(np.linspace(0, 0.9, 19), (3, 1))
    kept = field_prediction("a", labels(), scores, least=0.5)
    assert len(kept.classes) == 3 * (scores[0] >= 0.5).sum() and kept.scores.min() >= 0.5
    with pytest.raises(ValueError, match="cell 3"):
        field_prediction("a", labels(), scores[:2])


GOOD = f"0 0.5 {encode_mask(labels() == 1)}"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", 50, 30, "0 0.5"), "triples"),
        (("a", 50, 30, "x 0.5 eNo="), "field a"),
        (("a", 50, 30, "0 0.5 !!!!"), "base64"),
        (("a", 50, 30, GOOD[:-8]), "field a: a mask"),
        (("a", 51, 30, GOOD), "check the size"),
        (("a", "wide", 30, GOOD), "whole numbers"),
        (("", 50, 30, GOOD), "whole numbers"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, said):
    with (tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ID", "ImageWidth", "ImageHeight", "PredictionString"), row])
    with pytest.raises(CellsError, match=said) as caught:
        read_submission(tmp_path / "s.csv")
    assert str(tmp_path / "s.csv") in str(caught.value) and "\n" not in str(caught.value)


def test_faults_of_files(tmp_path):
    with pytest.raises(CellsError, match="no such file"):
        read_submission(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_text("ID,Label\na,1\n")
    with pytest.raises(CellsError, match="no column ImageWidth"):
        read_submission(tmp_path / "s.csv")
    field = field_prediction("a", labels(), np.full((3, 19), 0.5))
    with pytest.raises(CellsError, match="comes twice"):
        write_submission(tmp_path / "t.csv", [field, field])
    with pytest.raises(CellsError, match="within 0 and 1"):
        write_submission(tmp_path / "t.csv", [field_prediction("a", labels(), np.full((3, 19), 1.5))])
    assert not (tmp_path / "t.csv").exists()
