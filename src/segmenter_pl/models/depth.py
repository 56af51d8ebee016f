"""Which stochastic depth timm's blocks have."""

from timm.layers import DropPath
from torch import nn

from segmenter_pl.stochastic_depth import StochasticDepth


def use_stochastic_depth(blocks: nn.Module) -> None:
    """Put `StochasticDepth`, whose draws belong to pictures, where timm's blocks have their own."""
    for module in list(blocks.modules()):
        for name, child in module.named_children():
            if isinstance(child, DropPath):
                setattr(module, name, StochasticDepth(child.drop_prob))
