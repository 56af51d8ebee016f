"""What a run logs, and the bar that people watch."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch.optim import Optimizer

from segmenter_pl.callbacks.schedule import optimizer_stepped, validation_follows
from segmenter_pl.loggers import MetricsCSV, RunLogger
from segmenter_pl.memory import peak_memory_gb


class Progress(RichProgressBar):
    """Lightning's bar, named for what it counts: one pass over all training steps, not epochs.

    On a GPU the values beside it are renewed once a second: each time, the device is waited for.
    """

    renewed = 0.0

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.monotonic()
        if pl_module.device.type != "cuda" or now >= self.renewed + 1:
            self.renewed = now
            super()._update_metrics(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


class Recorder(Callback):
    """Hands each logged step to the loggers as one complete row, before any checkpoint of that step.

    A row holds everything logged under `train/`, the rates used, images per second (all devices, validation left out)
    and peak memory; after a validation also what was logged under `val/`. Steps count optimizer steps, from 1.
    (Lightning itself writes a step's values after its checkpoints, so that a killed run would miss rows.)

    Args:
        every: optimizer steps between two rows; validations always make one.
        device_stats: also what Lightning knows of the device: utilisation, memory.
    """

    def __init__(self, every: int, device_stats: bool = False) -> None:
        self.every, self.device_stats = every, device_stats
        self.row: dict[str, float] = {}  # of the step whose validation is not done yet
        self.rates: dict[str, float] = {}
        self.images, self.seconds, self.start = 0, 0.0, 0.0
        self.begun = False

    def state_dict(self) -> dict[str, Any]:
        return {"row": self.row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.row = state_dict["row"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._begin(trainer)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        # From the end of the previous batch, so that waiting for data counts.
        self.start = self.start or time.perf_counter()

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        groups = optimizer.param_groups
        self.rates = {f"lr/{group['name'].removesuffix('_no_decay')}": group["lr"] for group in groups}

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.images += len(batch["image"]) * trainer.world_size
        self.seconds += now - self.start
        self.start = now
        if not optimizer_stepped(trainer, batch_idx):
            return
        validates = validation_follows(trainer)
        if validates or trainer.global_step % self.every == 0:
            self.row = {**_logged(trainer, "train/"), **self.rates}
            self.row["train/images_per_second"] = self.images / self.seconds
            self.row["train/peak_memory_gb"] = peak_memory_gb()
            if self.device_stats:
                stats = trainer.accelerator.get_device_stats(module.device)
                self.row |= {f"device/{key}": float(value) for key, value in stats.items()}
            self.images, self.seconds = 0, 0.0
            if not validates:
                self._write(trainer)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.start = 0.0
        self._begin(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.row |= _logged(trainer, "val/")
        self._write(trainer)

    def _begin(self, trainer: Trainer) -> None:
        if self.begun or not trainer.is_global_zero:
            return
        self.begun = True
        loggers = [one for one in trainer.loggers if isinstance(one, RunLogger)]
        written = next((one.rows for one in loggers if isinstance(one, MetricsCSV)), {})
        earlier = {step: row for step, row in written.items() if step <= trainer.global_step}
        for logger in loggers:
            logger.begin(trainer.global_step, earlier)

    def _write(self, trainer: Trainer) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(self.row, trainer.global_step)
            logger.save()
        self.row = {}


def _logged(trainer: Trainer, prefix: str) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith(prefix)}
