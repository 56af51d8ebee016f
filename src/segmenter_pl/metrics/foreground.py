"""MAE, IoU, maximum F-beta and BER of the foreground of two-class data: glass, polyps, cracks, water.

Benchmarks of such data average over pictures, some papers pool all pixels: both are computed. With p the soft
probability of class 1, m its mask, TP, FP, TN pixels at p > 0.5, Np and Nn pixels in and outside the mask:

- MAE: mean |p - m|;
- IoU: TP / (Np + FP), 1 where prediction and mask are both empty;
- maximum F: the largest (1 + b) P R / (b P + R) with b = beta² = 0.3 over the thresholds p > k/255, k = 0…255;
- BER, the balanced error rate: 1 - (TP/Np + TN/Nn) / 2, a fraction like all our numbers; papers give it times 100.

MAE and IoU per picture are those of RGB-T-Glass (Huo et al., TIP 2023). The usual scripts for glass and mirrors do not
take each picture's maximum F: they average precision and recall over pictures and take the maximum of those curves.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

GROUPS = {"all": (0, 1), "with": (0,), "without": (1,)}  # foreground; and the rows of the sums that belong to it
SCORES = ("mae", "iou", "max_f", "ber")
# Pixels are counted by ceil(510 p), exact in float64: p > k/255 is a level above 2k, p > 1/2 one above 255. The last
# of the 512 levels is always empty, as nothing exceeds the threshold 1.
LEVELS, HALF = 512, 255
PART = 2**20  # pixels that are counted at once, so that nothing large is held in float64
ERROR_ONE = 1 << 24  # pixels' errors are summed as whole multiples of 2^-24
SCORE_ONE = 1 << 32  # and pictures' scores as those of 2^-32


def level_counts(probability: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Pixels by truth and level of probability, and their summed error.

    Args:
        probability: of the foreground, 0…1, any shape.
        target: 0, 1 or `ignore_index`, the same shape.

    Returns: (2, LEVELS) int64; and the sum of |p - m| in units of 1 / ERROR_ONE, int64.
    """
    counts = torch.zeros(3 * LEVELS, dtype=torch.int64, device=probability.device)
    error = torch.zeros((), dtype=torch.int64, device=probability.device)
    for p, m in zip(probability.flatten().split(PART), target.flatten().split(PART), strict=True):
        exact = p.double().clamp(0, 1)  # an average of probabilities may exceed 1 by its rounding
        row = torch.where(m == ignore_index, 2, m.long())  # ignored pixels go to a third row that is cut off
        counts += torch.bincount(row * LEVELS + (exact * (LEVELS - 2)).ceil().long(), minlength=3 * LEVELS)
        error += ((exact - row).abs() * ERROR_ONE).round().long()[row < 2].sum()
    return counts.view(3, LEVELS)[:2], error


def _curves(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Hits and predicted pixels (256,) at the thresholds k/255."""
    above = counts.flip(1).cumsum(1).flip(1)[:, 1::2]
    return above[1], above.sum(0)


def foreground_scores(counts: Tensor, error: Tensor) -> Tensor:
    """SCORES (4,), float64, of what `level_counts` returns; NaN where Np or Nn is needed and 0."""
    negatives, positives = counts.sum(1)
    false, hits = counts[:, HALF + 1 :].sum(1)
    union = positives + false
    found, predicted = _curves(counts)
    # The same as of P = found / predicted and R = found / positives, in whole numbers times 10. The last threshold
    # predicts nothing, so that the maximum is 0/0 without a positive pixel, and only then.
    f = 13 * found / (3 * positives + 10 * predicted).double()
    return torch.stack(
        [
            error.double() / ERROR_ONE / (positives + negatives),
            torch.where(union > 0, hits / union.double(), negatives / negatives.double()),
            f.max(),
            ((positives - hits) / positives.double() + false / negatives.double()) / 2,
        ]
    )


class ForegroundMetrics(Metric):
    """Sums over pictures and processes in whole numbers, so that their order does not change a bit.

    Args:
        ignore_index: label of the pixels that do not count.
    """

    full_state_update = False
    counts: Tensor
    error: Tensor
    scores: Tensor
    counted: Tensor
    curves: Tensor

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        # First axis: pictures of the groups "with" and "without". `curves`: precision and recall.
        sizes = {"counts": (2, LEVELS), "error": (), "scores": (4,), "counted": (4,), "curves": (2, 256)}
        for name, size in sizes.items():
            self.add_state(name, default=torch.zeros(2, *size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, target: Tensor, without: bool) -> None:
        """Count one picture; one without a labelled pixel does not count.

        Args:
            probability: of the foreground, (H, W) float32, 0…1.
            target: 0, 1 or `ignore_index`, (H, W).
            without: whether it belongs to the pictures without foreground.

        Raises: ValueError: the shapes differ.
        """
        if probability.shape != target.shape:
            raise ValueError(f"probability is {tuple(probability.shape)} but target is {tuple(target.shape)}")
        group = int(without)
        counts, error = level_counts(probability, target, self.ignore_index)
        if not counts.any():
            return
        scores = foreground_scores(counts, error)
        self.counts[group] += counts
        self.error[group] += error
        self.scores[group] += (scores.nan_to_num() * SCORE_ONE).round().long()
        self.counted[group] += ~scores.isnan()
        positives = counts[1].sum()
        if positives:
            found, predicted = _curves(counts)
            precision = torch.where(predicted > 0, found / predicted.double(), 1.0)
            curves = torch.stack([precision, found / positives.double()])
            self.curves[group] += (curves * SCORE_ONE).round().long()

    def compute(self) -> dict[str, dict[str, Any]]:
        """For each of GROUPS the number of `pictures`, and as fractions in 0…1, float64, NaN where nothing counts:

        - `pooled`: SCORES of all pixels together;
        - `per_picture`: their means over pictures. `max_f` leaves pictures without a foreground pixel out, `ber` those
          that lack either class; also `curve_max_f`, the maximum F of precision and recall averaged over the pictures
          that `max_f` counts. Precision is 1 where nothing is predicted;
        - `counted`: number of pictures in each mean.
        """
        return {name: self._of_group(list(rows)) for name, rows in GROUPS.items()}

    def _of_group(self, rows: list[int]) -> dict[str, Any]:
        counted = self.counted[rows].sum(0)
        pooled = foreground_scores(self.counts[rows].sum(0), self.error[rows].sum(0))
        means = self.scores[rows].sum(0).double() / SCORE_ONE / counted
        precision, recall = self.curves[rows].sum(0).double() / SCORE_ONE / counted[SCORES.index("max_f")]
        of_curves = 1.3 * precision * recall / (0.3 * precision + recall).clamp(min=1e-12)  # 0 where both are 0
        return {
            "pictures": counted[SCORES.index("mae")],
            "per_picture": {**dict(zip(SCORES, means, strict=True)), "curve_max_f": of_curves.max()},
            "counted": dict(zip(SCORES, counted, strict=True)),
            "pooled": dict(zip(SCORES, pooled, strict=True)),
        }
