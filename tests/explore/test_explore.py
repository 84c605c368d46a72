"""A dataset at a glance: every number against one worked out by hand, and a page that needs no network."""

import io
import json
import re
from html.parser import HTMLParser

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.explore import explore_dataset
from hf_cells.explore.content import Content, read_content, read_labels
from hf_cells.explore.intensities import Intensities, channels_of, histogram
from hf_cells.explore.scan import scan_splits
from hf_cells.explore.summary import label_numbers, phi_coefficients

TERMS = {"license": "cc0-1.0", "redistributable": True, "simulated": False}


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def rows(features, **columns):
    count = len(columns["image"])
    wrapped = {
        name: [
            value if value is None or not isinstance(value, bytes) else {"bytes": value, "path": None}
            for value in v
        ]
        for name, v in columns.items()
    }
    features = {"image_id": datasets.Value("string"), "image": datasets.Image(), **features}
    return datasets.Dataset.from_dict(
        {"image_id": [f"n{k}" for k in range(count)], **wrapped}, datasets.Features(features)
    )


def grey(value, shape=(40, 60)):
    return png(np.full(shape, value, np.uint8))


@pytest.fixture
def labelled():
    """Six images with labels a, b, c: a and b always together, the rare c once; a broken image."""
    feature = datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    group = datasets.Value("string")
    train = rows(
        {"labels": feature, "group": group},
        image=[grey(10), grey(20), grey(30, (20, 20)), grey(40)[:60]],
        labels=[[0, 1], [0, 1], [2], []],
        group=["p", "p", "q", None],
    )
    test = rows(
        {"labels": feature, "group": group}, image=[grey(50), grey(60)], labels=[[0, 1], []], group=["r", "s"]
    )
    return {"train": train, "test": test}


@pytest.fixture
def masks():
    """Two images of two classes; 255 is unknown."""
    first, second = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    first[5:15, 5:15] = 1
    first[30:50, 30:50] = 2
    first[0, 0] = 255
    second[10:20, 40:50] = 1
    images = [png(np.where(mask > 0, 200, 20).astype(np.uint8)) for mask in (first, second)]
    return {
        "train": rows(
            {"semantic_mask": datasets.Image()}, image=images, semantic_mask=[png(first), png(second)]
        )
    }


