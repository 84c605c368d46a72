"""The networks of a classifier: stages described in a configuration, ready backbones, and heads."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_cell_classification import CellClassificationConfig


def _norm(config: CellClassificationConfig, channels: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(channels)
    if config.norm == "group":
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    return nn.Identity()


def _convolution(
    config: CellClassificationConfig, inputs: int, outputs: int, kernel: int, stride: int
) -> Any:
    bias = config.norm == "none"
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)


class PlainBlock(GradientCheckpointingLayer, nn.Sequential):
    """Convolution, norm, activation."""

    def __init__(
        self,
        config: CellClassificationConfig,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        drop: float,
    ):
        super().__init__(
            _convolution(config, inputs, outputs, kernel, stride),
            _norm(config, outputs),
            ACT2FN[config.hidden_act],
        )


class ResidualBlock(GradientCheckpointingLayer):
    """Two convolutions with a shortcut (He et al. 2016, arXiv:1512.03385), channel attention on request."""

    def __init__(
        self,
        config: CellClassificationConfig,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        drop: float,
    ):
        super().__init__()
        self.conv1 = _convolution(config, inputs, outputs, kernel, stride)
        self.norm1 = _norm(config, outputs)
        self.conv2 = _convolution(config, outputs, outputs, kernel, 1)
        self.norm2 = _norm(config, outputs)
        self.act = ACT2FN[config.hidden_act]
        self.drop = drop
        self.squeeze: nn.Module | None = None
        if config.squeeze_ratio:
            units = max(4, outputs // config.squeeze_ratio)
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(outputs, units, 1), nn.ReLU(), nn.Conv2d(units, outputs, 1)
            )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(
                pool, nn.Conv2d(inputs, outputs, 1, bias=False), _norm(config, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, H / stride, W / stride)`."""
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        if self.squeeze is not None:
            y = y * self.squeeze(y).sigmoid()
        if self.training and self.drop:
            kept = (torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop).to(y.dtype)
            y = y * kept / (1 - self.drop)
        return self.act(y + self.shortcut(x))


class MixStyle(nn.Module):
    """Mixes the mean and deviation of each channel between the images of a batch (Zhou et al. 2021, arXiv:2104.02008).

    In training only, in a share of the batches; the share of the other image is drawn from Beta(0.1, 0.1).
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, `(B, C, H, W)`, in mixed styles."""
        if not self.training or not self.probability or torch.rand((), device="cpu") >= self.probability:
            return x
        values = x.float()
        variance, mean = torch.var_mean(values.detach(), (2, 3), keepdim=True)
        deviation = (variance + 1e-6).sqrt()
        one_tenth = torch.tensor(0.1, device="cpu")  # wherever tensors are made by default
        share = torch.distributions.Beta(one_tenth, one_tenth).sample((len(x), 1, 1, 1)).to(x.device)
        other = torch.randperm(len(x), device=x.device)
        mixed_mean = mean.lerp(mean[other], share)
        mixed_deviation = deviation.lerp(deviation[other], share)
        return ((values - mean) / deviation * mixed_deviation + mixed_mean).to(x.dtype)


