"""Configurations of the U-Net family: one `model_type` per task over a common base.

Two model types, because Auto classes and pipelines choose the head from the configuration class: a shared one would
load a semantic repository into the instance model, silently, with a random head.
"""

from typing import Any

from transformers import PreTrainedConfig

DECODERS = ("unet", "attention", "unetplusplus")
NORMS = ("batch", "group", "instance", "none")
UPSAMPLINGS = ("nearest", "bilinear", "transposed")


class CellUNetConfig(PreTrainedConfig):
    r"""Everything that shapes the network, whatever its head.

    Args:
        num_channels: Input channels.
        hidden_sizes: Filters per level, finest first. Their number is the depth. With a `backbone`, the filters of
            the decoder levels (finest first), one for each feature map of the backbone.
        stem_stride: Space-to-depth factor before the first convolution (1: none). The head undoes it by
            depth-to-space, so that the output always has the input's size (Shi et al. 2016, arXiv:1609.05158).
        decoder_type: "unet" (Ronneberger et al. 2015), "attention" (Oktay et al. 2018, gates on the skips) or
            "unetplusplus" (Zhou et al. 2018, nested dense skips).
        hidden_act: Any activation name known to transformers ("relu", "leaky_relu", "mish", "gelu", …).
        negative_slope: Slope of "leaky_relu" below zero.
        norm: "batch", "group" (8 channels a group), "instance" or "none".
        residual: Add a shortcut around each pair of convolutions.
        upsampling: "nearest", "bilinear" or "transposed" (as in the original U-Net).
        dropout: Probability of dropping a channel between the two convolutions of a block.
        backbone: Name of a timm model that replaces the plain encoder; weights come from
            `from_backbone(…, pretrained=True)`, never from the constructor.
        class_colors: Colour `[red, green, blue]` (0..255) of each label by its name, for maps and figures; None where
            no one gave any.
        backbone_kwargs: Further arguments of `timm.create_model(…, features_only=True)`. The few families that take one
            image size only (MaxViT, CoAtNet, Hiera) want `img_size` here, and the same `size` in the image processor.
    """

    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (16, 32, 64, 128, 256)
    stem_stride: int = 1
    decoder_type: str = "unet"
    hidden_act: str = "relu"
    negative_slope: float = 0.01
    norm: str = "batch"
    residual: bool = False
    upsampling: str = "nearest"
    dropout: float | int = 0.0
    initializer_range: float = 0.02
    backbone: str | None = None
    backbone_kwargs: dict[str, Any] | None = None
    class_colors: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name, choices in (("decoder_type", DECODERS), ("norm", NORMS), ("upsampling", UPSAMPLINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}"
                )
        if (
            self.num_channels < 1
            or self.stem_stride < 1
            or not self.hidden_sizes
            or min(self.hidden_sizes) < 1
        ):
            raise ValueError("num_channels, stem_stride and every entry of hidden_sizes must be at least 1")
        if self.backbone and (self.decoder_type == "unetplusplus" or self.stem_stride != 1):
            raise ValueError(
                "a timm backbone has its own stem: use stem_stride=1 and decoder_type unet or attention"
            )
        self.class_colors = _checked_colours(self.class_colors)
        if self.id2label and not self.label2id:  # the base class would save None
            self.label2id = {label: int(i) for i, label in self.id2label.items()}
        super().__post_init__(**kwargs)


class CellUNetSemanticConfig(CellUNetConfig):
    r"""Configuration of [`CellUNetForSemanticSegmentation`].

    Args:
        loss_name: "cross_entropy", "dice", "cross_entropy+dice" or "focal". With two labels, cross-entropy over the
            softmax equals the binary cross-entropy of a sigmoid on the difference of the two logits.
        class_weights: Weight of each label in the cross-entropy, or None; a pixel's weight is that of its label.
        class_groups: Labels that an evaluation also scores as one, by the name of the group, such as
            `{"white_cell": ["neutrophil", "lymphocyte"]}`; None for none.
        semantic_loss_ignore_index: Label that no loss and no metric counts.
    """

    model_type = "cell_unet_semantic"

    loss_name: str = "cross_entropy"
    class_weights: list[float] | None = None
    class_groups: dict[str, Any] | None = None
    semantic_loss_ignore_index: int = 255

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_classes(self)


class CellUNetInstanceConfig(CellUNetConfig):
    r"""Configuration of [`CellUNetForInstanceSegmentation`]; the decoding's settings live in its image processor."""

    model_type = "cell_unet_instance"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None and kwargs.get("num_labels") is None:
            self.id2label = {0: "cell"}  # all objects are of one class; "LABEL_0" tells nobody anything
        super().__post_init__(**kwargs)


def check_classes(config: Any) -> None:
    """Refuse settings of a semantic model that do not agree with its labels, whatever its architecture.

    Raises:
        ValueError: Fewer than two labels, other than one weight for each, or groups of labels that it does not have.
    """
    if (config.num_labels or 0) < 2:
        raise ValueError("a semantic model needs two labels at least: the background is one of them")
    weights, groups = (getattr(config, name, None) for name in ("class_weights", "class_groups"))
    if weights is not None and len(weights) != config.num_labels:
        raise ValueError(f"{len(weights)} class_weights for {config.num_labels} labels; give one each")
    labels = set(map(str, (config.id2label or {}).values()))
    grouped = [label for members in (groups or {}).values() for label in members]
    if unknown := sorted(set(grouped) - labels):
        raise ValueError(f"class_groups holds {unknown[0]!r}; the labels are {', '.join(sorted(labels))}")
    if len(grouped) > len(set(grouped)) or set(groups or {}) & (labels - set(grouped)):
        raise ValueError(
            "class_groups: a label may be in one group only, and no group has a lone label's name"
        )


def _checked_colours(colours: dict[str, Any] | None) -> dict[str, list[int]] | None:
    if colours is None:
        return None
    plain = {str(name): [int(value) for value in colour] for name, colour in colours.items()}
    for name, colour in plain.items():
        if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
            raise ValueError(f"class_colors[{name!r}] is {colour}; give red, green and blue from 0 to 255")
    return plain


__all__ = ["CellUNetConfig", "CellUNetInstanceConfig", "CellUNetSemanticConfig", "check_classes"]
