"""Augmentation on uint8 arrays as one albumentations pipeline; the order and ranges of the paper's code (mmseg 0.14).

All draws come from the state that the dataset sets per sample (see `SegmentationDataset.__getitem__`).
"""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer version otherwise

import albumentations as A
from albumentations.core.type_definitions import Targets
from albumentations.pytorch import ToTensorV2

from segmenter_pl.data.pixels import linear_table, map_hsv, resized_corner


class CategoryCrop(A.DualTransform):
    """Crop crop by crop pixels at a uniform place; draw again, up to 10 times, while one class dominates.

    A crop is good when it holds more than one class and the largest share among its labelled pixels is below
    `cat_max_ratio`; the last draw is used whatever it holds. With `cat_max_ratio` of 1 or more the first one is. A
    side shorter than `crop` is kept whole. Where the call has wanted=CLASS, each draw is one of the crops that hold a
    pixel of that class, which is drawn first.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, crop: int, cat_max_ratio: float = 0.75, ignore_index: int = 255) -> None:
        super().__init__(p=1.0)
        self.crop, self.cat_max_ratio, self.ignore_index = crop, cat_max_ratio, ignore_index

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        mask = data["mask"]
        places = np.flatnonzero(mask == data["wanted"]) if "wanted" in data else ()
        box = self._draw(mask.shape, places)
        for _ in range(10):
            if self._is_good(mask[box]):
                break
            box = self._draw(mask.shape, places)
        return {"box": box}

    def _draw(self, shape: tuple[int, int], places: Sequence[int] | np.ndarray) -> tuple[slice, slice]:
        last = [max(side - self.crop, 0) for side in shape]
        if len(places):
            place = divmod(int(self.py_random.choice(places)), shape[1])
            ranges = [(max(at - self.crop + 1, 0), min(at, end)) for at, end in zip(place, last, strict=True)]
        else:
            ranges = [(0, end) for end in last]
        top, left = (self.py_random.randint(*one) for one in ranges)
        return slice(top, top + self.crop), slice(left, left + self.crop)

    def _is_good(self, mask: np.ndarray) -> bool:
        if self.cat_max_ratio >= 1:
            return True
        if mask.dtype == np.uint8:  # three times faster than bincount
            counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
        else:
            counts = np.bincount(mask.ravel(), minlength=self.ignore_index + 1)
        counts[self.ignore_index] = 0
        return bool((counts > 0).sum() > 1 and counts.max() / counts.sum() < self.cat_max_ratio)

    def apply(self, img: np.ndarray, box: tuple[slice, slice], **params: Any) -> np.ndarray:
        return img[box]


class ScaledCrop(CategoryCrop):
    """Resize to r times a base size with the aspect ratio kept, r ~ U[scale), then crop as `CategoryCrop`.

    The picture is made as large as fits into (int(max_ratio·short_side·r), int(short_side·r)), long side first.
    Bilinear for the picture, nearest for the mask. What lies right of and below the crop is not made.
    """

    def __init__(
        self,
        crop: int,
        short_side: int,
        max_ratio: float,
        scale: Sequence[float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(crop, cat_max_ratio, ignore_index)
        self.short_side, self.max_ratio, self.scale = short_side, max_ratio, tuple(scale)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        r = self.py_random.uniform(*self.scale)
        base = (int(self.max_ratio * self.short_side), self.short_side)
        target = sorted(int(side * r) for side in base)
        factor = min(target[1] / max(height, width), target[0] / min(height, width))
        size = (int(width * factor + 0.5), int(height * factor + 0.5))
        resized = cv2.resize(data["mask"], size, interpolation=cv2.INTER_NEAREST)
        box = super().get_params_dependent_on_data(params, data | {"mask": resized})["box"]
        return {"size": size, "box": box, "labels": resized[box]}

    def apply(self, img: np.ndarray, box: tuple[slice, slice], **params: Any) -> np.ndarray:
        return resized_corner(img, params["size"], box[0].stop, box[1].stop)[box]

    def apply_to_mask(self, mask: np.ndarray, labels: np.ndarray, **params: Any) -> np.ndarray:
        return labels


class PhotometricDistortion(A.ImageOnlyTransform):
    """Brightness ±32, contrast and saturation times [0.5, 1.5), hue ±18 (of 180), each with probability 0.5.

    Contrast comes before or after the colour steps, by a coin. Every step rounds down to uint8 as the reference does
    in float arithmetic; look-up tables give the same bits. Saturation and hue keep separate trips to HSV for that.
    """

    _targets = (Targets.IMAGE,)

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def get_params(self) -> dict[str, Any]:
        draw = self.py_random
        return {
            "brightness": draw.uniform(-32, 32) if draw.random() < 0.5 else None,
            "contrast_first": draw.random() < 0.5,
            "contrast": draw.uniform(0.5, 1.5) if draw.random() < 0.5 else None,
            "saturation": draw.uniform(0.5, 1.5) if draw.random() < 0.5 else None,
            "hue": draw.randint(-18, 17) if draw.random() < 0.5 else None,
        }

    def apply(
        self,
        img: np.ndarray,
        brightness: float | None,
        contrast_first: bool,
        contrast: float | None,
        saturation: float | None,
        hue: int | None,
        **params: Any,
    ) -> np.ndarray:
        if brightness is not None:
            img = cv2.LUT(img, linear_table(1.0, brightness))
        if contrast is not None and contrast_first:
            img = cv2.LUT(img, linear_table(contrast, 0.0))
        if saturation is not None:
            img = map_hsv(img, 1, linear_table(saturation, 0.0))
        if hue is not None:
            img = map_hsv(img, 0, ((np.arange(256) + hue) % 180).astype(np.uint8))
        if contrast is not None and not contrast_first:
            img = cv2.LUT(img, linear_table(contrast, 0.0))
        return img


class ToTensor(ToTensorV2):
    """Arrays as tensors, the picture in planes, (3, H, W) contiguous: seven times quicker here than when batching."""

    def apply(self, img: np.ndarray, **params: Any) -> torch.Tensor:
        planes = np.empty((3, *img.shape[:2]), np.uint8)
        cv2.split(img, list(planes))
        return torch.from_numpy(planes)


def train_transform(
    crop: int,
    short_side: int | None,
    max_ratio: float,
    scale: Sequence[float],
    cat_max_ratio: float,
    photometric: bool,
    pad_color: Sequence[float],
    ignore_index: int,
) -> A.Compose:
    """Resize, crop, flip, distort, pad right and bottom; arrays in, uint8 (3, crop, crop) and mask out.

    `short_side=None` leaves the resize out; `pad_color` is RGB 0…255, padded mask pixels get `ignore_index`.
    """
    place = CategoryCrop(crop, cat_max_ratio, ignore_index)
    if short_side is not None:
        place = ScaledCrop(crop, short_side, max_ratio, scale, cat_max_ratio, ignore_index)
    distort = [PhotometricDistortion()] if photometric else []
    pad = A.PadIfNeeded(
        min_height=crop,
        min_width=crop,
        position="top_left",
        border_mode=cv2.BORDER_CONSTANT,
        fill=tuple(round(value) for value in pad_color),
        fill_mask=ignore_index,
        p=1.0,
    )
    flip = A.HorizontalFlip(p=0.5)
    return A.Compose([place, flip, *distort, pad, ToTensor()])


def eval_transform() -> A.Compose:
    """Whole pictures at their own size, as tensors; inference rescales and cuts windows."""
    return A.Compose([ToTensor()])
