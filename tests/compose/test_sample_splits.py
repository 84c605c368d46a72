"""No source image in two splits; every class in every split where it can be."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.compose.sample_splits import split_by_source_image

# Databases: each has one or two classes, and images that show some samples of each of them.
counts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)


@settings(deadline=None)
@given(st.lists(counts, min_size=1, max_size=4), st.integers(0, 3))
def test_images_stay_whole_and_classes_reach_all_splits(databases, seed):
    classes, images = [], []
    for number, rows in enumerate(databases):
        for place, pair in enumerate(rows):
            for which, samples in enumerate(pair):
                classes += [f"class {number} {which}"] * samples
                images += [f"image {number} {place}"] * samples
    splits = split_by_source_image(classes, images, seed)
    of_image, of_class, sources = defaultdict(set), defaultdict(set), defaultdict(set)
    for name, image, split in zip(classes, images, splits, strict=True):
        of_image[image].add(split)
        of_class[name].add(split)
        sources[name].add(image)
    assert all(len(found) == 1 for found in of_image.values())
    for name, found in of_class.items():
        assert "train" in found
        if len(sources[name]) >= 3:
            assert found == {"train", "validation", "test"}, name


def test_shares_are_80_10_10_and_the_order_of_rows_does_not_matter():
    images = [f"image {i}" for i in range(200)]
    splits = split_by_source_image(["a"] * 200, images, 0)
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (160, 20, 20)
    backwards = split_by_source_image(["a"] * 200, images[::-1], 0)
    assert backwards[::-1] == splits
    assert split_by_source_image(["a"] * 200, images, 1) != splits
