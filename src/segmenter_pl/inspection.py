"""Looking at what a model does on labelled pictures, one by one: scores, mistakes, how far its confidence can be
trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.metrics import CalibrationError, confusion_scores
from segmenter_pl.metrics.segmentation import count_cells
from segmenter_pl.predictor import Predictor
from segmenter_pl.visualize import Picture, beside, class_shares, legend, overlay, panel

WRONG, RIGHT, IGNORED = (215, 48, 39), (255, 255, 255), (150, 150, 150)


@dataclass(frozen=True)
class Inspected:
    """A labelled picture as a model sees it.

    Attributes:
        image: (H, W, 3) uint8. truth, labels: class ids (H, W). confidence: probability (H, W) of the label, 0…1.
        miou: over the classes in truth or prediction, NaN without a labelled pixel. pixel_accuracy: likewise, 0…1.
    """

    name: str
    image: Picture
    truth: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Score:
    """mIoU and pixel accuracy, 0…1, of the picture at an index of its dataset."""

    index: int
    name: str
    miou: float
    pixel_accuracy: float


def validation_set(checkpoint: str | Path, **others: Any) -> SegmentationDataset:
    """The validation pictures that a training checkpoint of ours was chosen on.

    Args:
        others: settings of its dataset that are other here, e.g. root.
    Raises: FileNotFoundError, ValueError where the checkpoint or its pictures cannot be read.
    """
    from omegaconf import OmegaConf

    from segmenter_pl.build import build_datamodule, safe_dataset

    stored = read_checkpoint(checkpoint)["segmenter"]["config"]["dataset"]
    config = OmegaConf.create({"dataset": safe_dataset(dict(stored) | others), "seed": 0, "bad_sample": "fail"})
    datamodule = build_datamodule(config)
    datamodule.setup("validate")
    return datamodule.val_set


def inspect(predictor: Predictor, dataset: SegmentationDataset, index: int) -> Inspected:
    """Predict one picture of a dataset, and compare with its labels."""
    image, truth = dataset.read(index)
    labels, confidence = np.zeros(truth.shape, np.int64), np.zeros(truth.shape, np.float32)
    for rows, columns, probabilities in predictor.probability_tiles(image):
        best, ids = probabilities.max(-1)
        labels[rows, columns], confidence[rows, columns] = ids.cpu().numpy(), best.cpu().numpy()
    known, classes = torch.from_numpy(truth.astype(np.int64)), dataset.classes
    scores = confusion_scores(count_cells(torch.from_numpy(labels), known, len(classes), classes.ignore_index))
    means = (float(scores[key]) for key in ("miou", "pixel_accuracy"))
    return Inspected(dataset.name(index), image, truth, labels, confidence, *means)


def survey(
    predictor: Predictor, dataset: SegmentationDataset, indices: Iterable[int]
) -> tuple[list[Score], dict[str, torch.Tensor]]:
    """The scores of some pictures, the worst first, and their calibration as `metrics.CalibrationError` gives it."""
    scores, calibration = [], CalibrationError()
    for index in indices:
        one = inspect(predictor, dataset, index)
        valid = one.truth != dataset.classes.ignore_index
        hits = (one.labels == one.truth)[valid]
        calibration.update(torch.from_numpy(one.confidence[valid]), torch.from_numpy(hits))
        scores.append(Score(index, one.name, one.miou, one.pixel_accuracy))
    return sorted(scores, key=lambda score: (np.nan_to_num(score.miou, nan=2.0), score.index)), calibration.compute()


def mistakes(one: Inspected, ignore_index: int = 255) -> Picture:
    """Where the prediction is wrong (red) and right (white), darkened by the picture; grey has no label."""
    colors = np.where((one.labels == one.truth)[..., None], RIGHT, WRONG)
    colors = np.where((one.truth == ignore_index)[..., None], IGNORED, colors)
    light = 0.5 + 0.5 * one.image.mean(-1, keepdims=True) / 255
    return (colors * light).astype(np.uint8)


def sheet(shown: Sequence[Inspected], dataset: SegmentationDataset, alpha: float = 0.5) -> Picture:
    """A row for each: picture, truth and prediction laid over it, mistakes, confidence (white: 1); and a legend."""
    classes = dataset.classes
    rows = []
    for one in shown:
        laid = [overlay(one.image, ids, classes.palette, alpha) for ids in (one.truth, one.labels)]
        grey = np.repeat((255 * one.confidence[..., None]).astype(np.uint8), 3, axis=-1)
        rows.append([one.image, *laid, mistakes(one, classes.ignore_index), grey])
    pictures = panel(rows)
    ids = np.concatenate([part[part != classes.ignore_index] for one in shown for part in (one.truth, one.labels)])
    return beside(pictures, legend(class_shares(ids, len(classes)), classes.names, classes.palette, len(pictures)))
