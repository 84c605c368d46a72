"""A model behind a queue: bytes of an image in, the answer's JSON out."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.handler import (
    CLASSIFICATION,
    WrongTask,
    check_parameters,
    classification_answer,
    segmentation_answer,
    segmentation_options,
    task_of,
)
from ..models.image_reading import read_image
from .batching import Batcher
from .full_answers import full_classification, full_segmentation
from .precision import choose_precision, store_as_bf16
from .requests import Refusal
from .settings import Settings, available_cores

log = logging.getLogger("hf_cells.serving")


class Service:
    """One model, ready to answer.

    An image is read and prepared by a pool of threads, goes through the network together with others (see `batching`),
    and its answer is put together by the pool again, while the network is at the next ones.

    Args:
        pipe: From `hf_cells.pipeline`; in bf16 its weights are turned.
        name: What people call the model.
        settings: The limits.
    """

    def __init__(self, pipe: Any, name: str, settings: Settings):
        self.pipe, self.name, self.settings = pipe, name, settings
        self.config = pipe.model.config
        self.task = task_of(self.config.model_type)
        self.max_pixels = min(settings.max_pixels, pipe.image_processor.max_pixels)
        self.precision = choose_precision(settings.precision, pipe.device)
        if self.precision == "bf16":
            store_as_bf16(pipe.model)
        self.batch_size, workers, threads = settings.for_model(pipe, self.precision)
        self.draining = False
        self.active = 0  # requests that were admitted and are not answered
        self.answered: Counter[int] = Counter()  # by HTTP status
        self.seconds = 0.0
        self._preparing = 0
        # Images that are decoded and not done: pixels as float32 are what takes memory.
        self._room = asyncio.Semaphore(2 * self.batch_size * workers)
        self._pool = ThreadPoolExecutor(
            max(2, available_cores()), "reader", initializer=torch.set_num_threads, initargs=(1,)
        )
        self.batcher = Batcher(
            self._forward,
            self.batch_size,
            settings.max_wait_ms / 1000,
            on_their_way=lambda: self._preparing,
            workers=workers,
            threads=threads,
        )

    def close(self) -> None:
        """Compute what was submitted, then end all threads."""
        self.batcher.close()
        self._pool.shutdown(cancel_futures=True)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places; everything between arrival and answer happens inside.

        Raises:
            Refusal: 503 when no place is free, or the server is shutting down.
        """
        if self.draining:
            raise Refusal(503, "the server is shutting down; ask another one", retry_after=5)
        if self.active >= self.settings.max_concurrency:
            raise Refusal(
                503, f"{self.active} requests are under way (--max_concurrency); try again", retry_after=1
            )
        self.active += 1
        begun = time.monotonic()
        try:
            yield
        finally:
            self.active -= 1
            self.seconds += time.monotonic() - begun

    async def answer(self, image: bytes, parameters: dict[str, Any], full: bool = False) -> Any:
        """Answer one request, with lists and dicts that JSON can hold.

        Args:
            image: A file.
            parameters: Of the Hub's inference API.
            full: Our own form in place of the Hub's, see `full_answers`.

        Raises:
            Refusal: 400 for what another kind of model does, 422 for an image or a parameter that cannot be used, 413
                when memory does not suffice, 504 when it takes too long.
        """
        try:
            checked = check_parameters(self.config.model_type, parameters)
            async with asyncio.timeout(self.settings.timeout), self._room:
                return await self._predict(image, checked, full)
        except WrongTask as error:
            raise Refusal(400, str(error)) from None
        except ValueError as error:
            raise Refusal(422, " ".join(str(error).split())) from None
        except TimeoutError:
            message = f"no answer within {self.settings.timeout:g} s (--timeout); send a smaller image"
            raise Refusal(504, message) from None
        except (MemoryError, torch.OutOfMemoryError):
            raise Refusal(413, "the image is too large for the memory here; cut it into tiles") from None

    async def _predict(self, image: bytes, parameters: dict[str, Any], full: bool) -> Any:
        in_pool = asyncio.get_running_loop().run_in_executor
        self._preparing += 1
        try:
            pixels, pixel_values = await in_pool(self._pool, self._prepare, image)
            future = self.batcher.submit(pixel_values)
        finally:
            self._preparing -= 1
        logits = await asyncio.wrap_future(future)
        if self.task == CLASSIFICATION:
            return self._classified(pixels, logits, parameters, full)
        return await in_pool(self._pool, self._segmented, pixels, logits, parameters, full)

    def _prepare(self, image: bytes) -> tuple[np.ndarray, Tensor]:
        pixels = read_image(image, max_pixels=self.max_pixels)
        return pixels, self.pipe.preprocess(pixels)["pixel_values"]

    def _forward(self, pixel_values: Tensor) -> Tensor:
        inputs = {"pixel_values": pixel_values, "size": ()}
        options = {**self.pipe._forward_params, "precision": self.precision}
        return self.pipe.forward(inputs, **options)["logits"]

    def _classified(self, pixels: np.ndarray, logits: Tensor, parameters: dict[str, Any], full: bool) -> Any:
        if full:
            return full_classification(self.pipe, pixels, logits, parameters)
        config = self.config
        return classification_answer(logits[0].numpy(), config.id2label, config.multi_label, **parameters)

    def _segmented(self, pixels: np.ndarray, logits: Tensor, parameters: dict[str, Any], full: bool) -> Any:
        instances = self.config.model_type.endswith("instance")
        options = segmentation_options(parameters) if instances else {}
        found = self.pipe.postprocess({"logits": logits, "size": tuple(pixels.shape[:2])}, **options)
        if full:
            return full_segmentation(found, pixels, self.config.id2label)
        cut = 0.0 if instances else parameters.get("mask_threshold", 0.0)
        return segmentation_answer(found, self.config.id2label, cut)
