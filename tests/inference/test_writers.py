"""Files that other programs read back to the same labels."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import label, regionprops_table

from hf_cells.inference.writers import (
    OBJECT_COLUMNS,
    object_rows,
    write_label_image,
    write_overlay,
    write_semantic_mask,
)


def test_sixteen_bit_png(tmp_path):
    labels = np.random.default_rng(0).integers(0, 65_536, (50, 60)).astype(np.int32)
    labels[0, 0] = 65_535
    path = write_label_image(tmp_path / "field.v1.png", labels)
    assert path.name == "field.v1.png"
    with Image.open(path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), labels)


def test_seventy_thousand_objects_become_a_tiff(tmp_path):
    labels = np.zeros((560, 1020), np.int32)
    labels[::2, ::4] = np.arange(1, 280 * 255 + 1).reshape(280, 255)
    assert labels.max() == 71_400
    path = write_label_image(tmp_path / "field.v1.png", labels)
    assert [path] == list(tmp_path.iterdir())
    assert path.name == "field.v1.tif"
    found = tifffile.imread(path)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, labels)
    rows = object_rows("field", labels, None, np.ones(71_400), np.zeros(71_400, int), {0: "cell"})
    assert len(rows) == 71_400
    assert rows[-1]["object_id"] == 71_400


def test_semantic_mask_and_overlay(tmp_path):
    mask = np.random.default_rng(0).integers(0, 4, (50, 60))
    path = write_semantic_mask(tmp_path / "deep" / "mask.png", mask)
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask)
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    with Image.open(write_overlay(tmp_path / "picture.png", picture)) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    with pytest.raises(ValueError, match="256 does not fit"):
        write_semantic_mask(tmp_path / "mask.png", np.full((2, 2), 256))
    assert not (tmp_path / "mask.png").exists()


def test_an_existing_file_survives_a_failed_write(tmp_path, monkeypatch):
    path = tmp_path / "labels.png"
    write_label_image(path, np.ones((4, 4), np.int32))
    before = path.read_bytes()

    def fail(self: Image.Image, file: object, **options: object) -> None:
        raise ValueError("the encoder broke")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ValueError, match="encoder broke"):
        write_label_image(path, np.zeros((4, 4), np.int32))
    assert path.read_bytes() == before
    assert [path] == list(tmp_path.iterdir())


def test_rows_of_objects():
    rng = np.random.default_rng(0)
    labels = label(rng.random((40, 40)) > 0.6).astype(np.int32)
    labels[labels == 2] = 0  # an id may be gone: another object lay on top
    image = rng.integers(0, 65536, labels.shape, dtype=np.uint16)
    n = int(labels.max())
    scores, label_ids = rng.random(n).astype(np.float32), rng.integers(0, 3, n)
    rows = object_rows("a/b", labels, image, scores, label_ids, {0: "round", 1: "flat"})
    expected = regionprops_table(
        labels, image, properties=("label", "area", "centroid", "bbox", "intensity_mean")
    )
    assert len(rows) == expected["label"].size
    for index, row in enumerate(rows):
        assert tuple(row) == OBJECT_COLUMNS
        object_id = expected["label"][index]
        assert row["image"] == "a/b"
        assert row["object_id"] == object_id
        assert row["area"] == expected["area"][index]
        assert row["score"] == pytest.approx(scores[object_id - 1], rel=1e-5)
        assert row["label"] == {0: "round", 1: "flat", 2: "2"}[label_ids[object_id - 1]]
        assert row["centroid_y"] == pytest.approx(expected["centroid-0"][index], rel=1e-5)
        assert row["max_col"] == expected["bbox-3"][index]
        assert row["mean_intensity"] == pytest.approx(expected["intensity_mean"][index], rel=1e-5)
    with pytest.raises(ValueError, match=f"{n} objects, but 3 scores"):
        object_rows("x", labels, None, scores[:3], label_ids, {})
    assert object_rows("x", np.zeros((3, 3), int), None, scores[:0], label_ids[:0], {}) == []
