"""The full audit on a dataset with one of everything, its figure, and the cheap check before a training."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from textures import dataset, encode, texture

from hf_cells.data.audit import leak_report, published_leak, refuse_leaks
from hf_cells.data.audit_figure import plot_audit
from hf_cells.data.audit_report import audit_dataset
from hf_cells.data.image_scan import scan_images
from hf_cells.errors import CellsError

SECRET = "MUSTERMANN"  # in the names of patients: must come out nowhere


def one_of_everything() -> datasets.DatasetDict:
    """Patients on both sides, copies, a turned picture, other labels of the same, another size, a broken file."""
    pictures = [texture(seed) for seed in range(30)]
    deep = (texture(40).astype(np.uint16) << 8) + np.arange(48, dtype=np.uint16)
    train = [*pictures[:18], deep, encode(pictures[3], "TIFF"), b"\x89PNG\r\n\x1a\nbroken"]
    test = [*pictures[18:26], encode(np.stack([pictures[5]] * 3, -1)), pictures[6][::-1], deep + 1]
    names = [f"{SECRET}{n % 7}_{n:03d}" for n in range(len(train) + len(test))]
    return datasets.DatasetDict(
        train=dataset(names[: len(train)], train, [0] * 12 + [1] * 8 + [0]),
        test=dataset(names[len(train) :], test, [0] * len(test)),
    )


def test_everything_is_found_and_no_group_is_named() -> None:
    splits = one_of_everything()
    audit = audit_dataset(splits)
    report = audit.report
    assert report["images"] == {"train": 21, "test": 11}
    groups = report["groups"]
    assert (groups["source"], groups["count"], groups["across_splits"]) == ("names, ^([^_]+)_", 7, 7)
    assert (groups["smallest"], groups["largest"], groups["images_across_splits"]) == (
        3,
        5,
        31,
    )  # without the broken one
    exact = report["exact_duplicates"]
    train, test = splits["train"]["image_id"], splits["test"]["image_id"]
    assert exact["members"] == [
        [["train", train[3]], ["train", train[19]]],
        [["train", train[5]], ["test", test[8]]],
    ]
    assert (exact["sets"], exact["images"], exact["across_splits"]) == (2, 4, 1)
    near = report["near_duplicates"]
    assert [member[:2] for member in near["members"]] == [
        [["train", train[18]], ["test", test[10]]],  # one step in 65,535: not equal, but near
        [["train", train[6]], ["test", test[9]]],
    ]
    assert near["pairs"] == near["across_splits"] == 2 and near["members"][1][2] > 0.999
    assert report["label_conflicts"] == {
        "exact": [[[train[3], "round"], [train[19], "long"]]],
        "near": [[[train[18], "long"], [test[10], "round"]]],
    }
    assert report["classes"]["counts"] == {"round": {"train": 12, "test": 11}, "long": {"train": 8}}
    assert report["unreadable"][0][:2] == ["train", train[20]] and "header" in report["unreadable"][0][2]
    assert report["sizes"]["height"] == [48, 48.0, 48] and report["running_numbers"] is None
    assert report["leaks"] == 7 + 2
    assert report["leak_texts"] == [
        "7 of 7 groups (names, ^([^_]+)_) are in more than one split",
        "1 of 2 pixel-identical pictures are in more than one split",
        "1 pixel-identical pictures have different labels",
    ]
    assert report["warnings"] == [
        "2 of 2 pairs of near duplicates are in two splits",
        "1 pairs of near duplicates have different labels",
        "no images of long in test",
        "1 images cannot be read and were left out",
    ]
    assert json.loads(json.dumps(report)) == report
    without_ids = {key: report[key] for key in report if key not in ("label_conflicts", "unreadable")}
    for section in ("exact_duplicates", "near_duplicates"):
        without_ids[section] = {**report[section], "members": None}
    assert SECRET not in json.dumps(without_ids)
    assert audit.pairs.tolist() == [[5, 28], [18, 30], [6, 29], [3, 19]]  # those across splits first


def test_a_clean_split_is_clean() -> None:
    splits = {
        side: dataset(
            [f"P{first + n // 3}_{n}" for n in range(15)],
            [texture(100 * first + n) for n in range(15)],
            [n % 2 for n in range(15)],
        )
        for side, first in (("train", 0), ("test", 5))
    }
    report = audit_dataset(splits).report
    assert (report["leaks"], report["leak_texts"], report["warnings"]) == (0, [], [])
    assert report["groups"]["count"] == 10 and report["near_duplicates"]["pairs"] == 0


def test_what_is_asked_for_counts_and_other_readings_warn() -> None:
    names = [f"P{n // 6}_{n}" for n in range(30)]
    splits = {
        "train": dataset(names[:20], [texture(n) for n in range(20)], group=[f"g{n}" for n in range(20)]),
        "test": dataset(names[20:], [texture(n) for n in range(20, 30)], group=[f"h{n}" for n in range(10)]),
    }
    report = audit_dataset(splits, published="known").report
    assert report["groups"]["source"] == "column group" and report["leaks"] == 0
    assert report["warnings"] == [
        "this split is published as it is and known to leak: known",
        "1 of 5 groups by another reading (names, ^([^_]+)_) are in more than one split; "
        "if these are the specimens, say so with --groups",
    ]
    asked = audit_dataset(splits, groups="^(P)").report
    assert (asked["groups"]["count"], asked["leaks"], asked["other_groupings"]) == (1, 1, [])
    assert audit_dataset(splits, groups="image_id").report["leaks"] == 0
    with pytest.raises(CellsError, match="finds nothing in any of 30 image ids"):
        audit_dataset(splits, groups="^Q")


def test_contiguous_ids_of_specimens_are_told_unless_the_split_keeps_them_together() -> None:
    draw = np.random.default_rng(0)
    light = np.repeat(draw.permutation(np.linspace(40, 210, 25)), 12)
    images = [texture(n, 32, mean=light[n]) for n in range(300)]
    names = [f"{n:05d}" for n in range(300)]
    side = draw.random(300) < 0.5

    def split(left: np.ndarray) -> dict[str, datasets.Dataset]:
        rows = {"train": np.flatnonzero(left), "test": np.flatnonzero(~left)}
        return {name: dataset([names[r] for r in at], [images[r] for r in at]) for name, at in rows.items()}

    report = audit_dataset(split(side)).report
    numbers = report["running_numbers"]
    assert numbers["like_specimens"] and not numbers["kept_together"] and numbers["ratio"] > 3
    assert report["warnings"][0].startswith("contiguous image ids behave like specimens: ")
    assert report["warnings"][0].endswith("have it in another split, so split by blocks of ids")
    report = audit_dataset(split(np.arange(300) < 156)).report
    assert report["running_numbers"]["kept_together"] and "so split by" not in report["warnings"][0]
    names = [names[n] for n in draw.permutation(300)]
    report = audit_dataset(split(side)).report
    assert not report["running_numbers"]["like_specimens"] and report["warnings"] == []


def test_size_that_tells_the_class_and_imbalance_are_told() -> None:
    images = [texture(n, 24) for n in range(3)] + [texture(n, 40) for n in range(3, 40)]
    report = audit_dataset({"train": dataset([str(n) for n in range(40)], images, [0] * 3 + [1] * 37)}).report
    assert report["classes"]["largest_to_smallest"] == 12.33
    assert report["sizes"]["median_side_by_class"] == {"round": 24.0, "long": 40.0}
    assert report["warnings"] == [
        "the largest class has 12 times the images of the smallest",
        "size tells the class: the median side is 24 px in one class and 40 px in another",
    ]


def test_several_labels_of_an_image() -> None:
    features = datasets.Features(
        image_id=datasets.Value("string"),
        image=datasets.Image(),
        labels=datasets.List(datasets.ClassLabel(names=["nucleus", "golgi", "cytosol"])),
    )
    images = [texture(n % 4) for n in range(8)]
    rows = {
        "image_id": [f"{n}" for n in range(8)],
        "image": [{"bytes": encode(image), "path": None} for image in images],
        "labels": [[0], [0, 1], [], [1], [0], [1, 0], [1], [2]],
    }
    report = audit_dataset({"train": datasets.Dataset.from_dict(rows, features=features)}).report
    assert report["classes"]["counts"] == {
        "nucleus": {"train": 4},
        "golgi": {"train": 4},
        "cytosol": {"train": 1},
    }
    assert report["classes"]["unlabelled"] == 1
    assert report["label_conflicts"]["exact"] == [[["3", "golgi"], ["7", "cytosol"]]]
    assert report["leaks"] == 1


def texts_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what every figure says when it is saved."""
    said: list[str] = []
    save = Figure.savefig

    def listen(figure: Figure, *args: Any, **kwargs: Any) -> None:
        said.extend(text.get_text() for text in figure.findobj(Text))
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", listen)
    return said


