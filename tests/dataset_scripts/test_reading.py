"""The reading that dataset scripts share."""

import stat
import zipfile

import numpy as np
import pytest
from dsb_layout import STAINS, paint, run_lengths
from hf_cells.dataset_scripts import _reading
from hf_cells.dataset_scripts._reading import (
    FolderSource,
    ZipSource,
    assign_splits,
    decode_image,
    decode_rle,
    encode_png,
    foreground,
    merge_objects,
    modality_of,
    read_group_table,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60),
    st.integers(0, 9),
    st.tuples(st.floats(0, 0.45), st.floats(0, 0.45)),
)
def test_a_group_is_on_one_side_whatever_the_order(groups, seed, shares):
    fractions = {"test": shares[0], "validation": shares[1]}
    sides = assign_splits(groups, fractions, seed)
    side_of = dict(zip(groups, sides))
    assert all(side_of[group] == side for group, side in zip(groups, sides))
    assert "train" in sides
    assert assign_splits(groups[::-1], fractions, seed) == sides[::-1]
    for split, fraction in fractions.items():
        if fraction == 0:
            assert split not in sides
        elif len(set(groups)) > 2:
            assert split in sides


def test_single_items_are_split_by_share_and_seed():
    items = [str(i) for i in range(100)]
    first = assign_splits(items, {"test": 0.2, "validation": 0.1})
    assert [first.count(side) for side in ("train", "validation", "test")] == [70, 10, 20]
    assert first != assign_splits(items, {"test": 0.2, "validation": 0.1}, seed=1)


def test_forced_groups_and_bad_shares():
    groups = ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    sides = assign_splits(groups, {"test": 0.2, "validation": 0.2}, forced={"b": "test"})
    assert [side for side, group in zip(sides, groups) if group == "b"] == ["test"] * 3
    assert sides.count("test") == 3
    with pytest.raises(ValueError, match="no images of group 'z'; the groups are a, b, c"):
        assign_splits(groups, {}, forced={"z": "test"})
    for bad in ({"test": 0.6, "validation": 0.4}, {"test": -0.1}):
        with pytest.raises(ValueError, match="below 1 together"):
            assign_splits(groups, bad)


def test_the_smaller_object_wins_and_a_hidden_one_gets_no_label():
    small, large, twin = np.zeros((3, 8, 8), bool)
    large[1:7, 1:7] = small[3:5, 3:5] = True
    twin[1:7, 1:7] = True
    objects = [foreground(Image.fromarray(mask)) for mask in (large, small, twin)]
    labels = merge_objects((8, 8), objects)
    assert labels.dtype == np.uint16
    assert (labels[small] == labels[3, 3]).all() and (labels[large & ~small] == labels[1, 1]).all()
    assert set(np.unique(labels)) == {0, 1, 2}
    assert ((labels > 0) == (large | small)).all()


