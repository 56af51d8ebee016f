"""The work of `segmenter compare`: pictures by several models, with or without their truth, on one sheet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.analysis.difference_maps import Agreement, Outcome, agreements, outcomes, share
from segmenter_pl.analysis.figure import Figure, Look
from segmenter_pl.analysis.figure_sheet import Cell
from segmenter_pl.analysis.gallery import segmented
from segmenter_pl.analysis.picture_scores import PictureScore
from segmenter_pl.commands.written import Style
from segmenter_pl.data.classes import Classes
from segmenter_pl.predictor import Predictor
from segmenter_pl.visualize import Picture

Ids = NDArray[np.integer]


@dataclass(frozen=True)
class Source:
    """A picture by its name; `read` gives it (H, W, 3), and its true class ids (H, W) or None."""

    name: str
    read: Callable[[], tuple[Picture, Ids | None]]


def columns(labels: Sequence[str], *, truth: bool) -> list[str]:
    """Headings of the sheet."""
    return ["Picture", *(["Truth"] if truth else []), *labels]


def look_of(models: Sequence[tuple[str, Predictor]], classes: Classes | None, alpha: float, side: int) -> Look:
    """Names and colours of the truth, else of the first model that knows them."""
    if classes is not None:
        return Look(classes.names, classes.palette, alpha, side)
    specs = [getattr(one.model, "spec", None) for _, one in models]
    known = next((i for i, spec in enumerate(specs) if spec and spec.classes), 0)
    style = Style.of(models[known][1])
    return Look(style.names, style.palette, alpha, side)


def compared(
    sources: Sequence[Source],
    models: Sequence[tuple[str, Predictor]],
    classes: Classes | None,
    look: Look,
    *,
    difference: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> Picture:
    """A row for each picture: itself, its truth, what each model makes of it.

    Args:
        models: with their headings. classes: of the truth; None where there is none.
        difference: a second row for each picture, of mistakes, or without a truth of what the first model calls
            something else.
        advance: called with 1 after each picture.
    """
    figure = Figure(columns([label for label, _ in models], truth=classes is not None), look)
    for source in sources:
        image, truth = source.read()
        predictions = [segmented(predictor, image, source.name) for _, predictor in models]
        head = [figure.photo(image, source.name)]
        captions = [""] * len(models)
        if truth is not None and classes is not None:
            head.append(figure.labelled(image, truth))
            captions = [_score(labels, truth, classes) for labels in predictions]
        pairs = zip(predictions, captions, strict=True)
        figure.add(*head, *(figure.labelled(image, labels, caption) for labels, caption in pairs))
        if difference:
            maps = _maps(figure, image, predictions, truth, classes)
            figure.add(*[None] * (len(figure.headings) - len(maps)), *maps)
        advance(1)
    return figure.drawn()


def _score(labels: Ids, truth: Ids, classes: Classes) -> str:
    miou = PictureScore.of(0, "", labels, truth, classes).miou
    return f"mIoU {miou:.3f}" if miou == miou else "no pixel has a label"


def _maps(
    figure: Figure, image: Picture, predictions: Sequence[Ids], truth: Ids | None, classes: Classes | None
) -> list[Cell]:
    """Mistakes of each model; without a truth, where each further one differs from the first."""
    maps = []
    if truth is not None and classes is not None:
        for labels in predictions:
            codes = outcomes(labels, truth, classes.ignore_index)
            wrong = share(codes, Outcome.WRONG)
            maps.append(figure.mapped(image, codes, Outcome, f"{100 * wrong:.1f} % of the pixels are wrong"))
        return maps
    for labels in predictions[1:]:
        codes = agreements(predictions[0], labels)
        other = share(codes, Agreement.OTHER)
        maps.append(figure.mapped(image, codes, Agreement, f"{100 * other:.1f} % differ from {figure.headings[1]}"))
    return maps
