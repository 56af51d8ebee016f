"""Scores of single pictures, rankings, maps of differences and sheets, against hand-made arrays and brute force."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import ImageFont

from segmenter_pl.analysis import difference_maps as d
from segmenter_pl.analysis.figure import Figure, Look
from segmenter_pl.analysis.figure_sheet import Cell, figure, fitted, require_room, shortened
from segmenter_pl.analysis.gallery import Judged, Packed, judge, part_of, segmented, table_of
from segmenter_pl.analysis.gallery_sheets import class_file
from segmenter_pl.analysis.picture_scores import PictureScore, confusions, failures_first, together, worst_first
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, UnreadableError
from segmenter_pl.data.shapes import ShapesDataset
from segmenter_pl.pictures import PictureError
from segmenter_pl.visualize import overlay

NAMES = ("sky", "road", "car", "tree")
PALETTE = ((10, 20, 200), (128, 64, 128), (220, 20, 60), (0, 130, 0))
CLASSES = Classes(NAMES, PALETTE)
LOOK = Look(NAMES, PALETTE, 0.5, 40)


def drawn_labels(seed: int, ignored: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true ids (30, 40) of three of the four classes, a fifth of them not labelled."""
    rng = np.random.default_rng(seed)
    labels, truth = rng.integers(0, 3, (2, 30, 40), dtype=np.uint8)
    if ignored:
        truth[rng.random(truth.shape) < 0.2] = 255
    return labels, truth


def plainly(labels: np.ndarray, truth: np.ndarray, count: int) -> list[float]:
    """IoU by class, pixel by pixel."""
    ious = []
    for k in range(count):
        pairs = [(a == k, b == k) for a, b in zip(labels.flat, truth.flat, strict=True) if b != 255]
        union = sum(a or b for a, b in pairs)
        ious.append(sum(a and b for a, b in pairs) / union if union else math.nan)
    return ious


def score(index: int, hits: list[int], truth: list[int], predicted: list[int]) -> PictureScore:
    return PictureScore(index, f"p{index}", *(np.array(one, np.int64) for one in (hits, truth, predicted)))


# Scores


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_brute_force(seed: int) -> None:
    labels, truth = drawn_labels(seed, ignored=seed > 0)
    one = PictureScore.of(7, "a", labels, truth.astype(np.int16 if seed == 2 else np.uint8), CLASSES)
    expected = plainly(labels, truth, 4)
    np.testing.assert_array_equal(one.iou, expected)  # NaN for the fourth class, which does not occur
    assert (one.index, one.name, one.miou) == (7, "a", np.nanmean(expected))
    assert one.pixel_accuracy == (labels == truth)[truth != 255].mean()
    assert one.truth.sum() == (truth != 255).sum()


def test_all_pictures_together_count_pixels_and_not_pictures() -> None:
    pairs = [drawn_labels(seed) for seed in range(3)]
    whole = together([PictureScore.of(i, str(i), *pair, CLASSES) for i, pair in enumerate(pairs)])
    labels, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    assert whole.miou == np.nanmean(plainly(labels, truth, 4))


def test_a_picture_without_a_labelled_pixel_has_no_score() -> None:
    one = PictureScore.of(0, "a", np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), CLASSES)
    assert math.isnan(one.miou)
    assert math.isnan(one.pixel_accuracy)
    assert np.isnan(one.iou).all()
    assert worst_first([one]) == []
    assert failures_first([one], 0) == []
    with pytest.raises(ValueError, match="prediction is"):
        PictureScore.of(0, "a", np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), CLASSES)


def test_the_worst_come_first_and_the_first_of_equals() -> None:
    scores = [score(i, [hits], [4], [4]) for i, hits in ((0, 3), (3, 1), (1, 4), (2, 1))]
    assert [one.index for one in worst_first(scores)] == [2, 3, 0, 1]


