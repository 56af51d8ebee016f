"""Semantic segmentation metrics from one confusion matrix over the whole dataset."""

import torch
from torch import Tensor
from torchmetrics import Metric


class SegmentationMetrics(Metric):
    """mIoU, pixel accuracy and mean accuracy, exact across devices.

    Everything follows from one int64 confusion matrix (rows: truth, columns: prediction) that is summed over
    pictures and over processes, so any split of the data gives the same bits. It counts with `torch.bincount`
    itself: torchmetrics' own fallback for deterministic mode needs pixels × K² memory.

    Args:
        num_classes: K.
        ignore_index: label of the pixels that do not count.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count one picture or batch.

        Args:
            prediction: class ids 0…K-1, any shape and integer type.
            target: class ids or `ignore_index`, the same shape.

        Raises:
            ValueError: the shapes differ.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)} but target is {tuple(target.shape)}")
        k = self.num_classes
        truth = target.flatten().to(torch.int32)
        # Ignored pixels go to an extra row that is cut off: cheaper than gathering the valid ones.
        truth = torch.where(truth == self.ignore_index, k, truth)
        cells = torch.bincount(truth * k + prediction.flatten().to(torch.int32), minlength=(k + 1) * k)
        self.confusion += cells[: k * k].view(k, k)

    def compute(self) -> dict[str, Tensor]:
        """Fractions in 0…1 as float64.

        Returns:
            `miou`: mean over the classes that occur in truth or prediction; `pixel_accuracy`; `mean_accuracy`:
            mean recall over the classes that occur in truth; `iou` and `accuracy` per class (K,), NaN where a
            class does not occur.
        """
        confusion = self.confusion.double()
        hit, truth, predicted = confusion.diag(), confusion.sum(1), confusion.sum(0)
        iou = hit / (truth + predicted - hit)
        accuracy = hit / truth
        return {
            "miou": iou.nanmean(),
            "pixel_accuracy": hit.sum() / confusion.sum(),
            "mean_accuracy": accuracy.nanmean(),
            "iou": iou,
            "accuracy": accuracy,
        }
