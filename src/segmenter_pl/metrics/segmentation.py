"""mIoU and accuracies from one confusion matrix over the whole dataset."""

import cv2
import torch
from torch import Tensor
from torchmetrics import Metric

PART = 2**18  # pixels at a time on a CPU: what is made of them stays in the cache
BYTES_PART = 2**20  # of a byte each; below 2^24, up to which OpenCV's float32 counts are exact
BYTE = 256  # values of a uint8


def count_cells(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Confusion matrix (K, K) int64 of some pixels; rows: truth, columns: prediction.

    It counts by itself: torchmetrics' own fallback for deterministic mode needs pixels × K² memory. Labels told apart
    by their last 8 bits, the usual case, are counted on a CPU as bytes, all others by `torch.bincount`.

    Args:
        prediction: class ids 0…K-1, any shape and integer type.
        target: class ids or `ignore_index`, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction is {tuple(prediction.shape)} but target is {tuple(target.shape)}")
    count, part = _counted, max(target.numel(), 1)
    if target.device.type == "cpu":
        count, part = (_counted_bytes, BYTES_PART) if num_classes <= ignore_index % BYTE else (_counted, PART)
    cells = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=target.device)
    for truth, found in zip(target.flatten().split(part), prediction.flatten().split(part), strict=True):
        if len(truth):
            cells += count(truth, found, num_classes, ignore_index)
    return cells


def _counted_bytes(truth: Tensor, prediction: Tensor, k: int, ignore_index: int) -> Tensor:
    """As `_counted`, where the last 8 bits of `ignore_index` are those of no class."""
    pair = [labels.to(torch.uint8).numpy() for labels in (truth, prediction)]
    # All 256 × 256 values: OpenCV has a faster way for them than for K × K, which ignored pixels would fall out of.
    cells = cv2.calcHist(pair, [0, 1], None, [BYTE, BYTE], [0, BYTE, 0, BYTE])
    return torch.from_numpy(cells)[:k, :k].to(torch.int64)


def _counted(truth: Tensor, prediction: Tensor, k: int, ignore_index: int) -> Tensor:
    """Pixels (N,) by truth and prediction, (K, K)."""
    truth = truth.to(torch.int32, copy=True)
    # Ignored pixels have a row of their own that is cut off, the one of their label if that is near: cheaper than
    # gathering the valid ones, and than moving them.
    rows = ignore_index + 1 if k <= ignore_index < 2 * k + 256 else k + 1
    if rows == k + 1 != ignore_index + 1:
        truth = torch.where(truth == ignore_index, k, truth)
    return torch.bincount(truth.mul_(k).add_(prediction), minlength=rows * k)[: k * k].view(k, k)


def confusion_scores(confusion: Tensor) -> dict[str, Tensor]:
    """Fractions in 0…1 as float64 from a confusion matrix (K, K).

    Returns:
        `miou`: mean over the classes that occur in truth or prediction; `pixel_accuracy`; `mean_accuracy`:
        mean recall over the classes that occur in truth; `iou` and `accuracy` per class (K,), NaN where a
        class does not occur.
    """
    cells = confusion.double()
    hit, truth, predicted = cells.diag(), cells.sum(1), cells.sum(0)
    iou = hit / (truth + predicted - hit)
    accuracy = hit / truth
    return {
        "miou": iou.nanmean(),
        "pixel_accuracy": hit.sum() / cells.sum(),
        "mean_accuracy": accuracy.nanmean(),
        "iou": iou,
        "accuracy": accuracy,
    }


class SegmentationMetrics(Metric):
    """mIoU, pixel accuracy and mean accuracy, exact across devices.

    Everything follows from one int64 confusion matrix that is summed over pictures and over processes, so any split
    of the data gives the same bits.

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
        """Count one picture or batch; arguments and errors as `count_cells`."""
        self.confusion += count_cells(prediction, target, self.num_classes, self.ignore_index)

    def compute(self) -> dict[str, Tensor]:
        """As `confusion_scores`, and the `confusion` matrix itself (K, K) int64."""
        return {**confusion_scores(self.confusion), "confusion": self.confusion}
