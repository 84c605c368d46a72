"""Batches of a classifier: what the processor makes of an image, prepared once, labelled rightly."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hf_cells.data.image_augmentation import ImageAugmentation
from hf_cells.data.image_samples import ImageSamples, one_hot
from hf_cells.data.samples import EpochBatches, EpochOrder, loader
from hf_cells.errors import CellsError
from hf_cells.models import CellClassificationImageProcessor, image_processing_cells

EVERYTHING = ImageAugmentation(
    rotation=180.0, shift=0.1, contrast=0.3, blur=1.0, noise=0.02, horizontal_flip=True
)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def make_rows(count=7, dtype=np.uint8, size=(10, 12), label="label"):
    rows = []
    for number in range(count):
        top = np.iinfo(dtype).max + 1
        pixels = np.random.default_rng(number).integers(0, top, size).astype(dtype)
        truth = number % 3 if label == "label" else [k for k in range(3) if (number >> k) & 1]
        rows.append({"image_id": f"cell-{number}", "image": png(pixels), label: truth})
    return rows


def processor(**changes) -> CellClassificationImageProcessor:
    return CellClassificationImageProcessor(
        **{"num_channels": 1, "scaling": "dtype", "image_mean": [0.4], "image_std": [0.3], **changes}
    )


def samples(rows, made=None, augmentation=None) -> ImageSamples:
    return ImageSamples(rows, made or processor(), augmentation or ImageAugmentation(), num_labels=3, seed=5)


def keys(*rows, epoch=0, first=0):
    return [(epoch, first + place, row) for place, row in enumerate(rows)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaling": "percentile", "square": "white", "size": {"height": 8, "width": 8}},
        {"image_mean": None, "image_std": None, "crop_size": {"height": 6, "width": 6}},
        {"num_channels": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_without_augmentation_a_batch_is_what_the_processor_makes(changes, dtype):
    """Mean and deviation come once, after the augmentation, and are those of prediction."""
    rows, made = make_rows(dtype=dtype), processor(**changes)
    batch = samples(rows, made).__getitems__(keys(4, 0, 6))
    expected = torch.cat([made(rows[k]["image"])["pixel_values"] for k in (4, 0, 6)])
    torch.testing.assert_close(batch["pixel_values"], expected, atol=2e-3, rtol=1e-3)
    assert batch["pixel_values"].dtype == torch.float32 and batch["pixel_values"].is_contiguous()
    assert batch["labels"].tolist() == [1, 0, 0]
    assert batch["labels"].dtype == torch.int64
    assert made.image_mean == changes.get("image_mean", [0.4])  # the processor itself is left alone


def test_the_augmentation_sees_images_before_mean_and_deviation(monkeypatch):
    rows, seen = make_rows(), []
    call = ImageAugmentation.__call__

    def watched(self, images, *arguments):
        seen.append(images)
        return call(self, images, *arguments)

    monkeypatch.setattr(ImageAugmentation, "__call__", watched)
    samples(rows).__getitems__(keys(0, 1))
    assert seen[0].min() >= 0 and seen[0].max() <= 1 and seen[0].max() > 0.9


def test_several_labels_stay_several():
    rows = make_rows(label="labels")
    batch = samples(rows).__getitems__(keys(0, 3, 5))
    assert batch["labels"].tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert batch["labels"].dtype == torch.float32


def test_mixed_labels_are_soft():
    batch = samples(make_rows(), augmentation=ImageAugmentation(mixup=1.0)).__getitems__(keys(0, 1, 2))
    assert batch["labels"].shape == (3, 3)
    torch.testing.assert_close(batch["labels"].sum(1), torch.ones(3))


def test_one_hot_truths():
    assert one_hot({"label": 2}, 4).tolist() == [0, 0, 1, 0]
    assert one_hot({"labels": []}, 3).tolist() == [0, 0, 0]
    assert one_hot({"labels": [0, 2]}, 3).tolist() == [1, 0, 1]
    for missing in (None, -1):
        with pytest.raises(CellsError, match="the image 'cell-9' has no label: leave it out"):
            one_hot({"image_id": "cell-9", "label": missing}, 3)


def test_images_are_read_once(monkeypatch):
    reads = []
    read = image_processing_cells.read_image
    monkeypatch.setattr(image_processing_cells, "read_image", lambda *given: reads.append(1) or read(*given))
    made = samples(make_rows(), augmentation=EVERYTHING)
    for epoch in range(3):
        made.__getitems__(keys(0, 1, 2, 1, epoch=epoch))
    assert len(reads) == 3


def test_a_full_cache_prepares_the_rest_each_time():
    rows = make_rows()
    whole, poor = samples(rows, augmentation=EVERYTHING), samples(rows, augmentation=EVERYTHING)
    poor.free = 2 * 10 * 12 * 2 + 1  # two images in half precision
    for epoch in range(2):
        one, other = (made.__getitems__(keys(*range(7), epoch=epoch)) for made in (whole, poor))
        assert torch.equal(one["pixel_values"], other["pixel_values"])
    assert len(poor.cache) == 2 and len(whole.cache) == 7
    assert poor.free >= 0


def test_numbers_that_half_precision_cannot_hold_are_kept():
    """16 bits as they are: 65,535 is beyond the largest half, and 2,049 between two of them."""
    rows = [{"image": png(np.array([[65_535, 2_049], [0, 1]], np.uint16)), "label": 0}] * 2
    made = processor(scaling="none", image_mean=None, image_std=None)
    batch = samples(rows, made).__getitems__(keys(0, 1))
    assert batch["pixel_values"][0, 0].tolist() == [[65_535, 2_049], [0, 1]]


def test_images_of_several_sizes_are_refused_with_the_remedy():
    rows = make_rows(2) + make_rows(1, size=(14, 9))
    with pytest.raises(CellsError, match=r"several sizes \(10x12 and 14x9\).*processor\.size="):
        samples(rows).__getitems__(keys(0, 2))
    sized = processor(size={"height": 10, "width": 10})
    assert samples(rows, sized).__getitems__(keys(0, 2))["pixel_values"].shape == (2, 1, 10, 10)


def test_an_image_is_the_same_whatever_comes_before_it():
    """A resumed epoch begins in the middle."""
    rows = make_rows()
    whole = samples(rows, augmentation=EVERYTHING).__getitems__(keys(0, 1, 2, 3, epoch=4))
    later = samples(rows, augmentation=EVERYTHING).__getitems__(keys(2, 3, epoch=4, first=2))
    torch.testing.assert_close(whole["pixel_values"][2:], later["pixel_values"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_whole_batches(workers):
    """Workers change no byte, and a batch is made at once, not image by image."""
    mixed = ImageAugmentation(rotation=20.0, noise=0.1, cutmix=1.0, mosaic=0.3)
    order = EpochOrder(7, 7, None, 5)

    def epoch(count):
        batches = EpochBatches(order, 3)
        batches.set_position(1)
        return list(loader(samples(make_rows(), augmentation=mixed), batches, count))

    made, reference = epoch(workers), epoch(0)
    assert [len(batch["labels"]) for batch in made] == [3, 3, 3]
    for one, other in zip(made, reference):
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert torch.equal(one["labels"], other["labels"])


# ---------------------------------------------------------------- several sizes in a batch


def several_sizes(label="labels"):
    shapes = [(10, 12), (4, 6), (30, 8), (5, 5)]
    rows = [
        make_rows(1, size=shape, label=label)[0] | {label: own}
        for shape, own in zip(shapes, ([0], [], [1, 2], [2]))
    ]
    if label == "label":
        rows = [row | {"label": number % 3} for number, row in enumerate(rows)]
    return rows, processor(sizing="variable", size={"height": 15, "width": 15})


def test_images_of_several_sizes_lie_in_the_upper_left_of_the_largest():
    rows, made = several_sizes()
    batch = samples(rows, made).__getitems__(keys(0, 1, 2))
    assert batch["image_sizes"].tolist() == [[10, 12], [4, 6], [15, 4]]  # the third is halved
    assert batch["pixel_values"].shape == (3, 1, 15, 12)
    assert batch["labels"].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    for place, (image, (height, width)) in enumerate(
        zip(batch["pixel_values"], batch["image_sizes"].tolist())
    ):
        alone = made(rows[place]["image"])["pixel_values"][0]
        torch.testing.assert_close(image[:, :height, :width], alone, atol=2e-3, rtol=1e-3)
        assert (image[:, height:] == 0).all() and (image[:, :, width:] == 0).all()


def test_each_of_several_sizes_is_changed_as_it_is_alone():
    rows, made = several_sizes("label")
    changing = ImageAugmentation(transpose=True, horizontal_flip=True, exposure=0.3)
    together = samples(rows, made, changing).__getitems__(keys(0, 1, 2, 3))
    turned = 0
    for place in range(4):
        alone = samples(rows, made, changing).__getitems__(keys(place, first=place))
        height, width = alone["image_sizes"][0].tolist()
        assert together["image_sizes"][place].tolist() == [height, width]
        torch.testing.assert_close(
            together["pixel_values"][place, :, :height, :width], alone["pixel_values"][0]
        )
        turned += (height, width) != tuple(
            made.network_size(np.array(Image.open(io.BytesIO(rows[place]["image"]))).shape)
        )
    assert turned and together["labels"].tolist() == [0, 1, 2, 0]


def test_several_sizes_are_not_mixed():
    rows, made = several_sizes()
    with pytest.raises(CellsError, match="cannot be mixed"):
        samples(rows, made, ImageAugmentation(mixup=0.2)).__getitems__(keys(0, 1))
