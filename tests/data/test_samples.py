"""Which sample comes when: every row seen, no row twice, restarts exact, workers without a say."""

import io
import os
import signal
import time
from contextlib import suppress

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_cells.data.augmentation import Augmentation
from hf_cells.data.samples import (
    CACHE_BYTES,
    EpochBatches,
    EpochOrder,
    ImageRows,
    SegmentationSamples,
    balanced_weights,
    loader,
    normalise,
    training_targets,
    truth_of,
    workers_ended,
)
from hf_cells.models import CellInstanceImageProcessor, CellSemanticImageProcessor
from hf_cells.models.image_reading import read_image

length, samples = st.integers(1, 60), st.integers(1, 90)
batch, world, accumulation = st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)
seed, epoch = st.integers(0, 2**32), st.integers(0, 1000)


def global_batches(order, batch_size, world, epoch, accumulation=1, first_step=0):
    """Keys of each step, all ranks together."""
    ranks = [EpochBatches(order, batch_size, rank, world, accumulation) for rank in range(world)]
    for one in ranks:
        one.set_position(epoch, first_step)
    steps = [list(one) for one in ranks]
    assert {len(one) for one in steps} == {len(ranks[0])}
    return [sum(parts, []) for parts in zip(*steps)]


@given(length, samples, batch, world, accumulation, seed, epoch)
def test_every_position_once_and_every_row_as_often_as_the_others(
    length, samples, batch, world, accumulation, seed, epoch
):
    steps = global_batches(EpochOrder(length, samples, None, seed), batch, world, epoch, accumulation)
    keys = sum(steps, [])
    assert [position for _, position, _ in keys] == list(range(len(keys)))  # ranks disjoint, nothing left out
    assert len(keys) >= samples
    assert len(keys) - samples < batch * world * accumulation
    assert len(steps) % accumulation == 0
    seen = np.bincount([row for _, _, row in keys], minlength=length)
    assert seen.max() - seen.min() <= 1
    assert len(seen) == length
    assert {key[0] for key in keys} == {epoch}


@given(length, samples, batch, world, accumulation, seed, epoch, st.data())
def test_a_restart_is_the_tail(length, samples, batch, world, accumulation, seed, epoch, data):
    order = EpochOrder(length, samples, None, seed)
    whole = global_batches(order, batch, world, epoch, accumulation)
    step = data.draw(st.integers(0, len(whole)))
    assert global_batches(order, batch, world, epoch, accumulation, step) == whole[step:]


@given(length, samples, batch, world, seed, epoch, st.booleans())
def test_the_global_batch_does_not_depend_on_the_number_of_processes(
    length, samples, batch, world, seed, epoch, weighted
):
    weights = np.linspace(1, 3, length) if weighted else None
    order = EpochOrder(length, samples, weights, seed)
    assert global_batches(order, batch, world, epoch) == global_batches(order, batch * world, 1, epoch)


@given(st.integers(8, 60), seed, epoch)
def test_epochs_and_seeds_differ(length, seed, epoch):
    first = EpochOrder(length, length, None, seed).rows(epoch, length).tolist()
    assert first == EpochOrder(length, length, None, seed).rows(epoch, length).tolist()
    assert first != EpochOrder(length, length, None, seed).rows(epoch + 1, length).tolist()
    assert first != EpochOrder(length, length, None, seed + 1).rows(epoch, length).tolist()


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=40).filter(lambda w: sum(w) > 0.1),
    st.integers(1, 300),
    seed,
    epoch,
)
def test_rows_come_as_often_as_their_weight_says(weights, count, seed, epoch):
    weights = np.array(weights)
    rows = EpochOrder(len(weights), count, weights, seed).rows(epoch, count)
    expected = count * weights / weights.sum()
    assert np.abs(np.bincount(rows, minlength=len(weights)) - expected).max() <= 1 + 1e-6


def test_rows_of_weight_zero_never_come():
    weights = np.array([0.0, 1.0, 0.0, 3.0, 0.0])
    for epoch in range(50):
        assert set(EpochOrder(5, 9, weights, 0).rows(epoch, 9)) <= {1, 3}


