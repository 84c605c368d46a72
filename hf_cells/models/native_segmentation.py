"""Segmentation networks of transformers itself, trained as ours are: what is saved needs no code of this package."""

import os
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.modeling_outputs import SemanticSegmenterOutput

from .configuration_cell_unet import check_classes
from .losses import semantic_loss

_LOSS: dict[str, Any] = {"loss_name": "cross_entropy+dice", "class_weights": None}
# A common base of the two would hide from transformers which configuration belongs to which.
_Base: Any = transformers.PreTrainedModel if TYPE_CHECKING else object


class NativeSegmenter(_Base):
    """Gives a segmentation model of transformers logits at the size of the image, and the loss of our semantic models.

    It adds no weight, and the classes below bear the names of those that they extend: `save_pretrained` writes the name
    into config.json, and a process without this package finds the original by it.

    Attributes:
        further_settings: What a configuration may hold beside its own keys, with the defaults; as in
            [`CellUNetSemanticConfig`].
        encoder: Name of the part that ready weights are for.
        ignored: Name of the setting for the label that no loss counts.
        multiple: Large images are cut into tiles at multiples of this: the stride of the coarsest maps.
    """

    further_settings: ClassVar[dict[str, Any]] = _LOSS
    encoder: ClassVar[str]
    ignored: ClassVar[str]
    multiple: ClassVar[int] = 32

    def __init__(self, config: Any):
        check_classes(config)
        super().__init__(config)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SemanticSegmenterOutput | tuple[Tensor, ...]:
        """Compute the logits and, with labels, the loss.

        Args:
            pixel_values: `(B, 3, H, W)` float, from the image processor; any H and W.
            labels: `(B, H, W)` int64.
            return_dict: False returns a tuple.
            **kwargs: As for the model of transformers.
        """
        height, width = pixel_values.shape[-2:]
        # Of less than one cell of the coarsest maps the original can make nothing.
        pad = (0, max(0, self.multiple - width), 0, max(0, self.multiple - height))
        if any(pad):
            pixel_values = F.pad(pixel_values, pad, mode="replicate")
        output = super().forward(pixel_values, return_dict=True, **kwargs)
        logits = output.logits
        if logits.shape[-2:] != pixel_values.shape[-2:]:
            logits = F.interpolate(logits.float(), pixel_values.shape[-2:], mode="bilinear")
        logits = logits[..., :height, :width]
        loss = None
        if labels is not None:
            name, weights = (getattr(self.config, setting, default) for setting, default in _LOSS.items())
            loss = semantic_loss(logits, labels, name, weights, getattr(self.config, self.ignored))
        made = SemanticSegmenterOutput(
            loss=loss, logits=logits, hidden_states=output.hidden_states, attentions=output.attentions
        )
        return made.to_tuple() if return_dict is False else made

    @classmethod
    def from_backbone(cls, config: Any, pretrained: bool | str | os.PathLike[str]) -> Any:
        """Build the model with ready weights in its encoder; the head is a new one.

        Args:
            config: Of the same sizes as the ready encoder.
            pretrained: Folder, or name on the Hub, of any model of transformers with this encoder, such as
                "nvidia/mit-b0".

        Raises:
            ValueError: When it names no model, or one with another encoder.
            OSError, RuntimeError: When the weights cannot be had, or have other sizes.
        """
        if isinstance(pretrained, bool):
            raise ValueError(
                "give a folder or a name on the Hub for the ready weights, such as nvidia/mit-b0"
            )
        model: Any = cls(config)
        encoder = getattr(model, cls.encoder)
        ready, found = type(encoder).from_pretrained(
            pretrained, config=encoder.config, output_loading_info=True
        )
        if len(found["missing_keys"]) > len(encoder.state_dict()) / 2:
            raise ValueError(f"{pretrained} holds no weights of a {encoder.config.model_type}")
        encoder.load_state_dict(ready.state_dict())
        return model


class SegformerForSemanticSegmentation(NativeSegmenter, transformers.SegformerForSemanticSegmentation):
    """SegFormer (Xie et al. 2021, arXiv:2105.15203): attention at four scales, a head at a quarter of the size."""

    encoder, ignored = "segformer", "semantic_loss_ignore_index"


class UperNetForSemanticSegmentation(NativeSegmenter, transformers.UperNetForSemanticSegmentation):
    """UPerNet (Xiao et al. 2018, arXiv:1807.10221) over any backbone of transformers with maps at several scales."""

    encoder, ignored = "backbone", "loss_ignore_index"
    # Of use in training only, for a loss that is not ours; it would be saved without having learnt.
    further_settings: ClassVar[dict[str, Any]] = {**_LOSS, "use_auxiliary_head": False}

    def __init__(self, config: Any):
        if config.use_auxiliary_head:
            raise ValueError("use_auxiliary_head: the auxiliary head is not trained here; set it to false")
        super().__init__(config)


__all__ = ["NativeSegmenter", "SegformerForSemanticSegmentation", "UperNetForSemanticSegmentation"]
