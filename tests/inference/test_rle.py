"""Run lengths against a loop over pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hf_cells.errors import CellsError
from hf_cells.inference.rle import (
    decode_labels,
    decode_rle,
    encode_labels,
    encode_rle,
    label_runs,
    read_rle_csv,
    rle_rows,
    write_rle_csv,
)

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
MASKS = arrays(np.bool_, SHAPES)
LABELS = arrays(np.int32, SHAPES, elements=st.integers(0, 4))


def slow_rle(mask: np.ndarray) -> str:
    """Walk down the columns, as the contest describes it."""
    height, width = mask.shape
    numbers, previous = [], False
    for position in range(height * width):
        value = bool(mask[position % height, position // height])
        if value and not previous:
            numbers += [position + 1, 0]
        if value:
            numbers[-1] += 1
        previous = value
    return " ".join(map(str, numbers))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_one_mask(mask):
    rle = encode_rle(mask)
    assert rle == slow_rle(mask)
    decoded = decode_rle(rle, mask.shape)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


@settings(max_examples=150, deadline=None)
@given(LABELS)
def test_all_labels_in_one_pass(labels):
    encoded = encode_labels(labels)
    assert encoded == {int(k): slow_rle(labels == k) for k in np.unique(labels) if k}
    assert list(encoded) == sorted(encoded)
    decoded = decode_labels(list(encoded.values()), labels.shape)
    present = np.array([0, *encoded])
    np.testing.assert_array_equal(present[decoded], labels)


@settings(max_examples=100, deadline=None)
@given(LABELS)
def test_runs_that_end_with_the_row(labels):
    values, starts, lengths = label_runs(labels.ravel(), row_length=labels.shape[1])
    rebuilt = np.zeros(labels.size, labels.dtype)
    for value, start, length in zip(values, starts, lengths):
        assert start // labels.shape[1] == (start + length - 1) // labels.shape[1]
        rebuilt[start : start + length] = value
    np.testing.assert_array_equal(rebuilt.reshape(labels.shape), labels)


def test_example_of_the_contest():
    """'1 3 10 5' means pixels 1, 2, 3 and 10 to 14."""
    mask = decode_rle("1 3 10 5", (4, 5))
    assert np.flatnonzero(mask.ravel(order="F")).tolist() == [0, 1, 2, 9, 10, 11, 12, 13]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("1 3 10", "3 numbers"),
        ("a b", "not whole numbers"),
        ("99999999999999999999 1", "not whole numbers"),
        ("0 3", "leave an image"),
        ("1 0", "leave an image"),
        ("20 2", "leave an image of 4 x 5"),
        ("1 9223372036854775807", "leave an image"),
    ],
)
def test_bad_run_lengths(rle, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(rle, (4, 5))


def test_csv_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    images = {
        "b,1": rng.integers(0, 5, (7, 9)),
        "empty": np.zeros((3, 4), int),
        "a": rng.integers(0, 3, (5, 2)),
    }
    path = tmp_path / "out" / "rle.csv"
    write_rle_csv(path, images)
    assert path.read_text().splitlines()[0] == "ImageId,EncodedPixels"
    assert "empty," in path.read_text().splitlines()
    found = read_rle_csv(path)
    assert list(found) == ["b,1", "empty", "a"]
    assert found["empty"] == []
    for name, labels in images.items():
        np.testing.assert_array_equal(decode_labels(found[name], labels.shape), labels)
    assert rle_rows("x", images["empty"]) == [("x", "")]


def test_bad_csv(tmp_path):
    with pytest.raises(CellsError, match=r"rle\.csv: no such file"):
        read_rle_csv(tmp_path / "rle.csv")
    path = tmp_path / "rle.csv"
    path.write_text("ImageId,Pixels\na,1 2\n")
    with pytest.raises(CellsError, match=r"rle\.csv: has no column EncodedPixels"):
        read_rle_csv(path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CellsError, match=r"rle\.csv: is not a CSV"):
        read_rle_csv(path)
