"""Ready weights for a classifier's backbone: timm's or torchvision's own, or a local file; any number of channels."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .cell_cnn import AlexNetFeatures, make_backbone
from .configuration_cell_classification import CellClassificationConfig


def load_backbone_weights(
    backbone: nn.Module, config: CellClassificationConfig, pretrained: bool | str | os.PathLike[str]
) -> None:
    """Fill a backbone with ready weights.

    Args:
        backbone: As of `make_backbone`.
        config: Its configuration.
        pretrained: True takes the library's own weights (needs the network, or the library's cache); a path takes a
            local `.safetensors` file of that model, or a folder that holds one (`<backbone>.safetensors`,
            `model.safetensors`, or a single file).

    Raises:
        ValueError: The weights cannot be had, or are those of another model.
    """
    if config.backbone is None:
        raise ValueError("ready weights are for a timm model or alexnet: set backbone")
    hint = f"go online once, or give a .safetensors file of {config.backbone}, or the folder that holds it"
    try:
        state = _from_library(config) if pretrained is True else _from_file(Path(str(pretrained)), config)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"no weights for backbone {config.backbone!r}: {reason}; {hint}") from error
    state = {name: value for name, value in state.items() if name in backbone.state_dict()}
    first = _first_convolution(backbone)
    if first in state:
        state[first] = inflate(state[first], config.num_channels)
    try:
        left = backbone.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise ValueError(
            f"{pretrained}: holds the weights of another model than {config.backbone!r}; {hint}"
        ) from error
    if left:
        raise ValueError(
            f"{pretrained}: lacks {len(left)} weights of {config.backbone!r}, the first is {left[0]}; {hint}"
        )


def inflate(weight: Tensor, channels: int) -> Tensor:
    """Bring a first convolution `(O, C, k, k)` to another number of input channels.

    The response to a grey image (all channels equal) stays what it was. Further channels begin as the mean of the old
    ones; what they add, or dropped channels leave out, is then shared among all. One channel so sums over the old ones.
    """
    old = weight.shape[1]
    if channels == old:
        return weight
    mean = weight.mean(1, keepdim=True)
    made = torch.cat([weight[:, :channels], *[mean] * max(0, channels - old)], 1)
    return made + (weight.sum(1, keepdim=True) - made.sum(1, keepdim=True)) / channels


def _first_convolution(backbone: nn.Module) -> str | None:
    if isinstance(backbone, AlexNetFeatures):
        return "features.0.weight"
    settings: Any = getattr(backbone, "pretrained_cfg", None) or {}
    name = settings.get("first_conv")
    return f"{name}.weight" if isinstance(name, str) else None


def _from_library(config: CellClassificationConfig) -> dict[str, Tensor]:
    """Weights of a three-channel model, as the library offers them."""
    if config.backbone == "alexnet":
        from torchvision.models import AlexNet_Weights

        return dict(AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False))
    return make_backbone(config, pretrained=True, in_chans=3).state_dict()


def _from_file(path: Path, config: CellClassificationConfig) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        preferred = [path / f"{config.backbone}.safetensors", path / "model.safetensors"]
        chosen = next((p for p in preferred if p in found), found[0] if len(found) == 1 else None)
        if chosen is None:
            raise ValueError(f"{path} holds no {preferred[0].name} or model.safetensors")
        path = chosen
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"there is no .safetensors file at {path}")
    state = load_file(path)
    # Files of transformers' timm wrapper and of this package carry a prefix.
    for prefix in ("timm_model.", "backbone."):
        if state and all(name.startswith((prefix, "head.")) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


__all__ = ["inflate", "load_backbone_weights"]