class CellCNN(nn.Module):
    """Stages of blocks; returns the last map."""

    def __init__(self, config: CellClassificationConfig):
        super().__init__()
        self.stem_stride, self.kind = config.stem_stride, config.downsample_type
        self.factors = config.per_stage("downsample")
        depths, kernels = config.per_stage("depths"), config.per_stage("kernel_size")
        drops = [config.drop_path * place / max(1, sum(depths) - 1) for place in range(sum(depths))]
        block = ResidualBlock if config.residual else PlainBlock
        inputs, stride, stages = config.num_channels * config.stem_stride**2, 1, []
        for width, depth, kernel, factor in zip(config.hidden_sizes, depths, kernels, self.factors):
            blocks = []
            for _ in range(depth):
                blocks.append(block(config, inputs, width, kernel, stride, drops.pop(0)))
                inputs, stride = width, 1
            stages.append(nn.Sequential(*blocks))
            stride = factor if self.kind == "conv" else 1
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout2d(config.dropout) if config.dropout else nn.Identity()
        self.mix_style = MixStyle(config.mix_style)
        self.num_features = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, num_features, h, w)`."""
        if self.stem_stride > 1:
            height, width = x.shape[-2:]
            pad = (-width % self.stem_stride, -height % self.stem_stride)
            if any(pad):
                x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
            x = F.pixel_unshuffle(x, self.stem_stride)
        for place, (stage, factor) in enumerate(zip(self.stages, self.factors)):
            x = self.dropout(stage(x))
            if place < 2:  # early maps carry the style, late ones the class
                x = self.mix_style(x)
            if factor > 1 and self.kind != "conv":
                pool = F.max_pool2d if self.kind == "max" else F.avg_pool2d
                x = pool(x, [min(factor, side) for side in x.shape[-2:]])
        return x


class AlexNetFeatures(nn.Module):
    """The convolutions of torchvision's AlexNet (Krizhevsky 2014) and its 6×6 pooling: timm has no AlexNet."""

    def __init__(self, num_channels: int):
        super().__init__()
        try:
            from torchvision.models import alexnet
        except ImportError as error:
            raise ImportError("backbone 'alexnet' needs torchvision: pip install torchvision") from error
        made = alexnet(weights=None)
        first: Any = made.features[0]
        if num_channels != 3:
            made.features[0] = nn.Conv2d(num_channels, first.out_channels, 11, 4, 2)
        self.features, self.avgpool = made.features, made.avgpool
        self.num_features = 256

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, 256, 6, 6)`."""
        return self.avgpool(self.features(x))


def make_backbone(config: CellClassificationConfig, **weights: Any) -> nn.Module:
    """Build the backbone: a module with `num_features` whose output is a map or, of a timm model, pooled features."""
    if config.backbone is None:
        return CellCNN(config)
    if config.backbone == "alexnet":
        return AlexNetFeatures(config.num_channels)
    try:  # in a `try`, so that a plain model loads from the Hub where timm is not installed
        import timm
    except ImportError as error:
        raise ImportError("a model with a backbone needs timm: pip install timm") from error
    pooling = {} if config.pooling in (None, "flatten") else {"global_pool": config.pooling}
    arguments = {"in_chans": config.num_channels, **pooling, **(config.backbone_kwargs or {}), **weights}
    try:
        return timm.create_model(config.backbone, num_classes=0, **arguments)
    except RuntimeError as error:  # also what timm raises for a name that it does not know
        raise ValueError(
            f"backbone={config.backbone!r}: {error}; timm.list_models() names them all"
        ) from error


def pooled_features(
    backbone: nn.Module, x: Tensor, pooling: str | None, sizes: Tensor | None = None
) -> Tensor:
    """Return `(B, D)` features of the backbone's output, whatever its form.

    With `sizes`, `(B, 2)` height and width, only the cells of the last map that an image reaches are pooled; what
    convolutions carry over its border stays, and matters the less the larger the image is against their reach.

    Raises:
        ValueError: Padding cannot be left out of what this network does after its last map.
    """
    if sizes is not None:
        return _features_of_sizes(backbone, x, pooling, sizes)
    y = backbone(x)
    if y.ndim == 2:
        return y
    if pooling == "flatten" or isinstance(backbone, AlexNetFeatures):
        return y.flatten(1)
    return y.amax((-2, -1)) if pooling == "max" else y.mean((-2, -1))


def _features_of_sizes(backbone: Any, x: Tensor, pooling: str | None, sizes: Tensor) -> Tensor:
    own = backbone if isinstance(backbone, CellCNN) else getattr(backbone, "forward_features", None)
    # What is between the last map and the pooling (a norm, a projection) differs by timm family; `global_pool` and a
    # plain head say that there is nothing.
    plain = isinstance(backbone, CellCNN) or hasattr(backbone, "global_pool")
    if own is None or not plain or pooling not in ("avg", "max"):
        raise ValueError(
            "batches of several sizes need pooling avg or max over the last map of a convolution network; "
            "choose them, or one size for all images"
        )
    maps = own(x)
    if maps.ndim != 4:
        raise ValueError(
            "batches of several sizes need a backbone that ends in a map; choose another, or one size"
        )
    reached = [
        torch.arange(cells, device=x.device) * side < sizes[:, axis, None].to(x.device) * cells
        for axis, (cells, side) in enumerate(zip(maps.shape[-2:], x.shape[-2:]))
    ]
    inside = (reached[0][:, :, None] & reached[1][:, None, :])[:, None]
    if pooling == "max":
        return maps.masked_fill(~inside, -torch.inf).amax((-2, -1))
    return (maps * inside).sum((-2, -1)) / inside.sum((-2, -1))


def feature_size(backbone: nn.Module, config: CellClassificationConfig) -> int:
    """How many features `pooled_features` gives."""
    if isinstance(backbone, AlexNetFeatures):
        return 256 * 6 * 6
    if isinstance(backbone, CellCNN) and config.pooling != "flatten":
        return backbone.num_features
    if isinstance(backbone, CellCNN):
        size: Any = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        height, width = -(-height // config.stem_stride), -(-width // config.stem_stride)
        for place, factor in enumerate(backbone.factors):
            if factor == 1 or (backbone.kind == "conv" and place == len(backbone.factors) - 1):
                continue
            up = backbone.kind == "conv"  # strided convolutions round up, pools round down
            height, width = (-(-s // factor) if up else max(1, s // factor) for s in (height, width))
        return backbone.num_features * height * width
    made: Any = backbone
    return int(getattr(made, "head_hidden_size", None) or made.num_features)


class ClassifierHead(nn.Module):
    """Dense layers on the features; the last one, `classifier`, gives the logits."""

    def __init__(self, config: CellClassificationConfig, features: int):
        super().__init__()
        self.features = features
        widths = [features, *config.head_hidden_sizes]
        drops = config.head_dropout
        drops = list(drops) if isinstance(drops, (list, tuple)) else [drops] * len(widths)
        if len(drops) != len(widths):
            raise ValueError(f"head_dropout has {len(drops)} entries for {len(widths)} dense layers")
        # An SVM wants features of one scale: its margin is a distance in their space.
        self.standardise = (
            nn.BatchNorm1d(features, affine=False) if config.head_type == "svm" else nn.Identity()
        )
        layers: list[nn.Module] = []
        for inputs, outputs, drop in zip(widths, widths[1:], drops):
            layers += [nn.Dropout(drop), nn.Linear(inputs, outputs), ACT2FN[config.hidden_act]]
        self.hidden = nn.Sequential(*layers)
        self.dropout = nn.Dropout(drops[-1])
        self.classifier = nn.Linear(widths[-1], config.num_labels or 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, num_labels)` logits of `(B, D)` features.

        Raises:
            ValueError: The features are of another number than the head was built for.
        """
        if x.shape[1] != self.features:
            raise ValueError(
                f"the head takes {self.features} features and gets {x.shape[1]}: with pooling='flatten' the image "
                "processor's size must be the model's image_size"
            )
        return self.classifier(self.dropout(self.hidden(self.standardise(x))))


__all__ = [
    "AlexNetFeatures",
    "CellCNN",
    "ClassifierHead",
    "feature_size",
    "make_backbone",
    "pooled_features",
]
