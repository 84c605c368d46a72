"""The network: an encoder (plain or timm), a decoder, and a head that ends at the input's resolution."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_cell_unet import CellUNetConfig


def _norm(config: CellUNetConfig, channels: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(channels)
    if config.norm == "group":
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    if config.norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()


def _activation(config: CellUNetConfig) -> nn.Module:
    if config.hidden_act == "leaky_relu":
        return nn.LeakyReLU(config.negative_slope)
    return ACT2FN[config.hidden_act]


class ConvBlock(GradientCheckpointingLayer):
    """Two 3×3 convolutions, each normalised and activated; with a shortcut when the configuration is residual."""

    def __init__(self, config: CellUNetConfig, in_channels: int, out_channels: int):
        super().__init__()
        bias = config.norm == "none"
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.norm1 = _norm(config, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias)
        self.norm2 = _norm(config, out_channels)
        self.act = _activation(config)
        self.dropout = nn.Dropout2d(config.dropout) if config.dropout else nn.Identity()
        self.shortcut: nn.Module | None = None
        if config.residual:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve twice: `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        y = self.dropout(self.act(self.norm1(self.conv1(x))))
        y = self.act(self.norm2(self.conv2(y)))
        return y if self.shortcut is None else y + self.shortcut(x)


class PlainEncoder(nn.Module):
    """Blocks with 2×2 max pooling between them; returns one feature map per level, finest first."""

    def __init__(self, config: CellUNetConfig):
        super().__init__()
        self.channels = list(config.hidden_sizes)
        self.reductions = [config.stem_stride * 2**level for level in range(len(self.channels))]
        self.stem_stride = config.stem_stride
        inputs = [config.num_channels * config.stem_stride**2, *self.channels[:-1]]
        self.blocks = nn.ModuleList(ConvBlock(config, i, o) for i, o in zip(inputs, self.channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first."""
        if self.stem_stride > 1:
            x = F.pixel_unshuffle(x, self.stem_stride)
        features = []
        for level, block in enumerate(self.blocks):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            features.append(x)
        return features


class TimmEncoder(nn.Module):
    """Any timm model as feature extractor. Channel-last families (Swin) are brought to channel-first."""

    def __init__(self, config: CellUNetConfig, **weights: Any):
        super().__init__()
        try:  # in a `try`, so that a plain model loads from the Hub where timm is not installed
            import timm
        except ImportError as error:
            raise ImportError("a model with a backbone needs timm: pip install timm") from error

        arguments: dict[str, Any] = {"in_chans": config.num_channels, **(config.backbone_kwargs or {})}
        arguments = {"features_only": True, "pretrained": False, **arguments, **weights}
        backbone: Any
        try:  # transformers are bound to the image size of their training unless told otherwise
            backbone = timm.create_model(str(config.backbone), **{"dynamic_img_size": True, **arguments})
        except TypeError:  # convolutional families do not know the argument, nor need it
            backbone = timm.create_model(str(config.backbone), **arguments)
        self.channels = list(backbone.feature_info.channels())
        self.reductions = list(backbone.feature_info.reduction())
        self.channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        self.backbone = backbone

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first, channels first."""
        features = self.backbone(x)
        return (
            [f.permute(0, 3, 1, 2).contiguous() for f in features] if self.channels_last else list(features)
        )


class Upsample(nn.Module):
    """Bring coarse features to the size of the finer level."""

    def __init__(self, config: CellUNetConfig, channels: int):
        super().__init__()
        self.mode = config.upsampling
        transposed = self.mode == "transposed"
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2) if transposed else nn.Identity()

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """Enlarge `(B, C, h, w)` to `size`."""
        x = self.up(x)
        if x.shape[-2:] == size:
            return x
        mode = "bilinear" if self.mode == "bilinear" else "nearest"
        return F.interpolate(x, size=size, mode=mode)


class AttentionGate(nn.Module):
    """Additive attention on a skip connection, steered by the coarser features (Oktay et al. 2018, eq. 1)."""

    def __init__(self, gate_channels: int, skip_channels: int):
        super().__init__()
        inner = max(1, skip_channels // 2)
        self.gate = nn.Conv2d(gate_channels, inner, 1)
        self.skip = nn.Conv2d(skip_channels, inner, 1, bias=False)
        self.score = nn.Conv2d(inner, 1, 1)

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """Weigh every pixel of `skip`; `gate` has its size already."""
        return skip * torch.sigmoid(self.score(F.relu(self.gate(gate) + self.skip(skip))))


class UNetDecoder(nn.Module):
    """Upsample, join the skip (through a gate when `attention`), convolve; from the coarsest level to the finest."""

    def __init__(self, config: CellUNetConfig, channels: list[int], attention: bool):
        super().__init__()
        widths = list(config.hidden_sizes)
        self.ups, self.blocks, self.gates = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = channels[-1]
        for skip, width in zip(channels[-2::-1], widths[-2::-1]):
            self.ups.append(Upsample(config, below))
            self.gates.append(AttentionGate(below, skip) if attention else nn.Identity())
            self.blocks.append(ConvBlock(config, below + skip, width))
            below = width
        self.attention = attention
        self.out_channels = below

    def forward(self, features: list[Tensor]) -> Tensor:
        """Join the features, finest first, into a map of the finest's size."""
        x = features[-1]
        for up, gate, block, skip in zip(self.ups, self.gates, self.blocks, features[-2::-1]):
            x = up(x, skip.shape[-2:])
            x = block(torch.cat([x, gate(x, skip) if self.attention else skip], 1))
        return x


