"""Preprocessing that an image processor of transformers does as well, and that is saved as that processor."""

from typing import Any

from transformers import SegformerImageProcessor

from .image_processing_cells import CellSemanticImageProcessor

# What the other processor cannot do, or not to the last digit.
_FIXED: dict[str, Any] = {
    "num_channels": 3,
    "channel_names": None,
    "scaling": "dtype",
    "size": None,
    "magnification": 1.0,
}


class NativeSemanticImageProcessor(CellSemanticImageProcessor):
    r"""Preprocessing of 8-bit RGB as a `SegformerImageProcessor` does it; grey and 16-bit images are read too.

    Intensities are divided by the largest value of their type, and the pixels are kept as they are. What is saved is
    the `preprocessor_config.json` of a `SegformerImageProcessor`, which the Auto classes load without any code of ours.

    Args:
        image_mean: Per channel, subtracted after scaling; None for no subtraction.
        image_std: Per channel.
        max_pixels: Larger images are refused.
        **kwargs: Other settings of [`CellImageProcessor`]; they have one possible value each.
    """

    _auto_class = None  # that of the class above would let its code travel

    def __init__(
        self,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        max_pixels: int = 100_000_000,
        **kwargs: Any,
    ):
        for name, value in kwargs.items():
            if name not in _FIXED or value != _FIXED[name]:
                raise ValueError(
                    f"{name}={value!r} is nothing that a SegformerImageProcessor of transformers does; leave it out"
                )
        super().__init__(image_mean=image_mean, image_std=image_std, max_pixels=max_pixels, **_FIXED)

    def to_dict(self) -> dict[str, Any]:
        """Settings of the `SegformerImageProcessor` that gives the same `pixel_values`."""
        normalised: dict[str, Any] = {"image_mean": self.image_mean, "image_std": self.image_std}
        known = None not in normalised.values()
        stock = SegformerImageProcessor(
            do_resize=False, do_convert_rgb=True, do_normalize=known, **(normalised if known else {})
        )
        return stock.to_dict()

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read such settings.

        Raises:
            ValueError: They ask for more than this class does, as those of models that were trained elsewhere may.
        """
        stock = SegformerImageProcessor.from_dict(image_processor_dict)
        for name, done in (("do_resize", False), ("do_rescale", True), ("do_reduce_labels", False)):
            if bool(getattr(stock, name)) != done:
                raise ValueError(
                    f"its image processor has {name}={getattr(stock, name)}, which only models trained elsewhere "
                    "have; use it by transformers"
                )
        if not stock.do_normalize:
            return cls()
        return cls(image_mean=list(stock.image_mean), image_std=list(stock.image_std))


__all__ = ["NativeSemanticImageProcessor"]