class References(HTMLParser):
    """Everything that a page would load."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset")]


def test_labels_groups_and_bad_images_by_hand(labelled, tmp_path):
    content = Content("labels", ["a", "b", "c"], terms=TERMS)
    report = explore_dataset(labelled, content, tmp_path, title="letters")
    assert json.loads((tmp_path / "explore.json").read_text()) == report
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["images"], train["unreadable"], train["groups"], train["without_group"]) == (4, 1, 2, 1)
    assert train["images_per_group"] == {"min": 1, "median": 1.5, "max": 2, "mean": 1.5}
    assert (test["images"], test["groups"]) == (2, 2)
    labels = report["labels"]
    assert labels["counts"] == {
        "a": {"train": 2, "test": 1},
        "b": {"train": 2, "test": 1},
        "c": {"train": 1, "test": 0},
    }
    assert labels["prevalence"]["a"] == {"train": pytest.approx(2 / 3, abs=1e-4), "test": 1}
    assert labels["unlabelled"] == {"train": 1, "test": 1}
    assert labels["labels_per_image"] == {"0": 2, "1": 1, "2": 3}
    assert labels["co_occurrence"] == [[3, 3, 0], [3, 3, 0], [0, 0, 1]]
    assert labels["correlation"][0][1] == 1 and labels["correlation"][0][2] < 0
    assert [bad["image_id"] for bad in report["unreadable"]] == ["n3"]
    assert report["sizes"]["distinct"] == 2 and report["sizes"]["most_common"][0] == [40, 60, 4]
    (channel,) = report["channels"]
    assert channel["channel"] == "grey" and channel["images"] == 5
    assert channel["by_split"]["train"]["mean"] == 20 and channel["by_class"]["c"]["p50"] == 30
    names = [
        name.split("_", 1)[1] for name in (path.name for path in sorted((tmp_path / "figures").iterdir()))
    ]
    assert names == ["labels.png", "co_occurrence.png", "image_sizes.png", "intensities.png",
                     "intensities_by_class.png", "gallery.png"]  # fmt: skip


def test_the_page_is_one_file_that_loads_nothing(labelled, tmp_path):
    content = Content("labels", ["a", "b", "<c>"], terms={**TERMS, "redistributable": False})
    report = explore_dataset(labelled, content, tmp_path, title="letters & <more>")
    page = (tmp_path / "explore.html").read_text()
    references = References()
    references.feed(page)
    assert len(references.found) == len(report["figures"]) == 6
    assert all(reference.startswith("data:image/png;base64,") for reference in references.found)
    assert not re.search(r"<script|https?://|@import", page)
    assert "letters &amp; &lt;more&gt;" in page and "may not be passed on" in page and "train: n3:" in page
    free = explore_dataset(labelled, Content(terms=TERMS), tmp_path, title="free")
    assert "may not be passed on" not in (tmp_path / "explore.html").read_text()
    left = {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()}
    assert left == set(free["figures"])  # those of the first run are gone


def test_objects_of_a_map_of_classes_by_hand(masks, tmp_path):
    content = Content(None, [], "semantic_mask", ["background", "small", "large"], terms=TERMS)
    report = explore_dataset(masks, content, tmp_path, title="squares")
    objects = report["objects"]
    assert objects["per_image"]["train"] == {"min": 1, "median": 1.5, "max": 2, "mean": 1.5, "total": 3,
                                             "images_without": 0}  # fmt: skip
    assert objects["by_class"]["small"]["objects"] == 2 and objects["by_class"]["small"]["area"]["p50"] == 100
    assert objects["by_class"]["large"]["share_of_pixels"] == pytest.approx(400 / 8192, abs=1e-5)
    assert objects["by_class"]["large"]["equivalent_diameter"]["p50"] == pytest.approx(
        2 * np.sqrt(400 / np.pi), abs=0.01
    )
    assert report["labels"]["counts"] == {"small": {"train": 2}, "large": {"train": 1}}
    (channel,) = report["channels"]
    assert channel["by_class"]["small"]["mean"] == 200 and channel["by_class"]["background"]["p50"] == 20
    assert {"overlays", "objects", "gallery_of_objects"} <= {name[11:-4] for name in report["figures"]}


def test_a_mask_of_another_size_is_a_bad_image(masks):
    image, other = grey(1, (64, 64)), png(np.zeros((10, 10), np.uint8))
    more = rows({"semantic_mask": datasets.Image()}, image=[image], semantic_mask=[other])
    content = Content(None, [], "semantic_mask", ["background", "cell"])
    splits = {"train": datasets.concatenate_datasets([masks["train"], more])}
    scan = scan_splits(splits, {"train": range(3)}, {"train": [None] * 3}, content)
    assert [bad[:2] for bad in scan.unreadable] == [("train", "n0")]
    assert "semantic_mask is 10x10 and its image 64x64" in scan.unreadable[0][2]
    assert sum(scan.sizes.values()) == 2


def test_a_limit_is_a_seeded_sample_and_labels_are_of_all(labelled, tmp_path):
    content = Content("labels", ["a", "b", "c"], terms=TERMS)
    first = explore_dataset(labelled, content, tmp_path / "a", title="x", limit=1, seed=3)
    again = explore_dataset(labelled, content, tmp_path / "b", title="x", limit=1, seed=3)
    assert first == again
    assert (tmp_path / "a/explore.html").read_bytes() == (tmp_path / "b/explore.html").read_bytes()
    assert first["splits"]["train"]["looked_at"] == 1 and first["labels"]["images"]["train"] == 3


def test_nothing_readable_is_one_line(tmp_path):
    broken = {"train": rows({}, image=[grey(1)[:50]])}
    with pytest.raises(CellsError, match="no image can be read; the first is n0"):
        explore_dataset(broken, Content(terms=TERMS), tmp_path, title="broken")


def test_intensities_keep_the_depth_of_the_files():
    deep = np.array([[0, 65535], [1000, 1000]], np.uint16)
    found = Intensities()
    found.add({("grey", "uint16"): {("split", "train"): histogram(deep)}})
    told = found.numbers(("grey", "uint16"), ("split", "train"))
    assert (
        told["p50"] == 1000 and told["saturated"] == 0.25 and told["mean"] == pytest.approx(16883.8, abs=0.1)
    )
    real = np.array([-2.5, 0.125, 3e4], np.float32)
    found.add({("grey", "float32"): {("split", "train"): histogram(real)}})
    values, shares = found.distribution(("grey", "float32"), ("split", "train"))
    np.testing.assert_allclose(values, [-2.5, 0.125, 3e4], rtol=1e-3)
    np.testing.assert_allclose(shares, 1 / 3, rtol=1e-6)


def test_every_image_counts_alike_and_grey_in_colour_is_grey():
    found = Intensities()
    for image in (np.zeros((100, 100), np.uint8), np.full((2, 2), 100, np.uint8)):
        found.add({("grey", "uint8"): {("split", "train"): histogram(image)}})
    assert found.numbers(("grey", "uint8"), ("split", "train"))["mean"] == 50
    grey_in_colour = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 4, -1)
    grey_in_colour[..., 3] = 255
    assert list(channels_of(grey_in_colour, [])) == ["grey"]
    assert list(channels_of(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), [])) == ["red", "green", "blue"]
    assert list(channels_of(np.zeros((4, 4, 2), np.uint8), ["dna", "actin"])) == ["dna", "actin"]


def test_correlation_is_numpys_and_single_labels_exclude_each_other():
    truth = np.random.default_rng(0).random((60, 4)) < 0.4
    np.testing.assert_allclose(phi_coefficients(truth), np.corrcoef(truth.T), atol=1e-12)
    told = label_numbers({"train": [(0,), (1,), None]}, ["x", "y", "never"])
    assert told["co_occurrence"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert told["correlation"][2] == [None, None, None]


def test_labels_without_names_and_data_without_images():
    split = rows({"label": datasets.Value("string")}, image=[grey(1), grey(2)], label=["y", None])
    content = read_content({"train": split}, "org/name", None, None)
    assert content.label_names == ["y"] and read_labels(split, content) == [(0,), None]
    assert content.terms["redistributable"] is False
    with pytest.raises(CellsError, match="no column has images"):
        read_content({"train": split.remove_columns("image")}, "org/name", None, None)