def test_balanced_weights_by_hand():
    values = ["a"] * 4 + ["b"]
    np.testing.assert_allclose(balanced_weights(values, 1.0), [1 / 8] * 4 + [1 / 2])  # every value half
    np.testing.assert_allclose(balanced_weights(values, 0.5), np.array([0.5] * 4 + [1.0]) / 3)
    np.testing.assert_allclose(balanced_weights(values, 0.0), [1 / 5] * 5)
    np.testing.assert_allclose(balanced_weights([None, None, 1], 1.0), [1 / 4, 1 / 4, 1 / 2])


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def dataset(count=6, truth="instance_labels"):
    """16-bit images of 40 × 48 with squares, one more in each."""
    rows = []
    for number in range(count):
        labels = np.zeros((40, 48), np.uint16)
        for k in range(number):
            labels[4 + 6 * k : 8 + 6 * k, 10:20] = k + 1
        noise = np.random.default_rng(number).integers(0, 900, labels.shape)
        image = (noise + 30_000 * (labels > 0)).astype(np.uint16)
        target = labels if truth == "instance_labels" else (labels > 0).astype(np.uint8)
        rows.append({"image_id": str(number), "image": png(image), truth: png(target)})
    features = {"image_id": datasets.Value("string"), "image": datasets.Image(), truth: datasets.Image()}
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))


def make_samples(**processor):
    return SegmentationSamples(
        ImageRows(dataset()),
        CellInstanceImageProcessor(num_channels=3, **processor),
        Augmentation(size=24),
        instances=True,
        seed=3,
    )


def epoch_bytes(workers, epoch, threads):
    batches = EpochBatches(EpochOrder(6, 12, None, 3), 2)
    batches.set_position(epoch, 1)
    torch.set_num_threads(threads)
    found = [
        {name: value.numpy().tobytes() for name, value in item.items()}
        for item in loader(make_samples(), batches, workers)
    ]
    assert len(found) == 5
    return found


def test_workers_do_not_change_a_byte():
    threads = torch.get_num_threads()
    try:
        alone = epoch_bytes(0, 4, threads=1)
        assert epoch_bytes(0, 4, threads=2) == alone
        assert epoch_bytes(1, 4, threads=1) == alone
        assert epoch_bytes(2, 4, threads=1) == alone
        other = epoch_bytes(0, 5, threads=1)
    finally:
        torch.set_num_threads(threads)
    assert all(one["pixel_values"] != two["pixel_values"] for one, two in zip(alone, other))


def test_iterating_leaves_the_random_state_of_the_model_alone():
    batches = EpochBatches(EpochOrder(6, 6, None, 0), 2)
    before = torch.get_rng_state()
    for _ in range(2):
        list(loader(make_samples(), batches, 0))
    assert torch.equal(before, torch.get_rng_state())


def test_persistent_workers_follow_the_position():
    batches = EpochBatches(EpochOrder(6, 6, None, 0), 3)
    data = loader(make_samples(), batches, 1)
    alone = loader(make_samples(), batches, 0)
    for epoch, step in [(0, 0), (1, 1), (2, 0)]:
        batches.set_position(epoch, step)
        with_worker = [item["pixel_values"] for item in data]
        without = [item["pixel_values"] for item in alone]
        assert len(with_worker) == len(without) == 2 - step
        assert all(torch.equal(one, two) for one, two in zip(with_worker, without))


def test_a_row_at_two_positions_looks_different():
    samples = make_samples()
    one, two = samples[(0, 0, 3)], samples[(0, 1, 3)]
    assert not torch.equal(one["pixel_values"], two["pixel_values"])
    assert torch.equal(one["pixel_values"], make_samples()[(0, 0, 3)]["pixel_values"])


def test_a_full_cache_decodes_the_rest_each_time():
    whole, poor = make_samples(), make_samples()
    whole[(0, 0, 0)]
    poor.free = 2 * (CACHE_BYTES - whole.free)  # of a grey image of 16 bits and its labels
    for epoch in range(2):
        for index in range(6):
            one, other = whole[(epoch, index, index)], poor[(epoch, index, index)]
            assert torch.equal(one["pixel_values"], other["pixel_values"])
    assert len(poor.cache) == 2 and len(whole.cache) == 6
    assert poor.free == 0


def test_shapes_and_types():
    item = make_samples()[(0, 0, 5)]
    assert item["pixel_values"].shape == (3, 24, 24) and item["pixel_values"].dtype == torch.float32
    assert item["target_maps"].shape == (3, 24, 24) and item["target_maps"].dtype == torch.float32
    semantic = SegmentationSamples(
        ImageRows(dataset(truth="semantic_mask")),
        CellSemanticImageProcessor(num_channels=1),
        Augmentation(size=24),
        instances=False,
        seed=3,
    )[(0, 0, 5)]
    assert semantic["pixel_values"].shape == (1, 24, 24)
    assert semantic["labels"].shape == (24, 24) and semantic["labels"].dtype == torch.int64
    assert set(semantic["labels"].unique().tolist()) <= {0, 1}


