"""Images that wait together are computed together, those of another size are not, and nobody waits for nobody."""

import threading
import time
from concurrent.futures import CancelledError, wait

import pytest
import torch

from hf_cells.serving.batching import Batcher


class Network:
    """Adds one; remembers what it was given; can be held up."""

    def __init__(self, open_at_once: bool = True):
        self.shapes: list[tuple[int, ...]] = []
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        if open_at_once:
            self.gate.set()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.entered.release()
        assert self.gate.wait(20)
        self.shapes.append(tuple(x.shape))
        return x + 1


def image(value: float, side: int = 4) -> torch.Tensor:
    return torch.full((1, 1, side, side), value)


def test_everybody_gets_the_own_result_and_batches_are_of_one_size():
    network = Network(open_at_once=False)
    batcher = Batcher(network, max_batch_size=4, max_wait=0.0)
    first = batcher.submit(image(-1.0))
    assert network.entered.acquire(timeout=20)  # the thread is busy: what comes now waits
    sent = [(i, side, batcher.submit(image(i, side))) for i, side in enumerate([4, 6, 4, 4, 6, 4, 4])]
    assert batcher.waiting == 7
    network.gate.set()
    for i, side, future in sent:
        assert torch.equal(future.result(20), image(i + 1.0, side))
    assert torch.equal(first.result(20), image(0.0))
    # The oldest waiting one decides: four of side 4, then the two of side 6, then the fifth of side 4.
    assert network.shapes == [(1, 1, 4, 4), (4, 1, 4, 4), (2, 1, 6, 6), (1, 1, 4, 4)]
    assert (batcher.batches, batcher.images) == (4, 8)
    batcher.close()


def test_waits_for_those_on_their_way_but_not_longer_than_agreed():
    network, coming = Network(), [2]
    batcher = Batcher(network, max_batch_size=8, max_wait=10.0, on_their_way=lambda: coming[0])
    first = batcher.submit(image(0.0))
    time.sleep(0.05)
    assert not first.done()
    second = batcher.submit(image(1.0))
    coming[0] = 0  # the other one never came
    wait([first, second], 5)
    assert network.shapes == [(2, 1, 4, 4)]
    batcher.close()

    slow = Batcher(network, max_batch_size=8, max_wait=0.05, on_their_way=lambda: 1)
    begun = time.monotonic()
    slow.submit(image(0.0)).result(20)
    assert 0.04 < time.monotonic() - begun < 5
    slow.close()


def test_alone_nobody_waits():
    batcher = Batcher(Network(), max_batch_size=8, max_wait=30.0)
    begun = time.monotonic()
    batcher.submit(image(0.0)).result(20)
    assert time.monotonic() - begun < 10
    batcher.close()


def test_who_gives_up_leaves_the_queue():
    network = Network(open_at_once=False)
    batcher = Batcher(network, max_batch_size=8, max_wait=0.0)
    batcher.submit(image(0.0))
    assert network.entered.acquire(timeout=20)
    gone, stays = batcher.submit(image(1.0)), batcher.submit(image(2.0))
    assert gone.cancel()
    network.gate.set()
    assert torch.equal(stays.result(20), image(3.0))
    with pytest.raises(CancelledError):
        gone.result()
    assert network.shapes == [(1, 1, 4, 4), (1, 1, 4, 4)]
    batcher.close()


def test_an_error_reaches_the_whole_batch_and_the_thread_goes_on():
    def fails(x: torch.Tensor) -> torch.Tensor:
        if x.max() > 5:
            raise RuntimeError("too bright")
        return x

    batcher = Batcher(fails, max_batch_size=8, max_wait=0.0)
    with pytest.raises(RuntimeError, match="too bright"):
        batcher.submit(image(9.0)).result(20)
    assert torch.equal(batcher.submit(image(1.0)).result(20), image(1.0))
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(image(1.0))


def test_two_threads_compute_at_one_time_and_closing_finishes_what_waits():
    network = Network(open_at_once=False)
    batcher = Batcher(network, max_batch_size=1, max_wait=0.0, workers=2)
    futures = [batcher.submit(image(float(i))) for i in range(5)]
    assert network.entered.acquire(timeout=20) and network.entered.acquire(timeout=20)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    network.gate.set()
    assert [float(future.result(20).max()) for future in futures] == [1.0, 2.0, 3.0, 4.0, 5.0]
    closing.join(20)
    assert not closing.is_alive()


def test_large_images_go_in_smaller_batches():
    network = Network(open_at_once=False)
    batcher = Batcher(network, max_batch_size=32, max_wait=0.0)
    batcher.submit(image(0.0))
    assert network.entered.acquire(timeout=20)
    futures = [batcher.submit(image(float(i), side=2048)) for i in range(3)]  # two of them fill a batch
    network.gate.set()
    wait(futures, 20)
    assert network.shapes[1:] == [(2, 1, 2048, 2048), (1, 1, 2048, 2048)]
    batcher.close()
