"""The `cell-classification` pipeline: microscope images in, calibrated scores and decisions out."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Pipeline

from .decisions import decide


class CellClassificationPipeline(Pipeline):
    r"""Classify microscope images with all their bits and channels.

    Unlike the stock `image-classification` pipeline, which makes 8-bit RGB of everything and knows no thresholds, this
    one reads with the image processor's own reader and applies the model's `decision_thresholds`.

    Args:
        top_k: Only the best entries of each image; all by default.
        decision_thresholds: In place of the model's own, by label name.
        precision: "fp32" (default, exact) or "bf16" (faster where the processor has it).
        test_time_augmentation: 4 averages the logits over the flips, 8 (or True) also over the quarter turns; by
            default what the model's `test_time_views` says.
        batch_size: Images that go through the network together (default 32).

    Calling it:
        With a path, bytes, a PIL image, an array or a tensor, or a list, generator or dataset of them. Each image gives
        a list of `{"label", "score", "predicted"}`, highest score first; `predicted` is the decision.

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
        if self._batch_size is None:
            self._batch_size = 32
        self.model.to(memory_format=torch.channels_last)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = {
            **dict.fromkeys(("precision", "test_time_augmentation"), "forward"),
            **dict.fromkeys(("top_k", "decision_thresholds"), "after"),
        }
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(f"unknown option {', '.join(unknown)}; the pipeline knows {', '.join(known)}")
        if options.get("precision", "fp32") not in ("fp32", "bf16"):
            raise ValueError(f"precision={options['precision']!r} is unknown; choose fp32 or bf16")
        if options.get("test_time_augmentation", 0) not in (False, True, None, 4, 8):
            raise ValueError(
                "test_time_augmentation is False, True, 4 (flips) or 8 (flips and quarter turns)"
            )
        forward = {name: value for name, value in options.items() if known[name] == "forward"}
        return {}, forward, {name: value for name, value in options.items() if known[name] == "after"}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Classify one image, or each of several; see the class."""
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        return super().__call__(list(inputs) if isinstance(inputs, tuple) else inputs, **kwargs)

    def preprocess(self, image: Any) -> dict[str, Any]:  # type: ignore[override]
        """Read and prepare one image."""
        return {"pixel_values": self.image_processor(image)["pixel_values"]}

    def _forward(  # type: ignore[override]
        self,
        model_inputs: dict[str, Any],
        precision: str = "fp32",
        test_time_augmentation: bool | int | None = None,
    ) -> dict[str, Any]:
        pixels = model_inputs["pixel_values"].to(self.model.dtype)
        views = 8 if test_time_augmentation is True else test_time_augmentation or None
        training = self.model.training
        self.model.eval()  # a training loop may have lent its model; batch statistics must not move
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
                logits = self.model(pixels.contiguous(memory_format=torch.channels_last), views=views).logits
        finally:
            self.model.train(training)
        return {"logits": logits.float()}

    def get_inference_context(self) -> Any:
        """Spare autograd's bookkeeping altogether."""
        return torch.inference_mode

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, Any],
        top_k: int | None = None,
        decision_thresholds: dict[str, float] | None = None,
    ) -> list[dict[str, Any]]:
        """Turn the logits of one image into scores and the decision."""
        config = self.model.config
        scores = self.model.probabilities(model_outputs["logits"])[0].cpu().numpy()
        thresholds = config.decision_thresholds if decision_thresholds is None else decision_thresholds
        chosen = decide(scores[None], thresholds, config.id2label, config.multi_label)[0]
        predicted = chosen if config.multi_label else np.arange(len(scores)) == chosen
        entries = [
            {"label": config.id2label[i], "score": float(scores[i]), "predicted": bool(predicted[i])}
            for i in np.argsort(-scores, kind="stable")
        ]
        return entries[:top_k]

    def probabilities(self, images: Iterable[Any], batch_size: int = 32) -> np.ndarray:
        """Return `(N, num_labels)` float32 calibrated probabilities of N images, in the order of `id2label`."""
        found = [
            self.model.probabilities(outputs["logits"]).cpu().numpy()
            for outputs in self._batched(
                (self.preprocess(image) for image in images), batch_size, self._forward_params
            )
        ]
        return np.concatenate(found) if found else np.zeros((0, self.model.config.num_labels), np.float32)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the result of each input in order; a batch ends where the size changes, so nothing is padded."""
        prepared = (self.preprocess(image, **preprocess_params) for image in inputs)
        for outputs in self._batched(prepared, batch_size, forward_params):
            for logits in outputs["logits"]:
                yield self.postprocess({"logits": logits[None]}, **postprocess_params)

    def _batched(
        self, prepared: Iterable[dict[str, Tensor]], batch_size: int, forward_params: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        batch: list[Tensor] = []
        for item in prepared:
            pixels = item["pixel_values"]
            if batch and (len(batch) >= batch_size or pixels.shape != batch[0].shape):
                yield self.forward({"pixel_values": torch.cat(batch)}, **forward_params)
                batch = []
            batch.append(pixels)
        if batch:
            yield self.forward({"pixel_values": torch.cat(batch)}, **forward_params)


__all__ = ["CellClassificationPipeline"]
