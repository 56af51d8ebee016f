"""Boundary IoU (Cheng et al., CVPR 2021): IoU of the inner bands along the outlines of truth and prediction."""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

WIDTH = 0.02  # of the band, as a share of the picture's diagonal
OUTSIDE = -1  # label of what lies beyond the picture: masks end there


def band_width(height: int, width: int) -> int:
    """Pixels of the band: 2 % of the diagonal, rounded, at least 1."""
    return max(round(WIDTH * math.hypot(height, width)), 1)


def boundary_band(labels: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Which pixels (H, W) are within `width` of a pixel of another class, or of the picture's border.

    The distance is the larger of the two along the axes, as in the authors' code, which erodes the mask of each class
    with 3×3 squares. The smallest and the largest label around a pixel tell the same of all classes at once.
    """
    padded = np.pad(labels.astype(np.int16), 1, constant_values=OUTSIDE)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * width + 1, 2 * width + 1))
    inside = (cv2.erode(padded, square) == padded) & (cv2.dilate(padded, square) == padded)
    return ~inside[1:-1, 1:-1]


class BoundaryIoU(Metric):
    """Intersection and union of the bands of each class, summed over pictures and processes (int64).

    Ignored pixels belong to no class, neither in the truth nor in the prediction; both have an outline along them.

    Args:
        num_classes: K.
        ignore_index: label of the pixels that do not count.
    """

    full_state_update = False
    intersection: Tensor
    union: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        for name in ("intersection", "union"):
            self.add_state(name, default=torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count one picture: class ids (H, W) and ground truth (H, W)."""
        truth = target.cpu().numpy()
        valid = truth != self.ignore_index
        guess = np.where(valid, prediction.cpu().numpy(), self.ignore_index)
        width = band_width(*truth.shape)
        in_truth, in_guess = boundary_band(truth, width) & valid, boundary_band(guess, width) & valid
        both = self._count(truth, in_truth & in_guess & (truth == guess))
        self.intersection += both
        self.union += self._count(truth, in_truth) + self._count(guess, in_guess) - both

    def _count(self, labels: NDArray[np.integer], where: NDArray[np.bool_]) -> Tensor:
        counts = np.bincount(labels[where], minlength=self.num_classes)
        return torch.from_numpy(counts).to(self.union)

    def compute(self) -> dict[str, Tensor]:
        """Fractions in 0…1, float64: `iou` per class (K,), NaN where a class does not occur, and their mean `miou`."""
        iou = self.intersection.double() / self.union.double()
        return {"miou": iou.nanmean(), "iou": iou}
