"""Stochastic depth (Huang et al., ECCV 2016) that draws for a picture wherever it is computed.

Shapes: B batch, L modules that draw.
"""

import numpy as np
import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Leaves the branch of a whole picture out with probability `drop_prob` while training, and makes up for it.

    Attributes:
        kept: 0 or 1 for each picture of the next forward passes, (B,); None: drawn then, by torch's generator.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) to the same shape."""
        if not self.training or self.drop_prob == 0:
            return x
        kept = x.new_empty(x.shape[0]).bernoulli_(1 - self.drop_prob) if self.kept is None else self.kept
        return x * (kept.to(x.dtype) / (1 - self.drop_prob)).view(-1, *[1] * (x.ndim - 1))

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:.3f}"


class DepthDraws:
    """What all `StochasticDepth` of a model draw: a function of (seed, step, position of the picture in the batch).

    So the same picture loses the same branches on one device and on several.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [one for one in model.modules() if isinstance(one, StochasticDepth) and one.drop_prob > 0]
        self.rates = np.array([one.drop_prob for one in self.modules])
        self.kept: Tensor | None = None  # (L, B), written in place, so that a compiled model meets the same tensors

    def draw(self, seed: int, step: int, positions: range, device: torch.device) -> None:
        """For the pictures at `positions` of the global batch."""
        if not self.modules:
            return
        streams = (np.random.default_rng(np.random.SeedSequence([seed, step], spawn_key=(p,))) for p in positions)
        uniform = np.stack([stream.random(len(self.modules)) for stream in streams], axis=1)  # (L, B)
        drawn = torch.from_numpy((uniform >= self.rates[:, None]).astype(np.float32))
        drawn = drawn.pin_memory() if device.type == "cuda" else drawn
        if self.kept is None or self.kept.shape != drawn.shape or self.kept.device != device:
            self.kept = torch.empty_like(drawn, device=device)
            for module, kept in zip(self.modules, self.kept, strict=True):
                module.kept = kept
        self.kept.copy_(drawn, non_blocking=True)

    def end(self) -> None:
        """From now on torch's generator draws."""
        self.kept = None
        for module in self.modules:
            module.kept = None
