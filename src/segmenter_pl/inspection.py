"""Looking at what a model does on labelled pictures, one by one: scores, mistakes, how far its confidence can be
trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segmenter_pl.analysis.difference_maps import Outcome, outcomes, painted
from segmenter_pl.analysis.picture_scores import PictureScore
from segmenter_pl.checkpoint import blueprint_of, named
from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.metrics import CalibrationError
from segmenter_pl.predictor import Predictor
from segmenter_pl.visualize import Picture, beside, class_shares, legend, overlay, panel


@dataclass(frozen=True)
class Inspected:
    """A labelled picture as a model sees it.

    Attributes:
        image: (H, W, 3) uint8. truth, labels: class ids (H, W). confidence: probability (H, W) of the label, 0…1.
        score: what is right of it.
    """

    name: str
    image: Picture
    truth: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    score: PictureScore

    @property
    def miou(self) -> float:
        """Over the classes in truth or prediction, 0…1, NaN without a labelled pixel."""
        return self.score.miou

    @property
    def pixel_accuracy(self) -> float:
        """0…1, NaN without a labelled pixel."""
        return self.score.pixel_accuracy


def training_data(checkpoint: str | Path, **others: Any) -> tuple[str, SegmentationDataModule]:
    """The dataset that a model of ours was trained on: its name and its data module.

    Args:
        checkpoint: of a training, or an exported folder.
        others: settings of the dataset that are other here, e.g. root.
    Raises: FileNotFoundError; ValueError where the checkpoint cannot be read, or tells no dataset.
    """
    from omegaconf import OmegaConf

    from segmenter_pl.build import build_datamodule, safe_dataset

    with named(checkpoint):
        stored = dict(blueprint_of(checkpoint).info.get("config", {}).get("dataset", {}))
    if "_target_" not in stored:
        raise ValueError(f"{checkpoint} tells no dataset: give --dataset NAME")
    config = OmegaConf.create({"dataset": safe_dataset(stored | others), "seed": 0, "bad_sample": "fail"})
    return str(stored.get("name", "data")), build_datamodule(config)


def validation_set(checkpoint: str | Path, **others: Any) -> SegmentationDataset:
    """The validation pictures that a model of ours was chosen on. Arguments and errors as `training_data`."""
    return split_of(training_data(checkpoint, **others)[1], "val")


def split_of(datamodule: SegmentationDataModule, split: str) -> SegmentationDataset:
    """The whole pictures of a split. Raises: FileNotFoundError; ValueError for a split that there is not."""
    datamodule.eval_split = split
    datamodule.setup("validate")
    return datamodule.val_set


def inspect(predictor: Predictor, dataset: SegmentationDataset, index: int) -> Inspected:
    """Predict one picture of a dataset, and compare with its labels."""
    image, truth = dataset.read(index)
    labels, confidence = np.zeros(truth.shape, np.int64), np.zeros(truth.shape, np.float32)
    for rows, columns, probabilities in predictor.probability_tiles(image):
        best, ids = probabilities.max(-1)
        labels[rows, columns], confidence[rows, columns] = ids.cpu().numpy(), best.cpu().numpy()
    score = PictureScore.of(index, dataset.name(index), labels, truth, dataset.classes)
    return Inspected(score.name, image, truth, labels, confidence, score)


def survey(
    predictor: Predictor, dataset: SegmentationDataset, indices: Iterable[int]
) -> tuple[list[PictureScore], dict[str, torch.Tensor]]:
    """The scores of some pictures, the worst first, and their calibration as `metrics.CalibrationError` gives it."""
    scores, calibration = [], CalibrationError()
    for index in indices:
        one = inspect(predictor, dataset, index)
        valid = one.truth != dataset.classes.ignore_index
        hits = (one.labels == one.truth)[valid]
        calibration.update(torch.from_numpy(one.confidence[valid]), torch.from_numpy(hits))
        scores.append(one.score)
    return sorted(scores, key=lambda score: (np.nan_to_num(score.miou, nan=2.0), score.index)), calibration.compute()


def mistakes(one: Inspected, ignore_index: int = 255) -> Picture:
    """Where the prediction is wrong (red) and right (white), darkened by the picture; black has no label."""
    return painted(one.image, outcomes(one.labels, one.truth, ignore_index), Outcome)


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
