"""The sheets of `segmenter gallery`: best and worst pictures, failures of a class, two models against each other."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.analysis.difference_maps import Detection, Duel, Outcome, detections, duels, outcomes, share
from segmenter_pl.analysis.figure import Figure, Look
from segmenter_pl.analysis.gallery import Judged
from segmenter_pl.analysis.picture_scores import confusions
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.visualize import LONGEST_NAME, Picture

TOLD = 2  # classes that a class was confused with
LEAST = 0.005  # share from which on they are told

Ids = NDArray[np.integer]


def ranked_sheet(chosen: Sequence[Judged], dataset: SegmentationDataset, look: Look, title: str) -> Picture:
    """Picture, truth, prediction and mistakes of each."""
    figure = Figure(("Picture", "Truth", "Prediction", "Mistakes"), look, title)
    for one, image, truth, (labels,) in _seen(chosen, dataset, models=1):
        score = one.scores[0]
        codes = outcomes(labels, truth, dataset.classes.ignore_index)
        figure.add(
            figure.photo(image, one.name),
            figure.labelled(image, truth),
            figure.labelled(image, labels, f"mIoU {score.miou:.3f}"),
            figure.mapped(image, codes, Outcome, f"{100 * (1 - score.pixel_accuracy):.1f} % of the pixels are wrong"),
        )
    return figure.drawn()


def class_sheet(chosen: Sequence[Judged], number: int, dataset: SegmentationDataset, look: Look, title: str) -> Picture:
    """Picture, truth, prediction, and where a class is found, missed or falsely alarmed; what it is confused with."""
    classes = dataset.classes
    figure = Figure(("Picture", "Truth", "Prediction", classes.names[number]), look, title)
    for one, image, truth, (labels,) in _seen(chosen, dataset, models=1):
        missed, false = confusions(labels, truth, number, classes)
        codes = detections(labels, truth, number, classes.ignore_index)
        figure.add(
            figure.photo(image, one.name),
            figure.labelled(image, truth, _told("taken for", missed)),
            figure.labelled(image, labels, _told("false alarms on", false)),
            figure.mapped(image, codes, Detection, f"IoU {one.scores[0].iou[number]:.3f}"),
        )
    return figure.drawn()


def duel_sheet(
    chosen: Sequence[Judged], models: tuple[str, str], dataset: SegmentationDataset, look: Look, title: str
) -> Picture:
    """Picture, truth, the predictions of two named models, and where only one of them is right."""
    figure = Figure(("Picture", "Truth", *models, "Difference"), look, title)
    for one, image, truth, (first, second) in _seen(chosen, dataset, models=2):
        codes = duels(first, second, truth, dataset.classes.ignore_index)
        won, lost = (100 * share(codes, kind) for kind in (Duel.SECOND, Duel.FIRST))
        figure.add(
            figure.photo(image, one.name),
            figure.labelled(image, truth),
            figure.labelled(image, first, f"mIoU {one.scores[0].miou:.3f}"),
            figure.labelled(image, second, f"mIoU {one.scores[1].miou:.3f} ({one.gain:+.3f})"),
            figure.mapped(image, codes, Duel, f"{won:.1f} % of the pixels won, {lost:.1f} % lost"),
        )
    return figure.drawn()


def class_file(number: int, names: Sequence[str]) -> str:
    """Name of a class's sheet: its number, as long as the highest, and what a file can be called of its name."""
    plain = re.sub(r"[^\w.-]+", "-", names[number])[:LONGEST_NAME]
    return f"{number:0{len(str(len(names) - 1))}}_{plain}.jpg"


def _seen(
    chosen: Sequence[Judged], dataset: SegmentationDataset, models: int
) -> Iterator[tuple[Judged, Picture, Ids, list[Ids]]]:
    """Each with its picture, truth and the predictions of the first models."""
    for one in chosen:
        image, truth = dataset.read(one.scores[0].index)
        yield one, image, truth, [packed.labels() for packed in one.packed[:models]]


def _told(what: str, others: Sequence[tuple[str, float]]) -> str:
    """Names and shares of the most frequent, or ""."""
    shown = [f"{name} {100 * share:.0f} %" for name, share in others[:TOLD] if share >= LEAST]
    return f"{what} {', '.join(shown)}" if shown else ""
