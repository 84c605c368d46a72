"""The number format in which a served network computes."""

import torch
from torch import nn


def choose_precision(precision: str, device: torch.device) -> str:
    """Return fp32 or bf16; `auto` is bf16 where the device computes faster in it."""
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    instructions = torch.cpu.get_capabilities()
    return bool(instructions.get("amx_bf16") or instructions.get("avx512_bf16"))


def store_as_bf16(network: nn.Module) -> None:
    """Turn weights into bf16 once; autocast would do it for every batch, which is half the time of a small one.

    What autocast keeps in fp32, such as the statistics of batch normalisation, stays.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            layer.to(torch.bfloat16)
