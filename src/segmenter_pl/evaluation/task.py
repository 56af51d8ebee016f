"""Sliding-window evaluation of a `SegmentationModel`, picture by picture, tile by tile."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import SumMetric

from segmenter_pl.evaluation.results import results_of
from segmenter_pl.evaluation.speed import Stopwatch, name_of
from segmenter_pl.guard import gathered
from segmenter_pl.inference import SCALES, Settings, averages, predict_bands, window_anchors
from segmenter_pl.metrics import (
    BoundaryIoU,
    CalibrationError,
    ForegroundMetrics,
    MeanLoss,
    ObjectSizeMetrics,
    SegmentationMetrics,
    confusion_scores,
)
from segmenter_pl.ops import best_class

# Test-time augmentation: which versions of a picture are averaged.
TTA: Mapping[str, dict[str, Any]] = {
    "none": {"scales": (1.0,), "flip": False},
    "flip": {"scales": (1.0,), "flip": True},
    "multiscale": {"scales": SCALES, "flip": False},
    "multiscale_flip": {"scales": SCALES, "flip": True},
}


class EvaluationTask(LightningModule):
    """Everything that one pass over labelled pictures can tell; only `Trainer.validate` makes sense.

    Nothing holds classes × height × width: the model's scores are used tile by tile.

    Args:
        model: any `SegmentationModel`, in evaluation mode.
        class_names: K names.
        ignore_index: label of the pixels that do not count.
        settings: how a picture is looked at, as `inference.predict_bands`.
        without_foreground: of two-class data, what the names of pictures in the group without foreground hold; None:
            those that have no pixel of class 1.
        labelled: False where there is no ground truth: `results` then holds the number of pictures only.

    Attributes:
        results: after the pass, what `results_of` makes and the number of `pictures`; the same on every device.
        confusion: likewise, the confusion matrix (K, K); rows: truth, columns: prediction.
        faults: pictures that could not be read, of all devices.
        speed: images per second of all devices together, and the first one's name. Prediction is timed, with the loss
            that is counted on its way, and neither reading nor the other measures.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        class_names: Sequence[str],
        ignore_index: int,
        settings: Settings,
        without_foreground: str | None = None,
        labelled: bool = True,
    ) -> None:
        super().__init__()
        # A stride that leaves gaps is refused now, not at the first picture.
        window_anchors(settings["window"], settings["window"], settings["stride"])
        self.model: Any = model
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        self.settings = settings
        self.labelled, self.without_foreground = labelled, without_foreground
        self.metrics = SegmentationMetrics(len(class_names), ignore_index)
        self.objects = ObjectSizeMetrics(len(class_names), ignore_index)
        self.boundary = BoundaryIoU(len(class_names), ignore_index)
        self.calibration = CalibrationError()
        self.loss = MeanLoss()
        self.foreground = ForegroundMetrics(ignore_index) if len(class_names) == 2 else None
        self.pictures = SumMetric()
        self.results: dict[str, Any] = {}
        self.confusion = torch.zeros(0, 0, dtype=torch.int64)
        self.faults: dict[str, Any] = {"skipped_steps": 0, "unreadable": []}
        self.stopwatch, self.rate = Stopwatch(), SumMetric()
        self.speed: dict[str, Any] = {}

    def running_miou(self) -> float:
        """mIoU of the pictures so far, of this device: for people who watch, without waiting for other devices."""
        return float(confusion_scores(self.metrics.confusion)["miou"])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Count one picture (batch of 1) and return its class ids (H, W)."""
        unreadable = batch.get("unreadable", [""])[0]
        if unreadable:  # it is a black picture without a labelled pixel, which changes no number
            self.faults["unreadable"].append(unreadable)
            print(f"Left out: {unreadable}", file=sys.stderr)
        target = batch["mask"][0].long()
        with self.stopwatch.picture(self.device):
            labels, probability = self._predicted(batch["image"][0], target)
        for metric in (self.metrics, self.objects, self.boundary):
            metric.update(labels, target)
        if self.foreground is not None and probability is not None:
            self.foreground.update(probability, target, self._without_foreground(target, int(batch["index"][0])))
        self.pictures.update(float(not unreadable))
        return labels

    def _without_foreground(self, target: Tensor, index: int) -> bool:
        if self.without_foreground is None:
            return not bool((target == 1).any())
        dataset: Any = self.trainer.val_dataloaders.dataset  # type: ignore[union-attr]
        return self.without_foreground in dataset.name(index)

    def _predicted(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Class ids (H, W) of a picture (3, H, W), and of two classes the second one's probability (H, W) float32.

        Loss and calibration are counted on the way.
        """
        labels = torch.empty_like(target)
        probability = None if self.foreground is None else torch.empty_like(target, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float64, device=target.device)
        averaged = averages(self.settings)
        for rows, columns, scores in predict_bands(self.model, image, **self.settings):
            truth = target[rows, columns]
            valid = truth != self.ignore_index
            guess = labels[rows, columns] = best_class(scores)
            if probability is not None:
                probability[rows, columns] = (scores if averaged else scores.softmax(-1))[..., 1]
            pair = torch.stack([guess, torch.where(valid, truth, 0)], dim=-1)  # (rows, columns, 2)
            scores_of_pair = scores.gather(-1, pair)
            if averaged:
                logs = scores_of_pair.clamp_(min=1e-38).log_()
            else:
                logs = scores_of_pair - scores.logsumexp(-1, keepdim=True)
            confidence, likelihood = logs[valid].unbind(-1)  # of the guess and of the truth, log
            total -= likelihood.sum(dtype=torch.float64)
            self.calibration.update(confidence.exp(), guess[valid] == truth[valid])
        self.loss.update(total, (target != self.ignore_index).sum())
        return labels, probability

    def on_validation_epoch_end(self) -> None:
        self.faults["unreadable"] = gathered(self.faults["unreadable"])
        self.results = {"pictures": int(self.pictures.compute())}
        self.rate.update(self.stopwatch.pictures_per_second)
        self.speed = {"images_per_second": float(self.rate.compute()), "device": name_of(self.device)}
        if not self.labelled:
            return
        scores = self.metrics.compute()
        if scores["miou"].isnan():
            raise ValueError("no picture of the split has a labelled pixel: check split and dataset.ignore_value")
        self.confusion = scores["confusion"].cpu()
        self.results |= results_of(
            self.class_names,
            scores,
            loss=self.loss.compute(),
            objects=self.objects.compute(),
            boundary=self.boundary.compute(),
            calibration=self.calibration.compute(),
            foreground=self.foreground.compute() if self.foreground is not None else None,
        )