def test_the_figure_shows_pairs_and_hides_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts_of(monkeypatch)
    splits = one_of_everything()
    plot_audit(audit_dataset(splits), splits, tmp_path / "audit.png")
    with Image.open(tmp_path / "audit.png") as image:
        assert image.width == 1350 and image.height > 600
    assert not any(SECRET in text for text in said)
    assert "7 of 7 groups in several splits" in said
    assert {"equal pixels · round", "equal pixels · round ≠ long", "similarity 1.00 · long ≠ round"} <= set(
        said
    )


def test_the_figure_shows_running_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts_of(monkeypatch)
    images = [texture(n % 12) for n in range(30)]
    splits = {"train": dataset([f"{n:04d}" for n in range(30)], images)}
    plot_audit(audit_dataset(splits), splits, tmp_path / "audit.png")
    assert "images per split" in said and {"0000", "0012"} <= set(said)
    assert said.count("equal pixels") == 8
    lone = {"train": dataset(["a"], [texture(0)])}
    plot_audit(audit_dataset(lone), lone, tmp_path / "lone.png")
    assert Image.open(tmp_path / "lone.png").height < 500


def test_a_scan_reads_every_kind_of_image_at_full_depth() -> None:
    grey = texture(0)
    deep = grey.astype(np.uint16) * 200
    jpeg = io.BytesIO()
    Image.fromarray(np.stack([grey] * 3, -1)).save(jpeg, "JPEG")
    images = [grey, encode(np.stack([grey] * 3, -1)), deep, deep + 1, jpeg.getvalue()]
    scan = scan_images({"train": dataset(["a", "b", "c", "d", "e"], images)})
    assert scan.hashes[0] == scan.hashes[1] and len(set(scan.hashes)) == 4
    assert scan.thumbnails.shape == (5, 32, 32) and scan.sizes.tolist() == [[48, 48]] * 5
    np.testing.assert_allclose(scan.colours[0], [grey.mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(scan.colours[3] - scan.colours[2], [1] * 3, atol=1e-2)
    with pytest.raises(CellsError, match="image a of train: is not an image or its header is damaged"):
        scan_images({"train": dataset(["a"], [b"\x89PNG\r\n\x1a\nbroken"])})
    with pytest.raises(CellsError, match="no images"):
        scan_images({})


def test_a_leaky_split_is_refused_unless_it_is_published_as_one() -> None:
    leaky = {
        "train": dataset(["a", "b"], [texture(0), texture(1)], group=["Anna", "Bert"]),
        "test": dataset(["c", "d"], [texture(1), texture(2)], group=["Cara", "Anna"]),
    }
    with pytest.raises(
        CellsError, match="^1 groups and 1 identical images are in more than one split of 4"
    ) as error:
        refuse_leaks(leaky, published=None)
    assert "Anna" not in str(error.value) and "hf-cells audit" in str(error.value)
    report = refuse_leaks(leaky, published="random by cell")
    assert report["warning"].startswith(
        "published split, known to leak (random by cell): 1 groups and 1 identical"
    )
    assert report["leaks"] == 2 and {**leak_report(leaky), "warning": report["warning"]} == report
    clean = {"train": leaky["train"]}
    assert refuse_leaks(clean, published=None)["warning"] is None


def test_which_configurations_are_published_as_leaky() -> None:
    assert "specimen" in published_leak("hep2") and published_leak("hep2", "block_split") is None
    assert published_leak("glomeruli") is None and published_leak("glomeruli", "random_split")
    assert published_leak("dsb2018", "instance") is None and published_leak("/a/folder") is None


def test_an_image_that_cannot_be_read_stops_the_cheap_check() -> None:
    broken = {"train": dataset(["a", "b"], [texture(0), encode(texture(1))[:60]])}
    with pytest.raises(CellsError, match="image b of train: is corrupt"):
        refuse_leaks(broken, published=None)
