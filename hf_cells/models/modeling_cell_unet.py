"""U-Nets for cell images: a semantic and an instance model over one network."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils import ModelOutput

from .configuration_cell_unet import CellUNetConfig, CellUNetInstanceConfig, CellUNetSemanticConfig
from .gradient_checkpointing import CheckpointedModel
from .hidden_states import recorded, wants_hidden_states
from .instance_targets import INSTANCE_MAPS, instance_loss, instance_targets
from .losses import semantic_loss
from .unet import TimmEncoder, UNet


@dataclass
class CellInstanceSegmentationOutput(ModelOutput):
    """Output of [`CellUNetForInstanceSegmentation`].

    Args:
        loss: Scalar, when labels were given.
        logits: `(B, len(INSTANCE_MAPS), H, W)` raw maps, in the order of `INSTANCE_MAPS`; the image processor's
            `post_process_instance_segmentation` turns them into objects.
        hidden_states: The encoder's maps, finest first, when asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class CellUNetPreTrainedModel(CheckpointedModel):
    """Weights, loading and saving shared by the U-Net models."""

    config_class = CellUNetConfig
    base_model_prefix = "unet"
    main_input_name = "pixel_values"
    input_modalities: Any = ("image",)
    unet: UNet

    @property
    def multiple(self) -> int:
        """Tiles of large images start at multiples of this, see `tiled_logits`."""
        return self.unet.multiple

    def _maps(
        self, pixel_values: Tensor, output_hidden_states: bool | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Run the network; return the logits and, when wanted, the encoder's maps."""
        wanted = wants_hidden_states(self.config, output_hidden_states)
        with recorded([self.unet.encoder], wanted) as states:
            logits = self.unet(self.checkpointable(pixel_values))
        return logits, tuple(states) if wanted else None

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            # torch's own rule. A gain of sqrt(2) (He et al. 2015) would let the shortcuts, which no norm tames, grow
            # the first outputs to tens, and the first hundred steps would go into shrinking them.
            init.kaiming_uniform_(module.weight, a=5**0.5)
        # timm families with relative positions or rotary tables keep them in non-persistent buffers, which a
        # meta-device load leaves as garbage; timm offers this hook to fill them again.
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()

    @classmethod
    def from_backbone(cls, config: CellUNetConfig, pretrained: bool | str | os.PathLike[str] = True) -> Any:
        """Build the model with ready weights in its timm encoder.

        Args:
            config: A configuration with `backbone` set.
            pretrained: True takes timm's own weights (needs the network or timm's cache); a path takes a local
                `.safetensors` file of that timm model.

        Raises:
            ValueError: When the configuration has no backbone or the weights cannot be had.
        """
        if not config.backbone:
            raise ValueError("from_backbone needs a configuration with backbone='<timm name>'")
        model: Any = cls(config)
        weights: dict[str, Any] = {"pretrained": True}
        if pretrained is not True:
            if not str(pretrained).endswith(".safetensors") or not Path(str(pretrained)).is_file():
                raise ValueError(f"no weight file at {pretrained}; give the path of a .safetensors file")
            weights["pretrained_cfg_overlay"] = {"file": str(pretrained)}
        try:
            ready = TimmEncoder(config, **weights)
        except Exception as error:
            raise ValueError(
                f"no weights for {config.backbone!r}: {error}; go online once, or pass pretrained='weights.safetensors'"
            ) from error
        model.unet.encoder.load_state_dict(ready.state_dict())
        return model


class CellUNetForSemanticSegmentation(CellUNetPreTrainedModel):
    """Every pixel gets one of `config.num_labels` labels."""

    config_class = CellUNetSemanticConfig

    def __init__(self, config: CellUNetSemanticConfig):
        super().__init__(config)
        self.unet = UNet(config, config.num_labels or 0)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SemanticSegmenterOutput | tuple[Tensor, ...]:
        """Compute the logits and, with labels, the loss.

        Args:
            pixel_values: `(B, num_channels, H, W)` float, from the image processor; any H and W.
            labels: `(B, H, W)` int64.
            output_hidden_states: Return the encoder's maps too, finest first.
            return_dict: False returns a tuple.
        """
        logits, states = self._maps(pixel_values, output_hidden_states)
        loss = None
        if labels is not None:
            loss = semantic_loss(
                logits,
                labels,
                self.config.loss_name,
                self.config.class_weights,
                self.config.semantic_loss_ignore_index,
            )
        output = SemanticSegmenterOutput(loss=loss, logits=logits, hidden_states=states)
        return output.to_tuple() if return_dict is False else output


class CellUNetForInstanceSegmentation(CellUNetPreTrainedModel):
    """Every object gets an identity of its own, touching ones included."""

    config_class = CellUNetInstanceConfig

    def __init__(self, config: CellUNetInstanceConfig):
        super().__init__(config)
        self.unet = UNet(config, len(INSTANCE_MAPS))
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        instance_labels: Tensor | None = None,
        target_maps: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CellInstanceSegmentationOutput | tuple[Tensor, ...]:
        """Compute the raw maps and, with labels or ready targets, the loss.

        Args:
            pixel_values: `(B, num_channels, H, W)` float, from the image processor; any H and W.
            instance_labels: `(B, H, W)` integer, 0 = background, one number an object.
            target_maps: `(B, len(INSTANCE_MAPS), H, W)` float, as `instance_targets` makes them; spares the
                loop the work when the data workers have done it.
            output_hidden_states: Return the encoder's maps too, finest first.
            return_dict: False returns a tuple.
        """
        logits, states = self._maps(pixel_values, output_hidden_states)
        loss = None
        if target_maps is None and instance_labels is not None:
            made = [instance_targets(item) for item in instance_labels.cpu().numpy()]
            target_maps = torch.stack([torch.from_numpy(item) for item in made]).to(logits.device)
        if target_maps is not None:
            loss = instance_loss(logits, target_maps)
        output = CellInstanceSegmentationOutput(loss=loss, logits=logits, hidden_states=states)
        return output.to_tuple() if return_dict is False else output


__all__ = [
    "CellInstanceSegmentationOutput",
    "CellUNetForInstanceSegmentation",
    "CellUNetForSemanticSegmentation",
    "CellUNetPreTrainedModel",
]