def test_failures_of_a_class_are_ranked_by_its_iou_where_it_can_be_seen() -> None:
    """Pictures of 1000 labelled pixels; the class is the second."""
    scores = [
        score(0, [900, 50], [900, 100], [900, 50]),  # IoU 0.5
        score(1, [1000, 0], [1000, 0], [1000, 0]),  # it does not occur
        score(2, [900, 100], [900, 100], [900, 100]),  # wholly right
        score(3, [990, 0], [990, 10], [1000, 0]),  # missed, 10 pixels
        score(4, [980, 0], [1000, 0], [980, 20]),  # false alarms alone, 20 pixels
        score(5, [996, 0], [996, 4], [1000, 0]),  # missed, but less than 0.5 %
        score(6, [880, 20], [900, 100], [960, 40]),  # IoU 20 / 120
    ]
    assert [one.index for one in failures_first(scores, 1)] == [4, 3, 6, 0, 5]


def test_confusions_of_a_class_by_hand() -> None:
    truth = np.array([[2, 2, 2, 2, 0, 0, 1, 255]], np.uint8)
    labels = np.array([[0, 0, 1, 2, 2, 2, 2, 2]], np.uint8)
    missed, false = confusions(labels, truth, 2, CLASSES)
    assert missed == [("sky", 0.5), ("road", 0.25)]
    assert false == [("sky", 0.5), ("road", 0.25)]  # of four labelled pixels, one of them right
    assert confusions(labels, truth, 3, CLASSES) == ([], [])


# Maps


TRUTH = np.array([[0, 0, 1, 1, 2, 255]], np.uint8)
FIRST = np.array([[0, 1, 1, 0, 0, 0]], np.uint8)
SECOND = np.array([[0, 0, 0, 0, 2, 1]], np.uint8)


def meant(codes: np.ndarray, kind: type[d.Kind]) -> list[str]:
    return [list(kind)[code].name for code in codes[0]]


def test_maps_by_hand() -> None:
    assert meant(d.outcomes(FIRST, TRUTH, 255), d.Outcome) == ["RIGHT", "WRONG", "RIGHT", "WRONG", "WRONG", "IGNORED"]
    assert meant(d.detections(FIRST, TRUTH, 0, 255), d.Detection) == [
        *("FOUND", "MISSED", "ELSEWHERE", "FALSE", "FALSE", "IGNORED")
    ]
    assert meant(d.duels(FIRST, SECOND, TRUTH, 255), d.Duel) == [
        *("RIGHT", "SECOND", "FIRST", "WRONG", "SECOND", "IGNORED")
    ]
    assert meant(d.agreements(FIRST, SECOND), d.Agreement) == ["SAME", "OTHER", "OTHER", "SAME", "OTHER", "OTHER"]


def test_shares_are_of_labelled_pixels() -> None:
    assert d.share(d.outcomes(FIRST, TRUTH, 255), d.Outcome.WRONG) == 3 / 5
    assert d.share(d.duels(FIRST, SECOND, TRUTH, 255), d.Duel.SECOND) == 2 / 5
    assert d.share(d.agreements(FIRST, SECOND), d.Agreement.OTHER) == 4 / 6
    assert math.isnan(d.share(np.full((1, 2), 2, np.uint8), d.Outcome.WRONG))


def test_colours_of_a_map_are_darkened_by_the_picture() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 5, 3), dtype=np.uint8)  # more rows than are painted at a time
    codes = rng.integers(0, 3, (300, 5), dtype=np.uint8)
    shown = d.painted(image, codes, d.Outcome)
    for y, x in ((0, 0), (255, 4), (256, 0), (299, 2)):
        light = 0.5 + 0.5 * image[y, x].mean() / 255
        color = np.array(list(d.Outcome)[codes[y, x]].color)
        np.testing.assert_array_equal(shown[y, x], (color * light).astype(np.uint8))


# Sheets


