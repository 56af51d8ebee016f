"""Lightning callbacks of a run."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from segmenter_pl.visualize import colorize, panel, save_label_png


class Progress(RichProgressBar):
    """Lightning's bar, named for what it counts: one pass over all training steps, not epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


class Throughput(Callback):
    """Logs `train/images_per_second` (all devices, validation left out) and `train/peak_memory_gb` (first device).

    Args:
        every: optimizer steps between two figures.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.images, self.seconds, self.start = 0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        # From the end of the previous batch, so that waiting for data counts.
        self.start = self.start or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.images += len(batch["image"]) * trainer.world_size
        self.seconds += now - self.start
        self.start = now
        if (batch_idx + 1) % (self.every * trainer.accumulate_grad_batches) == 0:
            module.log("train/images_per_second", self.images / self.seconds)
            module.log("train/peak_memory_gb", peak_memory_gb())
            self.images, self.seconds = 0, 0.0

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.start = 0.0


def peak_memory_gb() -> float:
    """Highest memory so far in GB: allocated on the GPU if one is used, else resident in this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


LONG_SIDE = 512  # pixels of a picture in a panel, at most


class Panel(Callback):
    """After each validation draws some pictures beside truth and prediction: `panels/step000100.png`.

    Args:
        save_dir: folder of the PNGs.
        pictures: how many, evenly spaced: neighbours in a data set are often alike.
    """

    def __init__(self, save_dir: str | Path, pictures: int = 4) -> None:
        self.save_dir, self.pictures = Path(save_dir), pictures
        self.rows: list[list[np.ndarray[Any, np.dtype[np.uint8]]]] = []

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.rows = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        spacing = max(1, int(trainer.num_val_batches[dataloader_idx]) // self.pictures)
        if not trainer.is_global_zero or batch_idx % spacing or len(self.rows) >= self.pictures:
            return
        palette = trainer.datamodule.classes.palette  # type: ignore[attr-defined]
        step = -(-max(outputs.shape) // LONG_SIDE)
        image, truth, labels = (
            picture[..., ::step, ::step].cpu().numpy() for picture in (batch["image"][0], batch["mask"][0], outputs)
        )
        self.rows.append([image.transpose(1, 2, 0), colorize(truth, palette), colorize(labels, palette)])

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.rows:
            return
        sheet = panel(self.rows)
        self.save_dir.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(self.save_dir / f"step{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/panel", [sheet], step=trainer.global_step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/panel", sheet, trainer.global_step, dataformats="HWC")


class SavePredictions(Callback):
    """Writes every validated picture's class ids as a palette PNG under the dataset's own name for it.

    Args:
        save_dir: folder of the PNGs.
    """

    def __init__(self, save_dir: str | Path) -> None:
        self.save_dir = Path(save_dir)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        dataset = trainer.val_dataloaders.dataset  # type: ignore[union-attr]
        path = self.save_dir / f"{dataset.name(int(batch['index'][0]))}.png"
        save_label_png(outputs.cpu().numpy(), path, dataset.classes.palette)
