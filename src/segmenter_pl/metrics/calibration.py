"""Expected calibration error (Guo et al., ICML 2017): how far confidence and accuracy lie apart."""

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15
ONE = 1 << 24  # probabilities are summed as whole multiples of 2^-24, float32's own step near 1


class CalibrationError(Metric):
    """Pixels, hits and confidence in equal bins of the largest class probability, summed over pictures and processes.

    Whole numbers throughout, so that the order of pixels, pictures and processes does not change a bit.
    """

    full_state_update = False
    pixels: Tensor
    hits: Tensor
    confidence: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("pixels", "hits", "confidence"):
            self.add_state(name, default=torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Count some pixels; those that are ignored have to be left out.

        Args:
            confidence: probability of the predicted class, 0…1, any shape.
            correct: whether that class is the true one, the same shape, bool.
        """
        # A bin holds its upper end, as in the paper: (0, 1/15], (1/15, 2/15], …
        place = (confidence.flatten() * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
        self.pixels += torch.bincount(place, minlength=BINS)
        self.hits += torch.bincount(place[correct.flatten()], minlength=BINS)
        units = (confidence.flatten().double() * ONE).round().long()
        self.confidence.index_add_(0, place, units)

    def compute(self) -> dict[str, Tensor]:
        """`error`: the mean over pixels of |accuracy - confidence| of their bin, 0…1, float64; and for each bin (15,)
        its `pixels` (int64), `accuracy` and mean `confidence`, NaN where it is empty."""
        pixels, hits, confidence = self.pixels, self.hits.double(), self.confidence.double() / ONE
        error = (hits - confidence).abs().sum() / pixels.sum()
        return {"error": error, "pixels": pixels, "accuracy": hits / pixels, "confidence": confidence / pixels}
