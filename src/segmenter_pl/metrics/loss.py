"""Mean negative log-likelihood of the true classes."""

import torch
from torch import Tensor
from torchmetrics import Metric

ONE = 1 << 20  # the loss of a picture is rounded to a multiple of 2^-20, which is below 1e-6


class MeanLoss(Metric):
    """Mean over the labelled pixels of all pictures.

    Sums are whole numbers, so that the order of pictures and processes does not change a bit.
    """

    full_state_update = False
    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "pixels"):
            self.add_state(name, default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, pixels: Tensor) -> None:
        """Add a picture: the sum of its pixels' losses (float64, finite) and their number."""
        self.total += (total.double() * ONE).round().long()
        self.pixels += pixels

    def compute(self) -> Tensor:
        """The mean, float64; NaN without a pixel."""
        return self.total.double() / ONE / self.pixels
