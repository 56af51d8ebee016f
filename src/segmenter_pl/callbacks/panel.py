"""Pictures of a run: panels at each validation, label files of an evaluation."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image

from segmenter_pl.files import write_atomically
from segmenter_pl.loggers import Mirror, Prediction
from segmenter_pl.visualize import colorize, panel, save_label_png

LONG_SIDE = 512  # pixels of a picture in a panel, at most


class Panel(Callback):
    """After each validation draws some pictures beside truth and prediction: `panels/step000100.png`.

    Mirrors also get the pictures with their class ids, `val/predictions`, and the confusion matrix, `val/confusion`.

    Args:
        save_dir: folder of the PNGs.
        pictures: how many, evenly spaced: neighbours in a data set are often alike.
    """

    def __init__(self, save_dir: str | Path, pictures: int = 4) -> None:
        self.save_dir, self.pictures = Path(save_dir), pictures
        self.shown: list[Prediction] = []

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.shown = []

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
        if not trainer.is_global_zero or batch_idx % spacing or len(self.shown) >= self.pictures:
            return
        step = -(-max(outputs.shape) // LONG_SIDE)
        image, truth, labels = (
            picture[..., ::step, ::step].cpu().numpy() for picture in (batch["image"][0], batch["mask"][0], outputs)
        )
        name = trainer.val_dataloaders.dataset.name(int(batch["index"][0]))  # type: ignore[union-attr]
        self.shown.append(Prediction(name, image.transpose(1, 2, 0), truth, labels))

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        # Before the module's own, which forgets the matrix; on every process, since they sum it up.
        from segmenter_pl.evaluation.confusion import confusion_picture  # its package imports this one

        confusion = module.metrics.compute()["confusion"]
        if mirrors := _mirrors(trainer):
            picture = np.asarray(confusion_picture(confusion.cpu().numpy(), module.class_names))
            for logger in mirrors:
                logger.log_image("val/confusion", picture, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.shown:
            return
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        sheet = panel(
            [[one.image, *(colorize(ids, classes.palette) for ids in (one.truth, one.labels))] for one in self.shown]
        )
        png = BytesIO()
        Image.fromarray(sheet).save(png, "png")
        write_atomically(self.save_dir / f"step{trainer.global_step:06d}.png", png.getvalue())
        for logger in _mirrors(trainer):
            logger.log_image("val/panel", sheet, trainer.global_step)
            logger.log_predictions("val/predictions", self.shown, classes, trainer.global_step)


def _mirrors(trainer: Trainer) -> list[Mirror]:
    return [logger for logger in trainer.loggers if isinstance(logger, Mirror)]


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
        if batch["unreadable"][0]:
            return
        dataset = trainer.val_dataloaders.dataset  # type: ignore[union-attr]
        path = self.save_dir / f"{dataset.name(int(batch['index'][0]))}.png"
        save_label_png(outputs.cpu().numpy(), path, dataset.classes.palette)
