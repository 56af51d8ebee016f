"""mIoU of small, medium and large objects (paper, Table 4, which leaves open what an object is).

An object is a connected component of one class in the ground truth, neighbours being the 8 pixels around a pixel.
Areas are split where COCO splits them: small below 32² pixels, medium below 96², large the rest. For each size only
the pixels of objects of that size count and all others are ignored; on those it is the ordinary mIoU.
"""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from segmenter_pl.metrics.segmentation import confusion_scores, count_cells

SIZES = ("small", "medium", "large")
AREAS = (32**2, 96**2)  # pixels: the first area that is medium, the first that is large
NO_OBJECT = len(SIZES)


def object_sizes(target: NDArray[np.integer], ignore_index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The size of the object that each pixel belongs to.

    Args:
        target: class ids or `ignore_index` (H, W).

    Returns: indices into SIZES (H, W), `NO_OBJECT` at ignored pixels; and the number of objects by size (3,).
    """
    sizes = np.full(target.shape, NO_OBJECT, np.uint8)
    objects = np.zeros(len(SIZES), np.int64)
    for k in np.unique(target[target != ignore_index]):
        _, components, stats, _ = cv2.connectedComponentsWithStats((target == k).astype(np.uint8), connectivity=8)
        size = np.digitize(stats[:, cv2.CC_STAT_AREA], AREAS).astype(np.uint8)
        objects += np.bincount(size[1:], minlength=len(SIZES))
        size[0] = NO_OBJECT  # component 0 is everything else; the smallest wins below
        sizes = np.minimum(sizes, size[components])
    return sizes, objects


class ObjectSizeMetrics(Metric):
    """One int64 confusion matrix for each of SIZES, summed over pictures and processes.

    Args:
        num_classes: K.
        ignore_index: label of the pixels that do not count.
    """

    full_state_update = False
    confusion: Tensor
    objects: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        cells = torch.zeros(len(SIZES), num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=cells, dist_reduce_fx="sum")
        self.add_state("objects", default=torch.zeros(len(SIZES), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count one picture: class ids (H, W) and ground truth (H, W)."""
        sizes, objects = object_sizes(target.cpu().numpy(), self.ignore_index)
        size = torch.from_numpy(sizes).to(target.device)
        for index in range(len(SIZES)):
            truth = torch.where(size == index, target.long(), self.ignore_index)
            self.confusion[index] += count_cells(prediction, truth, self.num_classes, self.ignore_index)
        self.objects += torch.from_numpy(objects).to(self.objects.device)

    def compute(self) -> dict[str, dict[str, Any]]:
        """For each size the values of `confusion_scores` (NaN where no object has it), `objects` and `pixels`."""
        return {
            name: {**confusion_scores(cells), "objects": objects, "pixels": cells.sum()}
            for name, cells, objects in zip(SIZES, self.confusion, self.objects, strict=True)
        }