def test_labels_follow_the_order_given():
    shape, masks = (4, 12), []
    for column in (8, 0, 4):
        masks.append((0, column, np.ones((2, 3), bool)))
    labels = merge_objects(shape, masks)
    assert [labels[0, 8], labels[0, 0], labels[0, 4]] == [1, 2, 3]
    with pytest.raises(ValueError, match="do not fit 16-bit"):
        merge_objects((2, 2), masks * 30_000)


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_run_lengths_are_one_based_and_by_column(height, width, random):
    mask = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    top, left, pixels = decode_rle(run_lengths(mask), height, width, "x.csv")
    back = np.zeros_like(mask)
    back[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    assert (back == mask).all()


def test_run_lengths_by_hand():
    assert decode_rle("2 1", 3, 2, "x")[:2] == (1, 0)  # the second pixel is below the first
    for bad, message in (("1", "pairs"), ("a b", "pairs"), ("0 1", "outside"), ("6 2", "outside")):
        with pytest.raises(ValueError, match=message):
            decode_rle(bad, 3, 2, "x.csv")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_foreground_in_every_mode_of_png(mode):
    mask = np.zeros((9, 11), np.uint8)
    mask[2:5, 3:9] = 255
    image = Image.fromarray(mask.astype(np.uint16) if mode == "I;16" else mask)
    top, left, pixels = foreground(image if image.mode == mode else image.convert(mode))
    assert (top, left, pixels.shape) == (2, 3, (3, 6)) and pixels.all()
    assert foreground(Image.new("L", (4, 4)))[2].size == 0


def test_broken_and_huge_images_are_named(monkeypatch):
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8))
    assert decode_image(whole, "a.png").size == (32, 32)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for broken in (whole[:-40], whole[:20], b"", b"not an image", bytes(flipped)):
        with pytest.raises(ValueError, match=r"^a\.png: cannot be decoded \(.+\); replace"):
            decode_image(broken, "a.png")
    monkeypatch.setattr(_reading, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="over 1,000 pixels: cut it into tiles"):
        decode_image(whole, "a.png")


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../b.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\x"]
)
def test_zip_members_that_leave_the_folder(tmp_path, name):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", b"x")
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(ValueError, match="points outside the archive; the zip is unsafe") as error:
        ZipSource(str(path)).check()
    assert repr(name) in str(error.value)


def test_zip_links_and_bombs(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("big.png", b"\0" * 5000)
    with pytest.raises(ValueError, match=r"'link\.png' is a symbolic link"):
        ZipSource(str(path)).check()
    monkeypatch.setattr(_reading, "MAX_MEMBER_BYTES", 4000)
    with pytest.raises(ValueError, match=r"big\.png: unpacks to over 4,000 bytes"):
        ZipSource(str(path)).read("big.png")


def test_damaged_zips_are_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.png", b"0123456789" * 10)
    data = bytearray(path.read_bytes())
    (tmp_path / "short.zip").write_bytes(data[:-30])
    with pytest.raises(ValueError, match=r"short\.zip: is truncated or not a zip"):
        ZipSource(str(tmp_path / "short.zip")).names()
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip!x\.png: cannot be read from the zip .*CRC"):
        ZipSource(str(path)).read("x.png")


@pytest.mark.parametrize(
    ("field", "value", "reason"), [(10, 99, "compression"), (8, 1, "password")], ids=["method", "encrypted"]
)
def test_members_that_zipfile_does_not_unpack(tmp_path, field, value, reason):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.png", b"pixels")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + field] = value  # in the central directory
    content[field - 2] = value  # in the member's own header
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.zip!x\.png: cannot be read from the zip .*{reason}"):
        ZipSource(str(path)).read("x.png")


def test_folders_skip_hidden_files_and_end_on_a_loop(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/b/x.png", "y.png", ".hidden", "a/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    source = FolderSource(str(tmp_path))
    assert source.names() == ["a/b/x.png", "y.png"]
    assert source.read("a/b/x.png") == b"x"
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert "a/b/x.png" in source.names()


@pytest.mark.parametrize("stain", STAINS)
def test_modality_from_pixels(stain):
    assert modality_of(paint((300, 400), stain)) == stain


def test_modality_of_16_bit_grey():
    dark = np.full((20, 20), 500, np.uint16)
    dark[:4] = 40_000
    assert modality_of(Image.fromarray(dark)) == "fluorescence_dark"
    assert modality_of(Image.fromarray(np.full((20, 20), 40_000, np.uint16))) == "brightfield_grey"


@pytest.mark.parametrize("header", ["image_id,project", "ImageId,Group", "crop,match,project"])
def test_group_tables_of_any_sensible_header(tmp_path, header):
    table = tmp_path / "t.csv"
    middle = "x," if header.count(",") == 2 else ""
    table.write_text(f"\ufeff{header}\na,{middle}P1\n/somewhere/b.png,{middle}P2\n")
    assert read_group_table(str(table)) == {"a": "P1", "b": "P2"}
    table.write_text("foo,bar\n1,2\n")
    with pytest.raises(ValueError, match="it needs image_id and project"):
        read_group_table(str(table))
