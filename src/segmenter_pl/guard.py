"""What is not sound: steps without a finite loss or gradient, unreadable pictures, sizes beyond the memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from segmenter_pl.memory import is_out_of_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segmenter_pl.task import SegmentationTask


class Guard:
    """Looks at every step before the weights change, and counts the pictures that are left out.

    Args:
        policy: "stop" ends the run, its last checkpoint being sound; "skip" leaves the step out: weights, momentum and
            decay stay as they are, the schedule goes on.
        limit: number of steps that may be left out in a run.
        unreadable_limit: number of pictures that may be.

    Raises ValueError for another policy.
    """

    def __init__(self, policy: str = "stop", limit: int = 10, unreadable_limit: int = 100) -> None:
        if policy not in ("stop", "skip"):
            raise ValueError(f"nonfinite={policy}: choose stop or skip")
        self.policy, self.limit, self.unreadable_limit = policy, limit, unreadable_limit

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

    def note_unreadable(self, message: str, known: list[str]) -> None:
        """Add a message to those that are known and say it, once. Raises ValueError beyond the limit."""
        if message in known:
            return
        known.append(message)
        print(f"Left out: {message}", file=sys.stderr)
        if len(known) > self.unreadable_limit:
            raise ValueError(
                f"bad_sample_limit={self.unreadable_limit}: {len(known)} pictures cannot be read, the last one: "
                f"{message}. Look whether the folder is still there"
            )


def gathered(messages: list[str]) -> list[str]:
    """Those of all processes, each once; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return messages
    of_all: list[list[str]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(of_all, messages)
    return list(dict.fromkeys(message for some in of_all for message in some))


@contextmanager
def enough_memory(config: DictConfig) -> Iterator[None]:
    """Turns the device's "out of memory" into what was asked of it and what to try. Raises MemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        asked = [f"trainer.precision={config.trainer.precision}"]
        for key in ("batch_size", "crop", "window"):
            asked += [f"dataset.{key}={config.dataset[key]}"] if key in (config.dataset or {}) else []
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MemoryError(
            f"out of memory with {', '.join(asked)} ({reason}). Try {_halved(config)}trainer.precision=bf16-mixed, a "
            "smaller dataset.crop, window or short_side, or a smaller backbone"
        ) from error


def _halved(config: DictConfig) -> str:
    batch, accumulate = (config.dataset or {}).get("batch_size", 1), config.trainer.get("accumulate_grad_batches", 0)
    if batch % 2 or not accumulate:
        return ""
    return f"dataset.batch_size={batch // 2} trainer.accumulate_grad_batches={2 * accumulate} (the same steps), "
