"""Class probabilities averaged over the frames of a video."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segmenter_pl.ops import best_class
from segmenter_pl.pictures import RGB

if TYPE_CHECKING:
    from segmenter_pl.predictor import Labels, Predictor


def smoothed(predictor: Predictor, smooth: float) -> Callable[[RGB], Labels]:
    """A function from each frame to its labels, by an exponential average of class probabilities over the frames.

    The first frame's probabilities are the average; each further frame with probabilities p makes it
    smooth · average + (1 - smooth) · p. It is kept for every pixel and class: 4 · K · H · W bytes on the device.

    Args:
        smooth: 0 (each frame alone) … below 1.
    """
    if not 0 <= smooth < 1:
        raise ValueError(
            f"smooth={smooth}: give a number from 0 (off) to below 1 (1 would keep the first frame for ever)"
        )
    if smooth == 0:
        return predictor.segment
    average: Tensor | None = None

    def segment(frame: RGB) -> Labels:
        nonlocal average
        height, width = frame.shape[:2]
        labels = torch.empty(height, width, dtype=predictor.label_dtype, device=predictor.device)
        begins = average is None
        if average is None:
            average = torch.empty(height, width, predictor.model.num_classes, device=predictor.device)
        for rows, columns, probabilities in predictor.probability_tiles(frame):
            tile = average[rows, columns]  # a view
            if begins:
                tile.copy_(probabilities)
            else:
                tile.mul_(smooth).add_(probabilities, alpha=1 - smooth)
            labels[rows, columns] = best_class(tile)
        return labels.cpu().numpy()

    return segment
