"""The last steps of a prediction, for one tile, in plain torch: mixing of rows, soft-max, mean over views, arg-max.

Legend: K classes, rows and c columns of a tile, r coarse rows that it is mixed from.
"""

import math

import torch
from torch import Tensor

SPREAD = 90  # of the logits of a cell, to base 2: no exponential of a mixture of such cells leaves float32


def exponents(logits: Tensor) -> Tensor:
    """Logits (…, K) to base 2, less the highest of their cell: no soft-max of their mixtures notices."""
    return logits.sub(logits.amax(-1, keepdim=True)).mul_(math.log2(math.e))


def best_class(scores: Tensor) -> Tensor:
    """`scores.argmax(-1)`, by NumPy on a CPU, where it takes a sixth of the time at K = 150, and never longer."""
    return torch.from_numpy(scores.numpy().argmax(-1)) if scores.device.type == "cpu" else scores.argmax(-1)


def logits(wide: Tensor, weights: Tensor) -> Tensor:
    """Rows (rows, c, K) mixed from coarse rows `wide` (r, c, K) by `weights` (rows, r), float32 also under autocast."""
    with torch.autocast(wide.device.type, enabled=False):
        return _mixed(wide, weights)


def _mixed(wide: Tensor, weights: Tensor) -> Tensor:
    return torch.mm(weights, wide.flatten(1)).view(len(weights), *wide.shape[1:])


def labels(wide: Tensor, weights: Tensor) -> Tensor:
    """Class ids (rows, c) int64 of the mixed rows; arguments as `logits`."""
    return best_class(logits(wide, weights))


def probabilities(wide: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Mean over the views of the soft-max of their mixed rows, (rows, c, K).

    Args:
        wide: of each view its coarse `exponents` (r, c, K). weights: of each view (rows, r).
    """
    total: Tensor | None = None
    with torch.autocast(wide[0].device.type, enabled=False):
        for cells, by_row in zip(wide, weights, strict=True):
            scores = _mixed(cells, by_row)
            # Neighbours that differ so much that no class is near 0 in both are rare; a GPU is not waited for.
            if cells.device.type != "cpu" or not bool(cells.amin() > -SPREAD):
                scores -= scores.amax(-1, keepdim=True)
            scale = scores.exp2_().sum(-1, keepdim=True).mul_(len(wide)).reciprocal_()  # (rows, c, 1)
            total = scores.mul_(scale) if total is None else total.addcmul_(scores, scale)
    assert total is not None
    return total
