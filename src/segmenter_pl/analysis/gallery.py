"""A labelled split under one model or two: the scores of every picture, and its predictions for the sheets."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.analysis.picture_scores import PictureScore
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, Subset, UnreadableError
from segmenter_pl.data.sampling import train_subset
from segmenter_pl.memory import is_out_of_memory
from segmenter_pl.pictures import RGB, PictureError
from segmenter_pl.predictor import Labels, Predictor


@dataclass(frozen=True)
class Packed:
    """Class ids (H, W), compressed: those of 2000 pictures of ADE20K take some 30 MB."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: bytes

    @classmethod
    def of(cls, labels: Labels) -> "Packed":
        """To keep."""
        return cls(labels.shape, labels.dtype, zlib.compress(labels.tobytes(), level=1))

    def labels(self) -> NDArray[np.integer]:
        """As they were."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Judged:
    """A picture of a dataset under one model or two: a score and the predicted class ids for each."""

    scores: tuple[PictureScore, ...]
    packed: tuple[Packed, ...]

    @property
    def name(self) -> str:
        """In the dataset."""
        return self.scores[0].name

    @property
    def gain(self) -> float:
        """mIoU of the second model above the first one's."""
        return self.scores[1].miou - self.scores[0].miou


def judge(
    predictors: Sequence[Predictor], dataset: SegmentationDataset, advance: Callable[[int], None] = lambda _: None
) -> tuple[list[Judged], list[str]]:
    """Predict every picture with every model, and compare with its labels.

    Returns: what could be read, and why the rest could not. `advance(1)` is called after each picture.
    Raises: ValueError where none could, or the memory does not suffice.
    """
    judged, failures = [], []
    for index in range(len(dataset)):
        name = dataset.name(index)
        try:
            image, truth = dataset.read(index)
            predictions = [segmented(predictor, image, name) for predictor in predictors]
        except UnreadableError as error:
            failures.append(str(error))
        except PictureError as error:
            failures.append(f"{name}: {error}")
        else:
            scores = (PictureScore.of(index, name, labels, truth, dataset.classes) for labels in predictions)
            judged.append(Judged(tuple(scores), tuple(map(Packed.of, predictions))))
        advance(1)
    if not judged:
        raise ValueError(f"none of the {len(dataset)} pictures can be read: {failures[0]}")
    return judged, failures


def segmented(predictor: Predictor, image: RGB, name: str) -> Labels:
    """Class ids (H, W). Raises: PictureError as `Predictor.segment`; ValueError where the memory does not suffice."""
    try:
        return predictor.segment(image)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{name}: the memory does not suffice for {image.shape[1]}x{image.shape[0]} pixels: leave out "
            "--multiscale, or give a smaller --short-side"
        ) from error


def part_of(dataset: SegmentationDataset, fraction: float) -> SegmentationDataset:
    """A random part of a dataset, the one that `eval.py fraction=…` takes; at least one picture."""
    if fraction == 1:
        return dataset
    return Subset(dataset, train_subset(len(dataset), max(round(fraction * len(dataset)), 1)))


def table_of(judged: Sequence[Judged], classes: Classes) -> list[dict[str, Any]]:
    """A row for each picture, for a CSV file: scores, IoU by class, and of a second model mIoU and its gain."""
    table = []
    for one in judged:
        score = one.scores[0]
        row: dict[str, Any] = {
            "name": one.name,
            "labelled_pixels": int(score.truth.sum()),
            "miou": _number(score.miou),
            "pixel_accuracy": _number(score.pixel_accuracy),
        }
        if len(one.scores) > 1:
            row |= {"against_miou": _number(one.scores[1].miou), "gain": _number(one.gain)}
        ious = zip(classes.names, score.iou.tolist(), strict=True)
        table.append(row | {f"iou/{name}": _number(iou) for name, iou in ious})
    return table


def _number(value: float) -> float | None:
    """Nothing in place of NaN."""
    return value if value == value else None
