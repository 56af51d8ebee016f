"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from segmenter_pl.callbacks.schedule import optimizer_stepped


class Interrupted(Exception):
    """The run was asked to stop by a signal; everything up to the last optimizer step is in last.ckpt."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interruption(Callback):
    """Notes SIGINT and SIGTERM, and raises `Interrupted` once the step they met is done and saved.

    A step is never cut in two: the weights would be half updated. `Checkpoints` saves when it sees `signum`; during a
    validation the checkpoint from before it is there already. A second signal ends the run at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum = 0
        self.previous: dict[int, Any] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            self.previous = {signum: signal.signal(signum, self._note) for signum in self.SIGNALS}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._take_over()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._take_over()

    def _take_over(self) -> None:
        for signum in self.previous:  # after `setup`, Lightning puts a handler for SIGTERM of its own before ours
            signal.signal(signum, self._note)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)
        self.previous = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise Interrupted(signum)
        self.signum = signum
        # Not print: the signal may have met one, and buffered output cannot be entered twice.
        os.write(2, b"\nStopping after this step, with a checkpoint; once more: stop at once.\n")

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size > 1 and optimizer_stepped(trainer, batch_idx):
            # A signal may have reached one process only, or one earlier than another: they must stop at the same step.
            signum = torch.tensor(self.signum, device=module.device)
            self.signum = int(trainer.strategy.reduce(signum, reduce_op="max"))

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Only where an optimizer step is complete: the gradient of part of its micro-batches is not in a checkpoint.
        if self.signum and optimizer_stepped(trainer, batch_idx - 1):
            raise Interrupted(self.signum)

    def on_validation_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.signum:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)  # the processes that it started, if any
            raise Interrupted(self.signum)
