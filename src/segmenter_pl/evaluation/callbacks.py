"""Around an evaluation: part of a split, label files, the bar that people watch."""

import io
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image

from segmenter_pl.callbacks import Progress, SavePredictions
from segmenter_pl.data.dataset import Subset
from segmenter_pl.data.sampling import train_subset
from segmenter_pl.data.submission import SUBMISSIONS
from segmenter_pl.files import write_atomically


class Fraction(Callback):
    """Evaluates a random part of the split, the same one for every seed. Smaller parts are part of larger ones.

    Args:
        fraction: of the pictures, in (0, 1]; rounded, at least one picture.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        whole = datamodule.val_set
        part = Subset(whole, train_subset(len(whole), max(round(self.fraction * len(whole)), 1)))
        part.transform, part.bad_sample = whole.transform, whole.bad_sample
        datamodule.val_set = part


class LabelWriter(SavePredictions):
    """Writes each picture's class ids: a palette PNG in `predictions/`, and what an evaluation server reads.

    Args:
        folder: of the evaluation.
        submission: a key of `SUBMISSIONS`, for grey PNGs in that server's values and names in `submission/`, or None.
    """

    def __init__(self, folder: Path, submission: str | None = None) -> None:
        super().__init__(folder / "predictions")
        self.submissions, self.server = folder / "submission", submission

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_validation_batch_end(trainer, module, outputs, batch, batch_idx, dataloader_idx)
        if self.server is None or batch["unreadable"][0]:
            return
        name = trainer.val_dataloaders.dataset.name(int(batch["index"][0]))  # type: ignore[union-attr]
        path_of, encode = SUBMISSIONS[self.server]
        file = io.BytesIO()
        Image.fromarray(encode(outputs.cpu().numpy())).save(file, format="PNG")
        write_atomically(self.submissions / path_of(name), file.getvalue())


class EvaluationProgress(Progress):
    """Lightning's bar with the mIoU so far; on several devices, of the pictures of the first one."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.progress is not None and self.val_progress_bar_id is not None:
            miou = pl_module.running_miou()  # type: ignore[operator]
            self.progress.update(self.val_progress_bar_id, description=f"Evaluating, mIoU {miou:.4f}")
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
