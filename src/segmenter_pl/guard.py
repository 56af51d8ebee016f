"""What is not sound: steps without a finite loss or gradient, unreadable pictures, sizes beyond the memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from segmenter_pl.memory import is_out_of_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segmenter_pl.task import SegmentationTask


class Step(NamedTuple):
    """What is said of a step: its number from 1, the rate, and its samples."""

    number: int
    rate: float
    seen: list[int]


class Arriving:
    """Numbers on their way from the device."""

    def __init__(self, numbers: Tensor) -> None:
        self.copy = torch.empty_like(numbers, device="cpu", pin_memory=numbers.is_cuda)
        self.copy.copy_(numbers, non_blocking=True)
        self.event = torch.cuda.Event() if numbers.is_cuda else None
        if self.event:
            self.event.record()

    def numbers(self) -> list[float]:
        """The numbers; waits for them where they have not come yet."""
        if self.event:
            self.event.synchronize()
        return self.copy.tolist()


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
        self.pending: tuple[Step, Arriving] | None = None

    def check(self, task: SegmentationTask, loss: Tensor, norm: Tensor, optimizer: Optimizer) -> None:
        """Keep the optimizer from a step whose `loss` or `norm` (both over the whole step) is not finite.

        A fused optimizer on a GPU leaves the step out by itself, and what is to be said of it is said at the next step,
        so that the device is not waited for. Raises: ValueError, as the policy has it.
        """
        self.settle(task)
        scales_loss = getattr(task.trainer.precision_plugin, "scaler", None) is not None
        # Float16's loss scaling makes gradients overflow now and then, and leaves such steps out by itself.
        numbers = torch.stack([loss, loss if scales_loss else norm])
        step = Step(task.trainer.global_step + 1, optimizer.param_groups[0]["lr"], list(task.seen))
        if self.defers(optimizer, loss.device):
            optimizer.found_inf = (~numbers.isfinite().all()).float()  # type: ignore[attr-defined]
            self.pending = step, Arriving(numbers)
        elif not numbers.isfinite().all():
            self._judge(task, step, float(loss), float(norm))
            if not scales_loss:
                optimizer.zero_grad(set_to_none=True)  # without a gradient an optimizer leaves a parameter alone

    def settle(self, task: SegmentationTask) -> None:
        """Look at the step whose numbers were still to come. Raises: ValueError, as the policy has it."""
        if self.pending is not None:
            step, arriving = self.pending
            self.pending = None
            loss, norm = arriving.numbers()
            if not math.isfinite(loss + norm):
                self._judge(task, step, loss, norm)

    @staticmethod
    def defers(optimizer: Optimizer, device: torch.device) -> bool:
        """Whether steps are judged one step later."""
        return device.type == "cuda" and bool(optimizer.defaults.get("fused"))

    def _judge(self, task: SegmentationTask, step: Step, loss: float, norm: float) -> None:
        dataset = task.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        names = ", ".join(dataset.name(index) for index in step.seen) if hasattr(dataset, "name") else "unknown"
        what = (
            f"step {step.number} has loss {loss:.4g} and gradient norm {norm:.4g} (rate {step.rate:.3g}; pictures "
            f"{names})"
        )
        calmer = "a lower optimizer.lr, trainer.gradient_clip_val=1, or trainer.precision=32-true may help"
        if self.policy == "stop":
            raise ValueError(f"nonfinite=stop: {what}. Look at these pictures; {calmer}; nonfinite=skip leaves it out")
        task.faults["skipped_steps"] += 1
        if task.faults["skipped_steps"] > self.limit:
            raise ValueError(f"nonfinite_limit={self.limit} steps are left out already, and {what}: {calmer}")
        print(f"Left out: {what}", file=sys.stderr)

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
