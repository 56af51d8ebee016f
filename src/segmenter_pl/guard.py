"""Steps whose loss or gradient is infinite or not a number: stop, or leave them out up to a limit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    from segmenter_pl.task import SegmentationTask


class NonFiniteGuard:
    """Looks at every step before the weights change.

    Args:
        policy: "stop" ends the run, its last checkpoint being sound; "skip" leaves the step out: weights, momentum and
            decay stay as they are, the schedule goes on.
        limit: number of steps that may be left out in a run.

    Raises ValueError for another policy.
    """

    def __init__(self, policy: str = "stop", limit: int = 10) -> None:
        if policy not in ("stop", "skip"):
            raise ValueError(f"nonfinite={policy}: choose stop or skip")
        self.policy, self.limit = policy, limit

    def check(self, task: SegmentationTask, loss: Tensor, norm: Tensor, optimizer: Optimizer) -> None:
        """Raise ValueError, or empty the gradients so that the optimizer does nothing, where `loss` or `norm` (both
        over the whole step) is not finite."""
        scales_loss = getattr(task.trainer.precision_plugin, "scaler", None) is not None
        # Float16's loss scaling makes gradients overflow now and then, and leaves such steps out by itself.
        if bool(torch.isfinite(loss if scales_loss else loss + norm)):
            return
        dataset = task.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        names = ", ".join(dataset.name(index) for index in task.seen) if hasattr(dataset, "name") else "unknown"
        what = (
            f"step {task.trainer.global_step + 1} has loss {float(loss):.4g} and gradient norm {float(norm):.4g} "
            f"(rate {optimizer.param_groups[0]['lr']:.3g}; pictures {names})"
        )
        calmer = "a lower optimizer.lr, trainer.gradient_clip_val=1, or trainer.precision=32-true may help"
        if self.policy == "stop":
            raise ValueError(f"nonfinite=stop: {what}. Look at these pictures; {calmer}; nonfinite=skip leaves it out")
        task.faults["skipped_steps"] += 1
        if task.faults["skipped_steps"] > self.limit:
            raise ValueError(f"nonfinite_limit={self.limit} steps are left out already, and {what}: {calmer}")
        print(f"Left out: {what}", file=sys.stderr)
        if not scales_loss:
            optimizer.zero_grad(set_to_none=True)  # without a gradient an optimizer leaves a parameter alone
