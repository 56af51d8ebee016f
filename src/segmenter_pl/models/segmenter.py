"""Segmenter, what it shares with other models, and the protocol that training, inference and export know models by.

Shapes: B batch, K classes, D width, P patch side, H W pixels, h w = ceil(H/P) ceil(W/P), N = h·w.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models.decoders import LinearDecoder, MaskDecoder
from segmenter_pl.models.encoder import ViTEncoder
from segmenter_pl.models.setr import SETRMLA, SETRPUP, SETRNaive
from segmenter_pl.models.tracing import is_traced, take


class SegmentationModel(Protocol):
    """What a semantic segmentation model offers: pixels in, logits out."""

    @property
    def num_classes(self) -> int:
        """K."""

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarse logits, along each side."""

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """Mean colour (R, G, B) in 0…255: what padding should look like."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """RGB pictures (B, 3, H, W), 0…255, to logits (B, K, ceil(H/stride), ceil(W/stride))."""

    def __call__(self, images: Tensor) -> Tensor:
        """RGB pictures (B, 3, H, W), 0…255, to logits (B, K, H, W)."""


@dataclass(frozen=True)
class ModelSpec:
    """How a trained model wants to be used.

    Attributes:
        classes: K names, or None if unknown. palette: K RGB colours 0…255, or None.
        ignore_index: label that counts neither in training nor in evaluation.
        window, stride: side and step of the sliding window, in pixels.
        short_side: pictures are resized to this short side first; None keeps them as they are.
    """

    classes: tuple[str, ...] | None
    palette: tuple[tuple[int, int, int], ...] | None
    ignore_index: int
    window: int
    stride: int
    short_side: int | None


class EncoderDecoder(nn.Module):
    """Encoder, decoder and bilinear upsampling, in the order in which pixels become logits.

    Args:
        encoder: has `grid`, `patch_size` and `pixel_mean` as a `ViTEncoder` does.
        decoder: makes logits on a grid of its `scale` cells per patch, along each side, out of the encoder's output.

    Attributes:
        spec: how the trained model wants to be used; None for a fresh one.
        config: the settings of encoder and decoder as plain data, for saving; None where it was built by hand.
    """

    def __init__(self, encoder: Any, decoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.spec: ModelSpec | None = None
        self.config: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """What it is made of, for people."""
        return " + ".join(type(part).__name__ for part in self.children())

    @property
    def num_classes(self) -> int:
        """K."""
        return self.decoder.num_classes

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarse logits: the patch size P, less where the decoder upsamples."""
        return self.encoder.patch_size // self.decoder.scale

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """Mean colour (R, G, B) of the pretraining, 0…255."""
        return tuple(self.encoder.pixel_mean.flatten().tolist())

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Map RGB pictures (B, 3, H, W), 0…255 (uint8 or float), to logits (B, K, ceil(H/stride), ceil(W/stride))."""
        height, width = images.shape[-2:]
        coarse = self.decoder(self.encoder(images), self.encoder.grid(height, width))
        if self.decoder.scale == 1:
            return coarse  # (B, K, h, w)
        rows, columns = ((side + self.stride - 1) // self.stride for side in (height, width))
        if is_traced():
            return take(take(coarse, 2, rows), 3, columns)
        return coarse[..., :rows, :columns]  # of the last patches only the cells that show the picture

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB pictures (B, 3, H, W), 0…255 (uint8 or float), to logits (B, K, H, W)."""
        height, width = images.shape[-2:]
        coarse = self.coarse_logits(images)
        padded = [side * self.stride for side in coarse.shape[-2:]]
        logits = F.interpolate(coarse, size=padded, mode="bilinear", align_corners=False)
        if is_traced():
            return take(take(logits, 2, height), 3, width)
        return logits[..., :height, :width]  # (B, K, H, W)


class Segmenter(EncoderDecoder):
    """A plain ViT with any decoder of tokens (Segmenter, Strudel et al., ICCV 2021, section 3; SETR's decoders too).

    Raises: ValueError: the decoder takes tokens of more depths than the encoder has, or has taps for.
    """

    encoder: ViTEncoder

    def __init__(
        self, encoder: ViTEncoder, decoder: LinearDecoder | MaskDecoder | SETRNaive | SETRPUP | SETRMLA
    ) -> None:
        encoder.tap(decoder.streams if isinstance(decoder, SETRMLA) else 1)
        super().__init__(encoder, decoder)
