"""Classifier of cell images over any backbone."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ImageClassifierOutput

from .backbone_weights import load_backbone_weights
from .cell_cnn import ClassifierHead, feature_size, make_backbone, pooled_features
from .class_activation import class_activation_map
from .classification_losses import classification_loss
from .configuration_cell_classification import CellClassificationConfig
from .decisions import decide
from .gradient_checkpointing import CheckpointedModel
from .hidden_states import recorded, wants_hidden_states


class CellForImageClassification(CheckpointedModel):
    """Every image gets one of `config.num_labels` labels, or several of them."""

    config_class = CellClassificationConfig
    main_input_name = "pixel_values"
    input_modalities: Any = ("image",)

    def __init__(self, config: CellClassificationConfig):
        super().__init__(config)
        if config.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act={config.hidden_act!r} is unknown; relu, leaky_relu, mish and gelu are some"
            )
        self.backbone = make_backbone(config)
        self.head = ClassifierHead(config, feature_size(self.backbone, config))
        self.frozen: int | None = 0
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015
        elif isinstance(module, nn.Linear) and self.config.backbone is None:
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        # timm families with relative positions or rotary tables keep them in non-persistent buffers, which a
        # meta-device load leaves as garbage; timm offers this hook to fill them again.
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()

    @classmethod
    def from_backbone(
        cls, config: CellClassificationConfig, pretrained: bool | str | os.PathLike[str] = True
    ) -> "CellForImageClassification":
        """Build the model with ready weights in its backbone; see `load_backbone_weights`.

        Raises:
            ValueError: The configuration has no backbone, or the weights cannot be had.
        """
        model = cls(config)
        load_backbone_weights(model.backbone, config, pretrained)
        return model

    def features(self, pixel_values: Tensor, image_sizes: Tensor | None = None) -> Tensor:
        """Return `(B, D)` float features: what the head sees of `(B, num_channels, H, W)`."""
        return pooled_features(self.backbone, pixel_values, self.config.pooling, image_sizes)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        views: int | None = None,
        image_sizes: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | tuple[Tensor, ...]:
        """Compute the logits and, with labels, the loss.

        Args:
            pixel_values: `(B, num_channels, H, W)` float, from the image processor.
            labels: `(B,)` int64; or `(B, num_labels)` float: soft labels, or 0/1 of a multi-label problem.
            views: In place of the configuration's `test_time_views`; in training there is one always.
            image_sizes: `(B, 2)` height and width of each image, in the upper left of its `(H, W)`: what lies beyond
                is padding, which the pooling leaves out. Needs one view, and a network that ends in a map.
            output_hidden_states: Return the map after each stage too (of a ready backbone, what it returns).
            return_dict: False returns a tuple.
        """
        config: Any = self.config
        seen = _views(
            self.checkpointable(pixel_values), 1 if self.training else views or config.test_time_views
        )
        if image_sizes is not None and len(seen) > 1:
            raise ValueError(
                "images of several sizes have no flips in common; give them one by one, or views=1"
            )
        wanted = wants_hidden_states(config, output_hidden_states)
        stages = getattr(self.backbone, "stages", None) if config.backbone is None else None
        with recorded(stages or [self.backbone], wanted) as states:
            logits = torch.stack([self.head(self.features(view, image_sizes)) for view in seen]).mean(0)
        loss = None
        if labels is not None:
            loss = classification_loss(
                logits,
                labels,
                config.loss_name,
                class_weights=config.class_weights,
                label_smoothing=config.label_smoothing,
                **config.loss_settings(),
            )
        output = ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=tuple(states) if wanted else None
        )
        return output.to_tuple() if return_dict is False else output

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return `(B, num_labels)` float32: softmax, or a sigmoid for each label of a multi-label problem."""
        logits = logits.float()
        return logits.sigmoid() if self.config.multi_label else logits.softmax(-1)

    def decide(self, logits: Tensor) -> Tensor:
        """Apply the model's decision thresholds.

        Args:
            logits: `(B, num_labels)`.

        Returns:
            `(B,)` int64 class ids, or `(B, num_labels)` bool of a multi-label problem.
        """
        config: Any = self.config
        chosen = decide(
            self.probabilities(logits).detach().cpu().numpy(),
            config.decision_thresholds,
            config.id2label,
            config.multi_label,
        )
        return torch.from_numpy(chosen).to(logits.device)

    def class_activation_map(self, pixel_values: Tensor, class_id: int | Tensor | None = None) -> Tensor:
        """Return `(B, H, W)` from 0 to 1: where the image speaks for a class; see `class_activation`."""
        return class_activation_map(self, pixel_values, class_id)

    @torch.no_grad()
    def fold_temperature(self, temperature: float) -> None:
        """Divide the logits by a temperature for good, in the weights of the last layer.

        Raises:
            ValueError: The temperature is not above 0.
        """
        if not temperature > 0:
            raise ValueError(f"a temperature must be above 0, not {temperature}")
        self.head.classifier.weight.div_(temperature)
        self.head.classifier.bias.div_(temperature)
        self.config.calibration_temperature = float(self.config.calibration_temperature * temperature)

    def layers(self) -> list[nn.Module]:
        """Parts of the backbone that have weights, from the input to the output: the stages of the plain network, or a
        ready backbone's children, with lists of blocks taken apart.
        """
        return [part for part in _parts(self.backbone) if any(True for _ in part.parameters())]

    def freeze(self, count: int | None = None) -> None:
        """Stop the first `count` of `layers()` from learning, or all of them; their norms stay in evaluation mode."""
        self.frozen = count
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train(self.training)

    def _frozen_modules(self) -> list[nn.Module]:
        # Asked anew each time: SyncBatchNorm's conversion puts other modules in their places. The backbone as a whole
        # has parameters of its own too, such as a class token.
        return [self.backbone] if self.frozen is None else self.layers()[: self.frozen]

    def train(self, mode: bool = True) -> "CellForImageClassification":
        """Set the training mode; frozen layers keep out of it, so that their running statistics stay."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self


def _views(images: Tensor, count: int) -> list[Tensor]:
    """The images themselves, their flips, and their quarter turns."""
    if count == 1:
        return [images]
    flips = [images, images.flip(-1), images.flip(-2), images.flip((-1, -2))]
    return flips if count == 4 else [*flips, *(view.transpose(-1, -2) for view in flips)]


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from child
        else:
            yield child


__all__ = ["CellForImageClassification"]