class UNetPlusPlusDecoder(nn.Module):
    """Nested decoder: node (level, step) sees all earlier nodes of its level and the one below (Zhou et al. 2018)."""

    def __init__(self, config: CellUNetConfig, channels: list[int]):
        super().__init__()
        self.depth = len(channels)
        self.ups, self.blocks = nn.ModuleDict(), nn.ModuleDict()
        for step in range(1, self.depth):
            for level in range(self.depth - step):
                key = f"{level}_{step}"
                self.ups[key] = Upsample(config, channels[level + 1])
                inputs = channels[level] * step + channels[level + 1]
                self.blocks[key] = ConvBlock(config, inputs, channels[level])
        self.out_channels = channels[0]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Join the features, finest first, into a map of the finest's size."""
        rows = [[feature] for feature in features]
        for step in range(1, self.depth):
            for level in range(self.depth - step):
                key = f"{level}_{step}"
                up = self.ups[key](rows[level + 1][step - 1], rows[level][0].shape[-2:])
                rows[level].append(self.blocks[key](torch.cat([*rows[level], up], 1)))
        return rows[0][-1]


class UNet(nn.Module):
    """Encoder, decoder and head.

    Input `(B, num_channels, H, W)` float of any size; output `(B, out_channels, H, W)` logits. Sizes that the strides
    do not divide are padded by repeating the border and cropped again.
    """

    def __init__(self, config: CellUNetConfig, out_channels: int):
        super().__init__()
        if config.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act={config.hidden_act!r} is unknown; relu, leaky_relu, mish and gelu are some"
            )
        self.encoder: Any = TimmEncoder(config) if config.backbone else PlainEncoder(config)
        channels = self.encoder.channels
        if len(config.hidden_sizes) != len(channels):
            raise ValueError(
                f"backbone {config.backbone!r} gives {len(channels)} feature maps: give hidden_sizes {len(channels)}"
                " entries, or choose feature maps by backbone_kwargs={'out_indices': [...]}"
            )
        if config.decoder_type == "unetplusplus":
            self.decoder: nn.Module = UNetPlusPlusDecoder(config, channels)
        else:
            self.decoder = UNetDecoder(config, channels, attention=config.decoder_type == "attention")
        self.stride = self.encoder.reductions[0]
        self.multiple = max(self.encoder.reductions)
        self.head = nn.Conv2d(self.decoder.out_channels, out_channels * self.stride**2, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return logits of the input's height and width."""
        height, width = pixel_values.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        if max(height, width) <= self.multiple:
            right += self.multiple  # at the coarsest level, batch and instance norm need more than one pixel
        x = F.pad(pixel_values, (0, right, 0, bottom), mode="replicate") if bottom or right else pixel_values
        x = self.head(self.decoder(self.encoder(x)))
        if self.stride > 1:
            x = F.pixel_shuffle(x, self.stride)
        return x[..., :height, :width]
