"""Sliding-window prediction (paper §4.1): tensors in, tensors out, for any `SegmentationModel`.

Legend: K classes, H W pixels of the picture, H' W' of one rescaled version of it, h w coarse cells of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Required, TypedDict, Unpack

import torch
from torch import Tensor

from segmenter_pl.ops.bands import View, banded_labels, banded_scores, mixing_matrix
from segmenter_pl.ops.upsample import resized_part

if TYPE_CHECKING:
    from segmenter_pl.models.segmenter import SegmentationModel

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the paper's multi-scale evaluation
PART_BYTES = 2**30  # of a mixing matrix, and of a row of windows: both grow with the enlarged length of a picture
WINDOW_BATCH = {"cpu": 4, "cuda": 16}


def window_anchors(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side: multiples of the stride, the last flush with the border.

    Raises:
        ValueError: the stride would leave pixels between windows.
    """
    if not 0 < stride <= window:
        raise ValueError(f"stride={stride} must lie in 1…window={window}, or pixels between windows are never seen")
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def rescaled(image: Tensor, window: int, short_side: int | None, scale: float = 1.0) -> tuple[Tensor, tuple[int, int]]:
    """The size (H', W') at which the model sees a picture (3, H, W), and the picture to resize to it, bilinearly.

    The short side is brought to `short_side` (None: its own length) times `scale`, and then to at least the window:
    two resizings, as in the official code. Sizes are int(side · factor + 0.5), the long side of an enlarged picture
    int(long / short · window). Only a picture that the first one leaves too small is resized here.
    """
    height, width = image.shape[-2:]
    factor = scale * (short_side or min(height, width)) / min(height, width)
    size = (max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1))
    short = min(size)
    if short >= window:
        return image, size
    if size != (height, width):
        image = resized_part(resized_part(image, 1, size[0]), 2, size[1])
    return image, (int(size[0] / short * window), int(size[1] / short * window))


class TooLongError(ValueError):
    """A picture is so long and narrow that its enlarged version would fill the memory."""


