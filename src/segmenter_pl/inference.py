"""Sliding-window prediction (paper §4.1): tensors in, tensors out, for any `SegmentationModel`.

Legend: K classes, H W pixels of the picture, L length of one side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from segmenter_pl.models.segmenter import SegmentationModel


def window_anchors(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side: multiples of the stride, the last flush with the border.

    Raises:
        ValueError: the stride would leave pixels between windows.
    """
    if not 0 < stride <= window:
        raise ValueError(f"stride={stride} must lie in 1…window={window}, or pixels between windows are never seen")
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def rescaled_size(height: int, width: int, window: int, short_side: int | None) -> tuple[int, int]:
    """Size at which the model sees a picture: short side at `short_side` (if given) and at least at the window."""
    short = min(height, width)
    factor = max((short_side or short) / short, window / short)
    return int(height * factor + 0.5), int(width * factor + 0.5)


@torch.inference_mode()
def predict_logits(
    model: SegmentationModel,
    image: Tensor,
    *,
    window: int,
    stride: int,
    short_side: int | None = None,
    window_batch: int = 8,
) -> Tensor:
    """Full-size logits of one picture, averaged over sliding windows.

    Args:
        model: in evaluation mode.
        image: (3, H, W), 0…255.
        window: side of the square windows, pixels.
        stride: distance between windows, pixels, at most `window`.
        short_side: rescale the picture so that its short side has this length; None keeps its size. Pictures
            smaller than the window are always enlarged to it.
        window_batch: windows per forward pass.

    Returns:
        (K, H, W) float32 on the picture's device.
    """
    height, width = image.shape[-2:]
    size = rescaled_size(height, width, window, short_side)
    picture = image[None].float()  # (1, 3, H, W)
    if size != (height, width):
        picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
    rows, columns = (window_anchors(length, window, stride) for length in size)
    anchors = [(y, x) for y in rows for x in columns]

    total = picture.new_zeros(model.num_classes, *size)
    count = picture.new_zeros(size)
    for start in range(0, len(anchors), window_batch):
        batch = anchors[start : start + window_batch]
        crops = torch.cat([picture[..., y : y + window, x : x + window] for y, x in batch])  # (n, 3, window, window)
        for (y, x), logits in zip(batch, model(crops).float(), strict=True):
            total[:, y : y + window, x : x + window] += logits
            count[y : y + window, x : x + window] += 1
    total /= count
    if size != (height, width):
        total = F.interpolate(total[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return total


def predict_labels(
    model: SegmentationModel, image: Tensor, *, window: int, stride: int, short_side: int | None = None
) -> Tensor:
    """Class ids (H, W) of one picture (3, H, W) 0…255; arguments as `predict_logits`."""
    return predict_logits(model, image, window=window, stride=stride, short_side=short_side).argmax(0)
