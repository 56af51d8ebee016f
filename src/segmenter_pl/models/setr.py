"""Decoders of SETR on the encoder's tokens (Zheng et al., CVPR 2021, section 3.2).

Shapes: B batch, K classes, D width, h w grid of patches, N = h·w.

What ends in bilinear upsampling leaves the last one to the loss and the prediction; a 1×1 classifier and upsampling may
change places. The auxiliary heads of the published trainings are left out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models.decoders import require_tokens


class SETRNaive(nn.Module):
    """A hidden layer per patch.

    Args: width: D. num_classes: K. channels: of the hidden layer.
    """

    scale = 1

    def __init__(self, width: int, num_classes: int, *, channels: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layer = _convolution(require_tokens(width), channels, 1)
        self.head = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) on an (h, w) grid to logits (B, K, h, w)."""
        return self.head(self.layer(_to_map(tokens, grid)))


class SETRPUP(nn.Module):
    """Progressive upsampling: four convolutions, each doubling the resolution.

    Args: width: D. num_classes: K. channels: of the convolutions.
    """

    scale = 8

    def __init__(self, width: int, num_classes: int, *, channels: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = (require_tokens(width), channels, channels, channels)
        self.layers = nn.ModuleList(_convolution(inside, channels, 3) for inside in widths)
        self.head = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) on an (h, w) grid to logits (B, K, 8h, 8w)."""
        x = self.layers[0](_to_map(tokens, grid))
        for layer in self.layers[1:]:
            x = layer(_upsampled(x, 2))
        return self.head(x)


class SETRMLA(nn.Module):
    """Multi-level aggregation: tokens of four depths, each added to the deeper ones, side by side at the end.

    Args:
        width: D. num_classes: K. channels: of what is added up, and half of them of each depth's own head.
    """

    scale = 4
    streams = 4

    def __init__(self, width: int, num_classes: int, *, channels: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        each, half = range(self.streams), channels // 2
        self.norms = nn.ModuleList(nn.LayerNorm(require_tokens(width), eps=1e-6) for _ in each)
        self.laterals = nn.ModuleList(_convolution(width, channels, 1) for _ in each)
        self.merged = nn.ModuleList(_convolution(channels, channels, 3) for _ in each)
        self.levels = nn.ModuleList(
            nn.Sequential(_convolution(channels, half, 3), _convolution(half, half, 3)) for _ in each
        )
        self.head = nn.Conv2d(self.streams * half, num_classes, kernel_size=3, padding=1)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) of four depths, the first ones first, to logits (B, K, 4h, 4w)."""
        total, sums = torch.zeros((), device=tokens[0].device), []
        for norm, lateral, one in reversed(list(zip(self.norms, self.laterals, tokens, strict=True))):
            total = total + lateral(_to_map(norm(one), grid))
            sums.append(total)
        sums = [merge(x) for merge, x in zip(self.merged, reversed(sums), strict=True)]  # (B, C, h, w) each
        maps = [_upsampled(level(x), 4) for level, x in zip(self.levels, sums, strict=True)]
        return self.head(torch.cat(maps, dim=1))


def _convolution(inside: int, outside: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, side, padding=side // 2, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, grid)  # (B, N, D) -> (B, D, h, w)


def _upsampled(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
