"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint; so does Slurm's SIGUSR1."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from segmenter_pl.callbacks.schedule import optimizer_stepped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SLURM_SIGNALS = (*SIGNALS, signal.SIGUSR1)  # the last one: the job's time is up soon


class Interrupted(BaseException):
    """The run was asked to stop by a signal. Like KeyboardInterrupt, no error: nothing on the way may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interruption(Callback):
    """Notes SIGINT, SIGTERM and, under Slurm, SIGUSR1 while a run trains; raises `Interrupted` once a step is saved.

    A step is never cut in two: the weights would be half updated. What was noted counts from the end of the next
    optimizer step on (`agreed`): `Checkpoints` saves that step, all processes know of it, and the next one does not
    begin. A validation ends at once: the checkpoint from before it is there. A second signal, and one that comes
    before the training begins, raise at once.
    """

    def __init__(self) -> None:
        self.noted = self.agreed = 0
        self.working = False
        self.signals = SLURM_SIGNALS if "SLURM_JOB_ID" in os.environ else SIGNALS

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals, and raise at the end what has been noted and not obeyed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {signum: signal.getsignal(signum) for signum in self.signals}
        self._take_over()
        try:
            yield
            if self.noted:
                raise Interrupted(self.noted)
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._take_over(working=True)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._take_over(working=True)

    def _take_over(self, working: bool = False) -> None:
        self.working = working
        if threading.current_thread() is threading.main_thread():
            for signum in self.signals:  # Lightning puts a handler for SIGTERM of its own before ours when it starts
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.noted or not self.working:
            raise Interrupted(signum)
        self.noted = signum
        # Not print: the signal may have met one, and buffered output cannot be entered twice.
        os.write(2, b"\nStopping after this step; once more: at once.\n")

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not optimizer_stepped(trainer, batch_idx):
            return
        self.agreed = self.noted
        if trainer.world_size > 1:
            # A signal may have reached one process only, or one earlier than another: they must stop at the same step.
            signum = torch.tensor(self.noted, device=module.device)
            self.agreed = int(trainer.strategy.reduce(signum, reduce_op="max"))

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.agreed:
            raise Interrupted(self.agreed)

    def on_validation_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        signum = self.agreed if trainer.world_size > 1 else self.noted
        if signum:
            raise Interrupted(signum)
