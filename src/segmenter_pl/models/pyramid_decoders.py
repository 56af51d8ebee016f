"""Decoders of the models that Segmenter is compared with, from segmentation_models_pytorch (extra `baselines`).

Shapes: B batch, K classes, C channels of a map, h w grid of cells of 4 by 4 pixels.
"""

from typing import Any

from torch import Tensor, nn

from segmenter_pl.models.pyramid import ONE_PICTURE, Pyramid, require_baselines
from segmenter_pl.models.tracing import is_traced, take


class PyramidDecoder(nn.Module):
    """A decoder of that library and its 1×1 classifier; its bilinear upsampling is the loss's and the prediction's."""

    scale = 1

    def __init__(self, decoder: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.decoder = decoder
        self.head = nn.Conv2d(channels, num_classes, kernel_size=1)
        require_baselines().base.initialization.initialize_decoder(self.decoder)
        require_baselines().base.initialization.initialize_head(self.head)

    def forward(self, maps: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Map features (B, C, …) of a `PyramidEncoder` to logits (B, K, h, w)."""
        if self.training and len(maps[-1]) == 1:
            raise ValueError(ONE_PICTURE)
        coarse = self.head(self.decoder(maps))  # of the padded picture
        if is_traced():
            return take(take(coarse, 2, grid[0]), 3, grid[1])
        return coarse[..., : grid[0], : grid[1]]


class DeepLabV3PlusDecoder(PyramidDecoder):
    """Atrous pyramid pooling and one finer map (DeepLabV3+, Chen et al., ECCV 2018).

    Args:
        width: of the encoder. num_classes: K. channels: of the maps that are put together.
        atrous_rates: dilations, in cells of the coarsest map. separable: depth-wise convolutions. dropout: behind them.

    Raises: ValueError: the encoder is no pyramid, or its coarsest map has neither stride 16 nor 8.
    """

    def __init__(
        self,
        width: Any,
        num_classes: int,
        *,
        channels: int = 256,
        atrous_rates: tuple[int, int, int] = (12, 24, 36),
        separable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        pyramid = _require_pyramid(width, "deeplabv3plus")
        if pyramid.stride not in (8, 16):
            raise ValueError(f"backbone.output_stride={pyramid.stride}: decoder=deeplabv3plus needs 16 or 8")
        decoder = require_baselines().decoders.deeplabv3.decoder.DeepLabV3PlusDecoder(
            pyramid.channels,
            len(pyramid.channels) - 1,
            channels,
            atrous_rates=tuple(atrous_rates),
            output_stride=pyramid.stride,
            aspp_separable=separable,
            aspp_dropout=dropout,
        )
        super().__init__(decoder, channels, num_classes)


class UPerNetDecoder(PyramidDecoder):
    """Pyramid pooling and a feature pyramid (UPerNet, Xiao et al., ECCV 2018).

    Args:
        width: of the encoder. num_classes: K. channels: of the maps that are put together.

    Raises: ValueError: the encoder is no pyramid, or its coarsest map has not stride 32.
    """

    def __init__(self, width: Any, num_classes: int, *, channels: int = 512) -> None:
        pyramid = _require_pyramid(width, "upernet")
        if pyramid.stride != 32:
            raise ValueError(f"backbone.output_stride={pyramid.stride}: decoder=upernet needs 32")
        decoder = require_baselines().decoders.upernet.decoder.UPerNetDecoder(
            pyramid.channels, len(pyramid.channels) - 1, channels
        )
        super().__init__(decoder, channels, num_classes)


def _require_pyramid(width: Any, decoder: str) -> Pyramid:
    if not isinstance(width, Pyramid):
        raise ValueError(
            f"decoder={decoder} needs a backbone with maps of several sizes: choose backbone=resnest101 or swin_l, or "
            "the decoder linear or mask"
        )
    return width