@settings(max_examples=20)
@given(st.integers(0, 2**20))
def test_mean_and_deviation_come_last(position):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    plain = make_samples()[(0, position, 4)]["pixel_values"]
    centred = make_samples(image_mean=mean, image_std=std)[(0, position, 4)]["pixel_values"]
    by_hand = (plain - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(centred, by_hand)


def test_training_and_prediction_scale_alike():
    """One preprocessing: an unchanged sample is what the processor gives the pipeline."""
    off = {"scale": (1.0, 1.0), "rotation": 0.0, "aspect": 0.0, "flip": False, "gamma": 0.0, "contrast": 0.0}
    off |= {
        "brightness": 0.0,
        "noise": 0.0,
        "blur": 0.0,
        "invert": 0.0,
        "colour": 0.0,
        "grey": 0.0,
        "size": 40,
    }
    row = {"image": np.random.default_rng(0).integers(0, 4000, (40, 40, 3)).astype(np.uint16)}
    row["instance_labels"] = np.zeros((40, 40), np.int32)
    for processor in (
        CellInstanceImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3]),
        CellInstanceImageProcessor(scaling="dtype"),
        CellInstanceImageProcessor(per_channel=True),
    ):
        samples = SegmentationSamples([row], processor, Augmentation(**off), instances=True, seed=0)
        expected = processor(row["image"])["pixel_values"][0]
        torch.testing.assert_close(samples[(0, 0, 0)]["pixel_values"], expected, atol=2e-3, rtol=0)


def test_normalise_without_a_mean_changes_nothing():
    image = torch.rand(3, 4, 4)
    assert normalise(image, CellInstanceImageProcessor()) is image


def test_rows_keep_sixteen_bits_and_their_extras():
    extra = {"image": np.zeros((8, 8), np.uint8), "instance_labels": np.ones((8, 8), np.int32)}
    rows = ImageRows(dataset(3))
    rows.extra.append(extra)
    assert len(rows) == 4
    assert rows[3] is extra
    pixels = read_image(rows[2]["image"])
    assert pixels.dtype == np.uint16 and pixels.max() > 30_000
    assert truth_of(rows[2]).max() == 2
    assert truth_of(rows[3]).dtype == np.int32


def test_a_file_beside_the_table_is_read_by_its_path(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(path)
    stored = datasets.Dataset.from_list(
        [{"image": {"bytes": None, "path": str(path)}}],
        features=datasets.Features({"image": datasets.Image()}),
    )
    assert (read_image(ImageRows(stored)[0]["image"]) == 40_000).all()


def test_targets_of_both_tasks():
    truth = np.zeros((6, 6), np.int32)
    truth[1:5, 1:5] = 1
    maps = training_targets(truth, instances=True)["target_maps"]
    assert torch.equal(maps[0], torch.from_numpy(truth).float())
    assert torch.equal(training_targets(truth, instances=False)["labels"], torch.from_numpy(truth).long())


def test_a_worker_survives_one_signal_to_the_group_and_obeys_the_second():
    batches = EpochBatches(EpochOrder(6, 12, None, 3), 2)
    iterator = iter(loader(make_samples(), batches, 1))
    next(iterator)
    (worker,) = iterator._workers
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert worker.is_alive()
    assert len(list(iterator)) == 5  # still at work
    os.kill(worker.pid, signal.SIGTERM)
    with suppress(RuntimeError):  # torch's SIGCHLD handler may speak first, from inside whatever runs
        worker.join(5)
    worker.join(5)
    assert not worker.is_alive()


def test_workers_end_with_the_block_even_by_an_exit():
    data = loader(make_samples(), EpochBatches(EpochOrder(6, 12, None, 3), 2), 2)
    with pytest.raises(SystemExit), workers_ended(data):
        iterator = iter(data)
        workers = iterator._workers
        next(iterator)
        raise SystemExit
    assert len(workers) == 2 and not any(worker.is_alive() for worker in workers)
    with workers_ended(loader(make_samples(), EpochBatches(EpochOrder(6, 12, None, 3), 2), 0)):
        pass  # there are none
