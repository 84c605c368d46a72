"""HPA fields with masks as data of instance models: columns, reduction, what is said of fields without masks."""

import shutil

import numpy as np
import pytest
from hf_cells.dataset_scripts.hpa_single_cell import reduce_labels, reduce_plane
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.samples import ImageRows, truth_of
from hf_cells.errors import CellsError
from hf_cells.models.image_reading import read_image
from hf_cells.simulate import simulate_hpa_single_cell

NUMBERS = {"n_train": 8, "n_test": 2, "seed": 3, "size": (96, 128), "looks": ["HeLa", "BJ"], "bit_depth": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate_hpa_single_cell(tmp_path_factory.mktemp("hpa") / "sim", **NUMBERS)


@pytest.fixture
def copy(folder, tmp_path):
    """The simulated folder, to be broken."""
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture
def load(tmp_path):
    """Load with a cache of its own."""

    def call(data_dir, config, **options):
        place = tmp_path / "cache"
        return load_dataset("hpa_single_cell", config, data_dir=data_dir, cache_dir=place, **options)

    return call


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("config", "columns", "mask", "colours"),
    [
        ("nuclei", ["image"], "nucleus", ["blue"]),
        ("whole_cells", ["red", "yellow", "blue"], "cell", ["red", "yellow", "blue"]),
    ],
)
def test_planes_and_labels_are_those_of_the_files(folder, load, config, columns, mask, colours):
    splits = load(folder, config)
    assert set(splits) == {"train", "validation", "test"} and len(splits["test"]) == 2
    assert splits["train"].column_names == ["image_id", "group", "modality", *columns, "instance_labels"]
    groups = [set(data["group"]) for data in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    rows = ImageRows(splits["test"])
    for row in (rows[0], rows[1]):
        wanted = [pixels(folder / "test" / f"{row['image_id']}_{colour}.png") for colour in colours]
        image = read_image(row["image"])
        assert image.dtype == np.uint16 and (image.reshape(96, 128, -1) == np.stack(wanted, axis=-1)).all()
        assert (truth_of(row) == pixels(folder / "masks" / f"{row['image_id']}_{mask}.png")).all()
        assert row["modality"] in ("HeLa", "BJ")


def test_large_fields_come_at_the_scale_at_which_segment_works(folder, load):
    row = ImageRows(load(folder, "whole_cells", split="test", max_side=32))[0]
    image, truth = read_image(row["image"]), truth_of(row)
    assert image.shape == (24, 32, 3) and truth.shape == (24, 32) and image.dtype == np.uint16
    whole = pixels(folder / "test" / f"{row['image_id']}_red.png")
    assert image[..., 0].mean() == pytest.approx(whole.mean(), rel=0.02)
    assert set(np.unique(truth)) == set(range(truth.max() + 1))
    assert read_image(ImageRows(load(folder, "nuclei", split="test"))[0]["image"]).shape == (96, 128)


def test_reduction_keeps_places_and_numbers_what_is_left():
    labels = np.zeros((40, 60), np.uint16)
    labels[:20, :30], labels[20:, 30:], labels[33, 1] = 7, 300, 9
    small = reduce_labels(labels, (10, 15))
    assert small.dtype == np.uint16 and small.shape == (10, 15)
    assert (small[:5, :7] == 1).all() and (small[5:, 8:] == 2).all() and small.max() == 2
    plane = np.zeros((40, 60), np.uint8)
    plane[:, 30:] = 200
    reduced = reduce_plane(plane, (10, 15))
    assert reduced.dtype == np.uint8 and (reduced[:, :5] == 0).all() and (reduced[:, 10:] == 200).all()


def test_fields_without_masks_are_refused_in_one_line(copy, load):
    first = sorted((copy / "masks").glob("*_nucleus.png"))[0]
    first.unlink()
    with pytest.raises(CellsError, match=r"1 of 10 fields have no mask, the first is .*_nucleus.png") as one:
        load(copy, "nuclei")
    assert "\n" not in str(one.value)
    assert len(load(copy, "nuclei", split="all", skip_missing=True)) == 9
    assert len(load(copy, "whole_cells", split="all")) == 10
    shutil.rmtree(copy / "masks")
    for config in ("nuclei", "whole_cells"):
        with pytest.raises(CellsError, match="Human Protein Atlas come without masks") as none:
            load(copy, config, skip_missing=True)
        assert "\n" not in str(none.value)


def test_real_fields_have_no_masks(real_data, load):
    with pytest.raises(CellsError, match="come without masks; take fields of `hf-cells simulate hpa_single"):
        load(real_data("hpa_fields.zip"), "whole_cells")


def test_a_mask_that_does_not_fit_and_two_channels_of_nuclei_are_refused(copy, load):
    with pytest.raises(CellsError, match="nuclei are shown in one channel"):
        load(copy, "nuclei", channels="blue,red")
    mask = sorted((copy / "masks").glob("*_cell.png"))[0]
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(mask)
    with pytest.raises(CellsError, match=rf"{mask.name}: is 5x6 but .*_red.png is 96x128"):
        load(copy, "whole_cells")
