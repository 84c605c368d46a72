"""Dynamic batching: images of one size that wait at the same time go through the network together."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Larger batches gain nothing and cost memory: 32 images of 512 x 512.
MAX_BATCH_PIXELS = 32 * 512 * 512


@dataclass
class _Job:
    pixel_values: Tensor  # (1, C, H, W)
    arrived: float = field(default_factory=time.monotonic)
    future: "Future[Tensor]" = field(default_factory=Future)


class Batcher:
    """Threads that take waiting images, the oldest first, with all others of its size.

    Args:
        forward: `(B, C, H, W)` to `(B, …)`; called from several threads.
        max_batch_size: Images in one call.
        max_wait: Seconds that the oldest image waits for others.
        on_their_way: How many more images are about to be submitted; while there are none, nobody waits.
        workers: Number of threads.
        threads: Cores that each uses.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        max_batch_size: int,
        max_wait: float,
        on_their_way: Callable[[], int] = lambda: 0,
        workers: int = 1,
        threads: int = 1,
    ):
        self.forward, self.max_batch_size, self.max_wait = forward, max_batch_size, max_wait
        self.on_their_way, self.threads = on_their_way, threads
        self.batches = self.images = 0
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"model-{i}", daemon=True) for i in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, pixel_values: Tensor) -> "Future[Tensor]":
        """Queue one image, `(1, C, H, W)`; the future gives its row of the result, `(1, …)`.

        Cancelling the future takes the image out of the queue, if it is still there.
        """
        job = _Job(pixel_values)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(job)
            self._changed.notify_all()
        return job.future

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return len(self._waiting)

    def close(self) -> None:
        """Compute what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        torch.set_num_threads(self.threads)  # holds for the calling thread
        while batch := self._next_batch():
            self._compute(batch)

    def _compute(self, batch: list[_Job]) -> None:
        jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return
        try:
            rows = self.forward(torch.cat([job.pixel_values for job in jobs]))
        except BaseException as error:
            for job in jobs:
                job.future.set_exception(error)
            return
        with self._changed:
            self.batches, self.images = self.batches + 1, self.images + len(jobs)
        for job, row in zip(jobs, rows, strict=True):
            # Of its own: a view would keep the maps of the whole batch in memory.
            job.future.set_result(row[None].clone() if len(jobs) > 1 else row[None])

    def _next_batch(self) -> list[_Job]:
        """Wait for images; an empty list says that the batcher is closed."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                oldest = self._waiting[0]
                room = self._room(oldest)
                left = oldest.arrived + self.max_wait - time.monotonic()
                alike = [job for job in self._waiting if _size(job) == _size(oldest)][:room]
                full = len(alike) == room or self._closed
                if full or left <= 0 or not self.on_their_way():
                    chosen = set(map(id, alike))
                    self._waiting = deque(job for job in self._waiting if id(job) not in chosen)
                    return alike
                # Once more soon: whoever is on the way may turn out to bring no image.
                self._changed.wait(min(left, 0.002))

    def _room(self, job: _Job) -> int:
        height, width = job.pixel_values.shape[-2:]
        return max(1, min(self.max_batch_size, MAX_BATCH_PIXELS // (height * width)))


def _size(job: _Job) -> torch.Size:
    return job.pixel_values.shape
