"""The work of `segmenter gallery`: from scores to sheets to files."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from segmenter_pl.analysis.attention_queries import find_class
from segmenter_pl.analysis.figure import Look
from segmenter_pl.analysis.figure_sheet import require_room
from segmenter_pl.analysis.formats import csv_text
from segmenter_pl.analysis.gallery import Judged, judge, table_of
from segmenter_pl.analysis.gallery_sheets import class_file, class_sheet, duel_sheet, ranked_sheet
from segmenter_pl.analysis.picture_scores import PictureScore, failures_first, together, worst_first
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.files import fresh, write_atomically
from segmenter_pl.predictor import Predictor
from segmenter_pl.prepare.progress import progress
from segmenter_pl.visualize import Picture

COLUMNS = 5  # of the widest sheet


class Gallery:
    """One model or two, labelled pictures, and how their sheets are to be.

    Args:
        models: with their checkpoints' paths. where: the pictures, for titles.
        wanted: names or numbers of classes; all where none is named. count: pictures on each sheet.
        alpha, side: as `Look`.

    Raises: ValueError for a class that there is not, or sheets that are too large.
    """

    def __init__(
        self,
        models: Sequence[tuple[str, Predictor]],
        pictures: SegmentationDataset,
        where: str,
        *,
        wanted: Sequence[str],
        count: int,
        alpha: float,
        side: int,
    ) -> None:
        self.models, self.predictors = [Path(path) for path, _ in models], [predictor for _, predictor in models]
        self.pictures, self.where, self.count = pictures, where, count
        names = pictures.classes.names
        self.numbers = list(dict.fromkeys(find_class(word, names) for word in wanted)) or list(range(len(names)))
        self.look = Look(names, pictures.classes.palette, alpha, side)
        require_room(min(count, len(pictures)), COLUMNS, side)

    def write(self, out: Path) -> tuple[str, list[str]]:
        """Predict all pictures, write everything into a folder; returns what to say, and what was left out."""
        with progress("pictures", len(self.pictures), files=True) as advance:
            judged, failures = judge(self.predictors, self.pictures, advance)
        write_atomically(out / "pictures.csv", csv_text(table_of(judged, self.pictures.classes)).encode())
        sheets = dict(self._sheets(judged))
        with progress("sheets", len(sheets), files=True) as advance:
            for name, drawn in sheets.items():
                with fresh(out / name) as temporary:
                    Image.fromarray(drawn()).save(temporary, quality=92)
                advance(1)
        number = f"{len(judged)} picture{'s'[: len(judged) != 1]} of {self.where}"
        mious = [f"{together([one.scores[i] for one in judged]).miou:.4f}" for i in range(len(self.predictors))]
        return f"{number}, mIoU {', '.join(mious)}, {len(sheets)} sheets", failures

    def _sheets(self, judged: Sequence[Judged]) -> Iterator[tuple[str, Callable[[], Picture]]]:
        """File names, and what draws each."""
        by_index = {one.scores[0].index: one for one in judged}

        def first(scores: Sequence[PictureScore]) -> list[Judged]:
            return [by_index[score.index] for score in scores[: self.count]]

        scores = [one.scores[0] for one in judged]
        overall, ranked = together(scores), worst_first(scores)
        everything = f"{len(judged)} pictures of {self.where}"
        if not ranked:
            raise ValueError(f"no pixel of the {everything} has a label: there is nothing to compare with")
        for name, chosen in (("worst", ranked), ("best", ranked[::-1])):
            title = f"The {name} of {everything}, by the mIoU of each; of all together it is {overall.miou:.3f}"
            yield f"{name}.jpg", partial(ranked_sheet, first(chosen), self.pictures, self.look, title)
        for number in self.numbers:
            if failing := first(failures_first(scores, number)):
                name = self.look.names[number]
                title = f"Failures of {name}, whose IoU over {everything} is {overall.iou[number]:.3f}"
                draw = partial(class_sheet, failing, number, self.pictures, self.look, title)
                yield f"classes/{class_file(number, self.look.names)}", draw
        if len(self.predictors) > 1:
            for name, sign in (("better", 1), ("worse", -1)):
                duels = [one for one in judged if sign * one.gain > 0]
                if duels := sorted(duels, key=lambda one: (-sign * one.gain, one.name))[: self.count]:
                    title = f"Where the second model is {name} than the first by the most, of {everything}"
                    draw = partial(duel_sheet, duels, told_apart(*self.models), self.pictures, self.look, title)
                    yield f"against_{name}.jpg", draw


def told_apart(first: Path, second: Path) -> tuple[str, str]:
    """Two paths without the folders, and without the ends, that they share; numbered as first and second."""
    one, other = (list(path.absolute().parts) for path in (first, second))
    for end in (0, -1):
        while min(len(one), len(other)) > 1 and one[end] == other[end]:
            del one[end], other[end]
    return f"1: {'/'.join(one)}", f"2: {'/'.join(other)}"
