"""Which attention runs where: by measurement, `python benchmarks/attention.py`."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.layers import use_fused_attn
from torch import Tensor, nn


def choose_attention(blocks: Iterable[nn.Module], x: Tensor) -> None:
    """Let timm's blocks compute attention in the way that is fastest for tokens `x`.

    That is the explicit product softmax(q·kᵀ)·v for bfloat16 on a CPU, where torch's fused kernel is behind by a factor
    of about two, and the fused kernel everywhere else. Both give the same numbers up to rounding.
    """
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    fused = bool(use_fused_attn()) and not (x.device.type == "cpu" and precision == torch.bfloat16)
    for block in blocks:
        attention: Any = getattr(block, "attn", None)
        if hasattr(attention, "fused_attn"):
            attention.fused_attn = fused
