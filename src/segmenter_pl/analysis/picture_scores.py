"""Scores of single pictures, and which pictures are the best, the worst, and the worst for a class.

Shapes: K classes, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from segmenter_pl.data.classes import Classes
from segmenter_pl.metrics.segmentation import count_cells

VISIBLE = 0.005  # share of a picture's labelled pixels from which on a class's failure can be seen at a glance

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PictureScore:
    """What a model got right in the picture at an index of its dataset.

    Attributes:
        hits, truth, predicted: pixels (K,) that have a class in both, in the labels, in the prediction; of the pixels
            with a label alone.
    """

    index: int
    name: str
    hits: Counts
    truth: Counts
    predicted: Counts

    @classmethod
    def of(
        cls, index: int, name: str, labels: NDArray[np.integer], truth: NDArray[np.integer], classes: Classes
    ) -> "PictureScore":
        """Of predicted and true class ids, (H, W) each. Raises: ValueError where their sizes differ."""
        found, known = (torch.from_numpy(np.array(ids)) for ids in (labels, truth))
        cells = count_cells(found, known, len(classes), classes.ignore_index).numpy()
        return cls(index, name, cells.diagonal().copy(), cells.sum(1), cells.sum(0))

    @property
    def union(self) -> Counts:
        """Pixels (K,) that have a class in truth or prediction."""
        return self.truth + self.predicted - self.hits

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,) in 0…1, NaN for a class in neither truth nor prediction."""
        union = self.union
        return np.divide(self.hits, union, out=np.full(len(union), np.nan), where=union > 0)

    @property
    def miou(self) -> float:
        """Mean of `iou`, NaN without a labelled pixel."""
        iou = self.iou
        present = iou[~np.isnan(iou)]
        return float(present.mean()) if len(present) else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right, NaN without one."""
        labelled = int(self.truth.sum())
        return int(self.hits.sum()) / labelled if labelled else float("nan")


def together(scores: Sequence[PictureScore]) -> PictureScore:
    """The scores of all pictures as one: its `miou` is that of an evaluation."""
    hits, truth, predicted = (sum(getattr(one, key) for one in scores) for key in ("hits", "truth", "predicted"))
    return PictureScore(-1, "all", hits, truth, predicted)


def worst_first(scores: Sequence[PictureScore]) -> list[PictureScore]:
    """By their mIoU, and by index where it is equal; without those that have no labelled pixel."""
    return sorted((one for one in scores if one.miou == one.miou), key=lambda one: (one.miou, one.index))


def failures_first(scores: Sequence[PictureScore], number: int) -> list[PictureScore]:
    """The pictures in which a class is not wholly right, the lowest IoU first.

    Pictures in which the class has less than 0.5 % of the labelled pixels, in truth and prediction together, come after
    all others: a few false pixels have an IoU of 0 too. Where the IoU is equal, more wrong pixels come first.
    """

    def rank(one: PictureScore) -> tuple[bool, float, int, int]:
        union = int(one.union[number])
        return union < VISIBLE * int(one.truth.sum()), float(one.iou[number]), -union, one.index

    return sorted((one for one in scores if one.union[number] > one.hits[number]), key=rank)


def confusions(
    labels: NDArray[np.integer], truth: NDArray[np.integer], number: int, classes: Classes
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """What a class was taken for, and what was taken for it: names, the most frequent first.

    Returns: for the first the shares of the class's pixels in `truth`, for the second of its labelled ones in `labels`.
    """
    found, known = labels == number, truth == number
    taken = np.bincount(labels[known].astype(np.int64), minlength=len(classes))[: len(classes)]
    false = truth[found & (truth != classes.ignore_index)]
    given = np.bincount(false.astype(np.int64), minlength=len(classes))[: len(classes)]
    return _others(taken, number, classes), _others(given, number, classes)


def _others(counts: Counts, number: int, classes: Classes) -> list[tuple[str, float]]:
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda k: (-counts[k], k))
    return [(classes.names[k], float(counts[k] / counts.sum())) for k in order if k != number]
