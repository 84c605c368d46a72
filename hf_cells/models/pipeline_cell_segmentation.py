"""The `cell-segmentation` pipeline: any image at its full depth to label arrays, tiled when it is large."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .image_reading import read_image
from .tiling import tiled_logits

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
_FORWARD = {"tile", "overlap", "test_time_augmentation", "precision"}
_POSTPROCESS = {"threshold", "decision_thresholds"}


class CellSegmentationPipeline(Pipeline):
    r"""Segment microscope images with all their bits and channels.

    Unlike the stock `image-segmentation` pipeline, which makes 8-bit RGB of everything, this one reads with the
    image processor's own reader. All options can be given here or in a call.

    Args:
        tile: Images with a longer side are cut into tiles of this side, in pixels (default 1024).
        overlap: Pixels that neighbouring tiles share (default 128).
        test_time_augmentation: 4 averages the maps over the flips, 8 (or True) also over the quarter turns.
        precision: "fp32" (default, exact) or "bf16" (faster where the processor has it).
        threshold: Instances with a lower score are left out (default 0: keep all that the decoding gives).
        decision_thresholds: Settings of the instance decoding in place of the image processor's.
        batch_size: Consecutive images of one size go through the network together, this many at most; by default 8
            on an accelerator and 1 on a CPU.

    Calling it:
        With a path, bytes, a PIL image, an array or a tensor, or a list, generator or dataset of them. Each gives

        - `{"instance_labels": (H, W) int32, 0 = background and objects 1..n, "scores": (n,) float32,
          "label_ids": (n,) int64}` of an instance model;
        - `{"semantic_mask": (H, W) uint8, "probabilities": (num_labels, H, W) float32}` of a semantic model.

    Raises:
        FileNotFoundError, ValueError: For an image that cannot be read or does not suit the model.
    """

    _load_processor: Any = False
    _load_image_processor: Any = True
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False
    model: Any
    image_processor: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.image_processor is None:
            raise ValueError("the pipeline needs the model's image processor: pass image_processor=…")
        instances = self.model.config.model_type.endswith("instance")
        if instances != hasattr(self.image_processor, "post_process_instance_segmentation"):
            name = type(self.image_processor).__name__
            raise ValueError(
                f"{name} does not suit a {self.model.config.model_type} model; load its own processor"
            )
        if self._batch_size is None:
            self._batch_size = 1 if self.device.type == "cpu" else 8
        # A fifth to a third faster than planes on every convolutional net that was timed, on CPUs and accelerators.
        self.model.to(memory_format=torch.channels_last)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = set(options) - _FORWARD - _POSTPROCESS
        if unknown:
            known = ", ".join(sorted(_FORWARD | _POSTPROCESS))
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}; the pipeline knows {known}")
        if options.get("precision", "fp32") not in PRECISIONS:
            raise ValueError(
                f"precision={options['precision']!r} is unknown; choose one of {', '.join(PRECISIONS)}"
            )
        if options.get("test_time_augmentation", 0) not in (False, True, None, 4, 8):
            raise ValueError(
                "test_time_augmentation is False, True, 4 (flips) or 8 (flips and quarter turns)"
            )
        forward = {name: value for name, value in options.items() if name in _FORWARD}
        return {}, forward, {name: value for name, value in options.items() if name in _POSTPROCESS}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Segment one image, or each of several; see the class."""
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        return super().__call__(list(inputs) if isinstance(inputs, tuple) else inputs, **kwargs)

    def preprocess(self, image: Any) -> dict[str, Any]:  # type: ignore[override]
        """Read one image; keep its size for the way back."""
        reader = self.image_processor
        pixels = read_image(image, reader.max_pixels, reader.channel_names)
        features = self.image_processor(pixels)
        return {"pixel_values": features["pixel_values"], "size": tuple(pixels.shape[:2])}

    def _forward(  # type: ignore[override]
        self,
        model_inputs: dict[str, Any],
        tile: int = 1024,
        overlap: int = 128,
        test_time_augmentation: bool | int = False,
        precision: str = "fp32",
    ) -> dict[str, Any]:
        views = 8 if test_time_augmentation is True else int(test_time_augmentation or 1)
        dtype = PRECISIONS[precision]
        pixel_values = model_inputs["pixel_values"].to(self.model.dtype)
        training = self.model.training
        self.model.eval()  # a training loop may have lent its model; batch statistics must not move
        try:
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                logits = tiled_logits(
                    lambda x: _averaged(self._maps, x, views),
                    pixel_values,
                    tile,
                    overlap,
                    self.model.multiple,
                )
        finally:
            self.model.train(training)
        return {"logits": logits.float(), "size": model_inputs["size"]}

    def _maps(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values.contiguous(memory_format=torch.channels_last)).logits

    def get_inference_context(self) -> Any:
        """Spare autograd's bookkeeping altogether."""
        return torch.inference_mode

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, Any],
        threshold: float = 0.0,
        decision_thresholds: dict[str, float] | None = None,
    ) -> dict[str, np.ndarray]:
        """Turn the maps of one image into label arrays."""
        size = model_outputs["size"]
        if hasattr(self.image_processor, "post_process_instance_segmentation"):
            found = self.image_processor.post_process_instance_segmentation(
                model_outputs,
                threshold=threshold,
                target_sizes=[size],
                decision_thresholds=decision_thresholds or {},
            )[0]
            objects = found["segments_info"]
            return {
                "instance_labels": found["segmentation"].numpy().astype(np.int32, copy=False),
                "scores": np.array([item["score"] for item in objects], np.float32),
                "label_ids": np.array([item["label_id"] for item in objects], np.int64),
            }
        logits = self.image_processor.to_original_size(model_outputs["logits"][0], size)
        return {
            "semantic_mask": logits.argmax(0).numpy().astype(np.uint8),
            "probabilities": logits.softmax(0).numpy(),
        }

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the result of each input in order.

        The base class stacks whatever comes, which fails on images of two sizes; here a batch ends where the size
        changes, so that nothing is padded and no result depends on its neighbours.
        """
        prepared: Any
        if hasattr(inputs, "__len__"):
            prepared = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            prepared, num_workers = PipelineIterator(inputs, self.preprocess, preprocess_params), 0
        loader = DataLoader(prepared, batch_size=None, num_workers=num_workers, collate_fn=_unchanged)
        for batch in _of_one_size(loader, batch_size):
            pixel_values = torch.cat([item["pixel_values"] for item in batch])
            outputs = self.forward({"pixel_values": pixel_values, "size": ()}, **forward_params)
            for item, logits in zip(batch, outputs["logits"]):
                yield self.postprocess({"logits": logits[None], "size": item["size"]}, **postprocess_params)


def _averaged(maps: Callable[[Tensor], Tensor], x: Tensor, views: int) -> Tensor:
    """Mean of the maps over 1, 4 (flips) or 8 (flips and quarter turns) views, each turned back before."""
    if views == 1:
        return maps(x)
    total = torch.zeros((), device=x.device)
    for turns in range(0, 4, 2 if views == 4 else 1):
        turned = torch.rot90(x, turns, (-2, -1))
        both = maps(turned) + maps(turned.flip(-1)).flip(-1)
        total = total + torch.rot90(both, -turns, (-2, -1))
    return total / views


def _of_one_size(items: Iterable[dict[str, Any]], batch_size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for item in items:
        if batch and (
            len(batch) >= batch_size or item["pixel_values"].shape != batch[0]["pixel_values"].shape
        ):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _unchanged(item: Any) -> Any:
    return item


__all__ = ["CellSegmentationPipeline"]
