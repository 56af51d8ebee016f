"""Lightning callbacks and loggers of a run."""

import csv
import io
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from segmenter_pl.visualize import colorize, panel, save_label_png


class MetricsCSV(Logger):
    """`metrics.csv` in the run directory: one row per step, columns as they appear.

    A run that is started again keeps its earlier rows; rows at or past the first step logged now are dropped,
    so a resumed run has neither gaps nor repeats. (Lightning's CSVLogger deletes the file instead.) Only the last row
    is written in place; when columns are added the file is replaced as a whole.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rows: dict[int, dict[str, Any]] = {}
        self.columns = ["step"]
        self.tail_step = 0
        self.tail: int | None = None  # where the last row starts in the file; None: write the whole file
        self.started = False
        if self.path.exists():
            text = self.path.read_text()
            whole_lines = text[: text.rfind("\n") + 1].splitlines()
            for row in csv.DictReader(whole_lines):
                self._add(int(row["step"]), {key: value for key, value in row.items() if value and key != "step"})

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run directory's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        if not self.started:
            self.rows = {known: row for known, row in self.rows.items() if known < step}
            self.started, self.tail = True, None
        self._add(step, {key: value for key, value in metrics.items() if key != "epoch"})

    def _add(self, step: int, metrics: dict[str, Any]) -> None:
        self.rows.setdefault(step, {}).update(metrics)
        if new := [key for key in metrics if key not in self.columns]:
            self.columns += new
            self.tail = None

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return
        if self.tail is None:
            self._replace()
            return
        *complete, last = reversed(list(takewhile(lambda step: step >= self.tail_step, reversed(self.rows))))
        before, line = self._lines(complete), self._lines([last])
        with self.path.open("r+b") as file:
            file.seek(self.tail)
            file.write(before + line)
            file.truncate()
        self.tail, self.tail_step = self.tail + len(before), last

    def _replace(self) -> None:
        *complete, last = self.rows
        before = self._lines(complete, header=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_bytes(before + self._lines([last]))
        temporary.replace(self.path)
        self.tail, self.tail_step = len(before), last

    def _lines(self, steps: Iterable[int], *, header: bool = False) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows({"step": step, **self.rows[step]} for step in steps)
        return text.getvalue().encode()

    def finalize(self, status: str) -> None:
        self.save()


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
        if not self.rows or trainer.sanity_checking:
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
