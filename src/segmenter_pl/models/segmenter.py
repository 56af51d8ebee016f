"""Segmenter, and the protocol that training, inference and export know models by.

Shapes: B batch, K classes, D width, P patch side, H W pixels, h w = ceil(H/P) ceil(W/P), N = h·w.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models.decoders import LinearDecoder, MaskDecoder
from segmenter_pl.models.encoder import ViTEncoder
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


class Segmenter(nn.Module):
    """Encoder, decoder and bilinear upsampling (Segmenter, Strudel et al., ICCV 2021, section 3).

    Attributes:
        spec: how the trained model wants to be used; None for a fresh one.
        config: the settings of encoder and decoder as plain data, for saving; None where it was built by hand.
    """

    def __init__(self, encoder: ViTEncoder, decoder: LinearDecoder | MaskDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.spec: ModelSpec | None = None
        self.config: dict[str, Any] | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return self.decoder.num_classes

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarse logits: the patch size P."""
        return self.encoder.patch_size

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """Mean colour (R, G, B) of the pretraining, 0…255."""
        return tuple(self.encoder.pixel_mean.flatten().tolist())

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Map RGB pictures (B, 3, H, W), 0…255 (uint8 or float), to one logit per class and patch (B, K, h, w)."""
        return self.decoder(self.encoder(images), self.encoder.grid(*images.shape[-2:]))

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB pictures (B, 3, H, W), 0…255 (uint8 or float), to logits (B, K, H, W)."""
        height, width = images.shape[-2:]
        coarse = self.coarse_logits(images)  # (B, K, h, w)
        padded = [side * self.stride for side in coarse.shape[-2:]]
        logits = F.interpolate(coarse, size=padded, mode="bilinear", align_corners=False)  # (B, K, h·P, w·P)
        if is_traced():
            return take(take(logits, 2, height), 3, width)
        return logits[..., :height, :width]  # (B, K, H, W)