def _require_fitting(image: Tensor, size: tuple[int, int], anchors: list[list[int]], window: int, stride: int) -> None:
    """Raise TooLongError before anything of the enlarged size (H', W') is made."""
    strip = 3 * window * size[1]
    matrices = [
        length * len(starts) * -(-window // stride) for length, starts in zip(image.shape[-2:], anchors, strict=True)
    ]
    if 4 * max(strip, *matrices) > PART_BYTES:
        height, width = image.shape[-2:]
        raise TooLongError(
            f"a picture of {width}x{height} pixels is too long for its width: it would be enlarged to "
            f"{size[1]}x{size[0]}. Cut it into parts, pad it, or give a smaller window and short side"
        )


class Settings(TypedDict, total=False):
    """How a picture is looked at: the keywords of `predict_…`.

    Attributes:
        window: side of the square windows, pixels.
        stride: distance between windows, pixels, at most `window`.
        short_side: the picture's short side is rescaled to this length first; None keeps its size. Pictures smaller
            than the window are always enlarged to it.
        scales: factors on that size, default 1; the paper's multi-scale evaluation takes `SCALES`.
        flip: also the mirrored picture at each scale.
        window_batch: windows per forward pass, of all scales and both sides together; None for what suits the device.
    """

    window: Required[int]
    stride: Required[int]
    short_side: int | None
    scales: Sequence[float]
    flip: bool
    window_batch: int | None


@torch.inference_mode()
def predict_bands(
    model: SegmentationModel, image: Tensor, **settings: Unpack[Settings]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Class scores of one picture, tile by tile, at any size of picture.

    Args:
        model: in evaluation mode.
        image: RGB (3, H, W), 0…255, uint8 or float, on the model's device.
        settings: see `Settings`.

    Yields: rows, columns and scores (rows, columns, K) float32: logits averaged over windows for a single version of
        the picture, else class probabilities averaged over all versions.

    Raises: ValueError: the stride would leave pixels between windows, a scale is not positive, or the model's scores
        are not finite. TooLongError.
    """
    yield from banded_scores(views_of(model, image, **settings))


@torch.inference_mode()
def predict_label_bands(
    model: SegmentationModel, image: Tensor, **settings: Unpack[Settings]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """As `predict_bands`, with the class ids (rows, columns) int64 of the highest scores in place of the scores."""
    yield from banded_labels(views_of(model, image, **settings))


def views_of(
    model: SegmentationModel,
    image: Tensor,
    *,
    window: int,
    stride: int,
    short_side: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window_batch: int | None = None,
) -> list[View]:
    """Coarse logits of all versions of a picture, and how they are mixed to any of its pixels; arguments and errors as
    `predict_bands`, in inference mode."""
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales={tuple(scales)}: give one or more positive numbers")
    views: list[View] = []
    waiting: list[tuple[Tensor, Tensor]] = []  # crops, and where their logits go
    batch = window_batch or WINDOW_BATCH.get(image.device.type, 4)
    for scale in scales:
        picture, size = rescaled(image, window, short_side, scale)
        anchors = [window_anchors(length, window, stride) for length in size]
        _require_fitting(image, size, anchors, window, model.stride)
        for mirrored in (False, True) if flip else (False,):
            view, room = _view(model, image, size, anchors, window, mirrored)
            views.append(view)
            for y, row in zip(anchors[0], room, strict=True):
                strip = resized_part(resized_part(picture, 1, size[0], y, y + window), 2, size[1])  # (3, window, W')
                strip = strip.flip(-1) if mirrored else strip
                for x, place in zip(anchors[1], row.unbind(1), strict=True):
                    waiting.append((strip[..., x : x + window], place))
                    if len(waiting) == batch:
                        _run(model, waiting)
    _run(model, waiting)
    return views


def _view(
    model: SegmentationModel,
    image: Tensor,
    size: tuple[int, int],
    anchors: list[list[int]],
    window: int,
    mirrored: bool,
) -> tuple[View, Tensor]:
    """A version of the picture, and the room for its windows' logits: (rows of windows, h, columns of them, w, K)."""
    cells = -(-window // model.stride)
    shape = (len(anchors[0]), cells, len(anchors[1]), cells, model.num_classes)
    down, across = (
        mixing_matrix(whole, length, tuple(starts), window, model.stride)
        for whole, length, starts in zip(image.shape[-2:], size, anchors, strict=True)
    )
    room = image.new_empty(shape, dtype=torch.float32)
    return View(room.flatten(2, 3).flatten(0, 1), down, across, mirrored), room  # (Y, X, K), (H, Y), (W, X)


def _run(model: SegmentationModel, waiting: list[tuple[Tensor, Tensor]]) -> None:
    if waiting:
        coarse = model.coarse_logits(torch.stack([crop for crop, _ in waiting]))
        if not bool(coarse.isfinite().all()):
            raise ValueError(
                "the model's scores are not finite numbers: its weights are spoilt, or the precision is too narrow for "
                "it (try bfloat16 or float32)"
            )
        for (_, place), logits in zip(waiting, coarse.float(), strict=True):
            place.copy_(logits.permute(1, 2, 0))  # (h, w, K)
        waiting.clear()


def predict_logits(model: SegmentationModel, image: Tensor, **settings: Unpack[Settings]) -> Tensor:
    """Full-size logits (K, H, W) float32 of one picture; arguments as `predict_bands`.

    Those of several versions of a picture are the logarithm of their averaged probabilities.
    """
    scores = _full_size(model, image, settings)
    return scores.clamp_(min=1e-38).log_() if averages(settings) else scores


def predict_probabilities(model: SegmentationModel, image: Tensor, **settings: Unpack[Settings]) -> Tensor:
    """Class probabilities (K, H, W) float32 of one picture; arguments as `predict_bands`."""
    scores = _full_size(model, image, settings)
    return scores if averages(settings) else scores.softmax(0)


def predict_labels(model: SegmentationModel, image: Tensor, **settings: Unpack[Settings]) -> Tensor:
    """Class ids (H, W) int64 of one picture; arguments as `predict_bands`. Never holds all classes at full size."""
    labels = image.new_empty(image.shape[-2:], dtype=torch.int64)
    for rows, columns, ids in predict_label_bands(model, image, **settings):
        labels[rows, columns] = ids
    return labels


def averages(settings: Settings) -> bool:
    """Whether `predict_bands` averages several versions of the picture, and so yields probabilities, not logits."""
    return len(settings.get("scales", (1.0,))) > 1 or settings.get("flip", False)


def _full_size(model: SegmentationModel, image: Tensor, settings: Settings) -> Tensor:
    full = image.new_empty(model.num_classes, *image.shape[-2:], dtype=torch.float32)
    for rows, columns, scores in predict_bands(model, image, **settings):
        full[:, rows, columns] = scores.permute(2, 0, 1)
    return full
