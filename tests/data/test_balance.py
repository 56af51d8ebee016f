"""Class counts, weights and the order for rare classes, against closed forms."""

from collections import Counter

import numpy as np
import pytest

from segmenter_pl.data.balance import CLASS_WEIGHTS, RareClasses, class_counts, inverse_log, median_frequency
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, UnreadableError
from segmenter_pl.data.transforms import train_transform

ABC = Classes(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


class Masks(SegmentationDataset):
    """Pictures of grey with given masks; `None` cannot be read."""

    def __init__(self, masks):
        super().__init__(ABC)
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def read(self, index):
        if self.masks[index] is None:
            raise UnreadableError(f"{index} is damaged")
        mask = np.array(self.masks[index], np.uint8)
        return np.full((*mask.shape, 3), 100, np.uint8), mask

    def name(self, index):
        return str(index)


def test_counts_leave_ignored_pixels_out():
    dataset = Masks([[[0, 0, 1, 255]], [[255, 255, 2, 2]], [[255, 255, 255, 255]]])
    for threads in (0, 3):
        np.testing.assert_array_equal(class_counts(dataset, threads), [[2, 1, 0], [0, 0, 2], [0, 0, 0]])


def test_unreadable_labels_follow_the_setting():
    dataset = Masks([[[0, 1]], None])
    with pytest.raises(UnreadableError, match="1 is damaged"):
        class_counts(dataset)
    dataset.bad_sample = "skip"
    np.testing.assert_array_equal(class_counts(dataset), [[1, 1, 0], [0, 0, 0]])


def test_weights_in_closed_form():
    counts = np.array([[60, 20, 0, 0], [30, 0, 10, 0], [0, 0, 0, 0]])
    # Shares where a class occurs: a 90 of 120, b 20 of 80, c 10 of 40; the fourth never occurs.
    share = np.array([90 / 120, 20 / 80, 10 / 40])
    np.testing.assert_allclose(median_frequency(counts), [*(0.25 / share), 1.0])
    np.testing.assert_allclose(inverse_log(counts), 1 / np.log(1.02 + np.array([90, 20, 10, 0]) / 120))
    assert 1.4 < inverse_log(np.array([[1, 0]]))[0] < 1.5
    assert 50 < inverse_log(np.array([[1, 0]]))[1] < 51
    assert set(CLASS_WEIGHTS) == {"median_frequency", "inverse_log"}


def test_rare_classes_are_drawn_by_the_formula():
    counts = np.array([[90, 0, 0], [80, 20, 0], [0, 0, 10]])
    order = RareClasses(counts, seed=0, temperature=0.5)
    share = counts.sum(0) / 200
    odds = np.exp((1 - share) / 0.5)
    draws = [order(position) for position in range(20000)]
    classes = Counter(k for _, _, k in draws)
    for k in range(3):
        expected = odds[k] / odds.sum()
        assert classes[k] / len(draws) == pytest.approx(expected, abs=4 * np.sqrt(expected / len(draws)))
    assert all(counts[index, k] > 0 for _, index, k in draws)
    of_first = Counter(index for _, index, k in draws if k == 0)  # two pictures hold it
    assert of_first[0] / classes[0] == pytest.approx(0.5, abs=0.02)


def test_draws_depend_on_seed_and_position_alone():
    counts = np.array([[5, 1], [3, 0], [0, 2]])
    order = RareClasses(counts, seed=3, temperature=0.1)
    forwards = [order(position) for position in range(50)]
    assert forwards == [RareClasses(counts, 3, 0.1)(position) for position in reversed(range(50))][::-1]
    assert [position for position, _, _ in forwards] == list(range(50))
    assert forwards != [RareClasses(counts, 4, 0.1)(position) for position in range(50)]


def test_a_small_temperature_leaves_frequent_classes_out():
    counts = np.array([[98, 1, 1]])
    classes = {RareClasses(counts, 0, 0.01)(position)[2] for position in range(500)}
    assert classes == {1, 2}


def test_senseless_settings_are_named():
    with pytest.raises(ValueError, match=r"dataset.rare_temperature=0: give a number above 0"):
        RareClasses(np.ones((1, 2), int), 0, 0)
    with pytest.raises(ValueError, match=r"dataset.sampling=rare: no training picture has a labelled pixel"):
        RareClasses(np.zeros((2, 2), int), 0, 0.1)


@pytest.mark.parametrize("scale", [None, 40])
def test_crops_hold_the_class_that_was_drawn(scale):
    """One pixel of class c in a large picture: a plain crop nearly never holds it."""
    rng = np.random.default_rng(0)
    mask = np.where(np.add.outer(np.arange(120) // 8, np.arange(160) // 8) % 2, 1, 0)
    masks = []
    for _ in range(20):
        y, x = int(rng.integers(0, 117)), int(rng.integers(0, 157))
        masks.append(mask.copy())
        masks[-1][y : y + 3, x : x + 3] = 2
    dataset = Masks(masks)
    dataset.transform = train_transform(16, scale, 4.0, (3.0, 3.0), 0.75, False, (0, 0, 0), 255)
    plain = sum((dataset[0, index]["mask"] == 2).any().item() for index in range(20))
    wanted = [dataset[7, index, 2]["mask"] for index in range(20)]
    assert plain <= 4
    assert all((crop == 2).any() for crop in wanted)
    assert all((crop == 1).any() for crop in wanted)  # the rule about one class that fills the crop holds as well
    places = {tuple(np.argwhere(crop.numpy() == 2)[0]) for crop in wanted}
    assert len(places) > 10  # anywhere in the crop, not in its middle