def test_pictures_are_brought_to_one_side() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    small = fitted(picture, 20)
    means = picture.reshape(10, 2, 20, 2, 3).mean((1, 3))
    assert np.abs(small - means).max() <= 1
    np.testing.assert_array_equal(fitted(picture, 80), picture.repeat(2, 0).repeat(2, 1))
    assert fitted(picture, 40) is picture
    assert fitted(picture.transpose(1, 0, 2), 20).shape == (20, 10, 3)
    assert fitted(np.zeros((1, 400, 3), np.uint8), 20).shape == (1, 20, 3)


def find(page: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Where a picture stands on a page: (y, x)."""
    corner = np.argwhere((page == picture[0, 0]).all(-1)).tolist()
    height, width = picture.shape[:2]
    return [(y, x) for y, x in corner if np.array_equal(page[y : y + height, x : x + width], picture)]


def test_a_sheet_has_its_cells_in_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    wide = [rng.integers(1, 200, (20, 40, 3), dtype=np.uint8) for _ in range(3)]
    tall = [rng.integers(1, 200, (40, 30, 3), dtype=np.uint8) for _ in range(2)]
    rows = [[Cell(one, "caption") for one in wide], [Cell(tall[0]), None, Cell(tall[1])]]
    page = figure(["a", "b", "c"], rows, [[("sky", (1, 2, 3))], []], 40)
    places = [find(page, picture) for picture in (*wide, *tall)]
    assert all(len(place) == 1 for place in places)
    (y0, x0), (y1, x1), (y2, x2), (y3, x3), (y4, x4) = (place[0] for place in places)
    assert (y0, y1, y3) == (y2, y0, y4)
    assert x1 - x0 == x2 - x1 == 40 + x0
    assert (x3, x4) == (x0, x2)
    assert y3 >= y0 + 20
    assert (page[y3 : y3 + 40, x1 : x1 + 40] == 255).all()  # the empty place
    assert ((page[y3 + 40 :] == (1, 2, 3)).all(-1)).any()  # the key, below everything
    titled = figure(["a", "b", "c"], rows, [[("sky", (1, 2, 3))]], 40, title="all of them")
    assert len(titled) > len(page)


def test_texts_are_shortened_in_the_middle() -> None:
    font = ImageFont.load_default(12)
    text = "frankfurt/frankfurt_000001_007973_leftImg8bit"
    assert shortened(text, font, 1000) == text
    short = shortened(text, font, 100)
    assert font.getlength(short) <= 100
    assert short.startswith("frank")
    assert short.endswith("Img8bit"[-4:])
    assert "…" in short
    assert shortened(text, font, 3) == ""


def test_sheets_that_are_too_large_are_refused() -> None:
    require_room(6, 5, 480)
    with pytest.raises(ValueError, match=r"500 rows of 5 pictures of 480 pixels are too many .*, at most \d+ fit"):
        require_room(500, 5, 480)
    with pytest.raises(ValueError, match="20 pictures of 5000 pixels side by side are too many"):
        require_room(1, 20, 5000)


def keyed(monkeypatch: pytest.MonkeyPatch, made: Figure) -> list[list[str]]:
    """The texts of a figure's key."""
    seen: list[Any] = []
    monkeypatch.setattr("segmenter_pl.analysis.figure.figure", lambda *words: seen.append(words))
    made.drawn()
    return [[text for text, _ in entries] for entries in seen[0][2]]


def test_the_key_has_what_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((4, 6, 3), 200, np.uint8)
    made = Figure(["a", "b"], LOOK)
    labels = np.array([[0, 0, 3, 3, 255, 0]] * 4, np.uint8)
    cell = made.labelled(image, labels)
    np.testing.assert_array_equal(cell.picture, fitted(overlay(image, labels, PALETTE, 0.5), 40))
    assert keyed(monkeypatch, made) == [["sky", "tree", "no label"]]
    made.mapped(image, d.outcomes(np.zeros_like(labels), labels, 255), d.Outcome)
    assert keyed(monkeypatch, made) == [["sky", "tree"], ["right", "wrong", "no label"]]  # told once


def test_files_of_classes_have_plain_names() -> None:
    names = [f"class {k}" for k in range(12)]
    names[3] = "door; double door / gate" + 40 * "x"
    assert class_file(11, names) == "11_class-11.jpg"
    assert class_file(3, names) == "03_door-double-door-gatexxxxxxxxxxx.jpg"


# A split


class Listed(SegmentationDataset):
    """Pictures in memory, or what is raised in their place."""

    def __init__(self, samples: list[Any]) -> None:
        super().__init__(CLASSES)
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        return f"p{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return self.samples[index]


def predictor_of(segment: Callable[[np.ndarray], np.ndarray]) -> Any:
    return SimpleNamespace(segment=segment)


def test_a_split_is_judged_and_what_cannot_be_read_is_told() -> None:
    labels, truth = drawn_labels(0)
    image = np.repeat(labels[..., None], 3, -1)
    samples = [(image, truth), UnreadableError("b.jpg is damaged"), (image[:2], truth[:2]), (image, truth)]

    def segment(picture: np.ndarray) -> np.ndarray:
        if len(picture) == 2:
            raise PictureError("is too long")
        return picture[..., 0]

    steps: list[int] = []
    judged, failures = judge([predictor_of(segment), predictor_of(lambda p: truth)], Listed(samples), steps.append)
    assert failures == ["b.jpg is damaged", "p2: is too long"]
    assert steps == [1, 1, 1, 1]
    assert [one.name for one in judged] == ["p0", "p3"]
    for one in judged:
        np.testing.assert_array_equal(one.packed[0].labels(), labels)
        assert one.gain == 1 - np.nanmean(plainly(labels, truth, 4))
    with pytest.raises(ValueError, match=r"none of the 1 pictures can be read: b\.jpg is damaged"):
        judge([predictor_of(segment)], Listed(samples[1:2]))


def test_labels_are_kept_as_they_are() -> None:
    for dtype, high in ((np.uint8, 256), (np.int16, 400)):
        labels = np.random.default_rng(0).integers(0, high, (9, 7)).astype(dtype)
        for one in (labels, labels.T):
            kept = Packed.of(one).labels()
            np.testing.assert_array_equal(kept, one)
            assert kept.dtype == dtype


def test_too_little_memory_names_the_picture_and_bugs_stay() -> None:
    def fail(message: str) -> Any:
        def segment(_: np.ndarray) -> np.ndarray:
            raise RuntimeError(message)

        return predictor_of(segment)

    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match=r"p0: the memory does not suffice for 6x4 pixels: leave out --multiscale"):
        segmented(fail("CUDA out of memory"), image, "p0")
    with pytest.raises(RuntimeError, match="a bug"):
        segmented(fail("a bug"), image, "p0")


def test_the_table_has_nothing_where_there_is_no_number() -> None:
    labels, truth = drawn_labels(1)
    first = PictureScore.of(0, "a", labels, truth, CLASSES)
    second = PictureScore.of(0, "a", truth.clip(0, 2), truth, CLASSES)
    (row,) = table_of([Judged((first, second), ())], CLASSES)
    ious = plainly(labels, truth, 4)
    assert row == {
        "name": "a",
        "labelled_pixels": int((truth != 255).sum()),
        "miou": np.nanmean(ious),
        "pixel_accuracy": first.pixel_accuracy,
        "against_miou": 1.0,
        "gain": 1 - np.nanmean(ious),
        **{f"iou/{name}": value for name, value in zip(NAMES[:3], ious[:3], strict=True)},
        "iou/tree": None,
    }


def test_a_part_of_a_split_is_the_one_of_an_evaluation() -> None:
    whole = ShapesDataset("val")
    assert part_of(whole, 1) is whole
    names = [{one.name(i) for i in range(len(one))} for one in (part_of(whole, 0.1), part_of(whole, 0.5))]
    assert [len(one) for one in names] == [6, 32]
    assert names[0] < names[1]
    assert len(part_of(whole, 1e-9)) == 1
