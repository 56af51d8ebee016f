import numpy as np
import pytest

from segmenter_pl.data.shapes import CLASSES, ShapesDataset


def test_scenes_are_a_function_of_split_and_index():
    first, second = ShapesDataset("train"), ShapesDataset("train")
    second.read(4)
    for index in (0, 7, 511):
        for a, b in zip(first.read(index), second.read(index), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.read(0)[1], first.read(1)[1])
    assert not np.array_equal(first.read(0)[1], ShapesDataset("val").read(0)[1])
    assert (len(first), len(ShapesDataset("val"))) == (512, 64)
    assert len({first.name(index) for index in range(512)}) == 512


def test_scenes_hold_all_classes_in_the_stated_form():
    image, mask = ShapesDataset("val").read(0)
    assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((128, 128), np.uint8)
    masks = np.stack([ShapesDataset("train").read(index)[1] for index in range(100)])
    share = np.bincount(masks.ravel(), minlength=len(CLASSES)) / masks.size
    assert len(share) == len(CLASSES) == 6
    assert share.min() > 0.05
    assert min(len(np.unique(mask)) for mask in masks) >= 2


def test_unknown_split():
    with pytest.raises(ValueError, match=r"split='test'.*train, val"):
        ShapesDataset("test")


def test_colour_alone_is_a_poor_cue():
    """The best rule on single pixels: the most frequent class of each of 16x16x16 colour bins."""

    def bins_and_masks(split):
        dataset = ShapesDataset(split)
        for index in range(len(dataset)):
            image, mask = dataset.read(index)
            r, g, b = (image >> 4).astype(np.int64).transpose(2, 0, 1)
            yield (r * 16 + g) * 16 + b, mask

    k = len(CLASSES)
    histogram = np.zeros(16**3 * k, np.int64)
    for bins, mask in bins_and_masks("train"):
        histogram += np.bincount((bins * k + mask).ravel(), minlength=histogram.size)
    rule = histogram.reshape(-1, k).argmax(1)
    confusion = np.zeros((k, k), np.int64)
    for bins, mask in bins_and_masks("val"):
        confusion += np.bincount((mask * k + rule[bins]).ravel(), minlength=k * k).reshape(k, k)
    hits = confusion.diagonal()
    miou = (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean()
    assert 0.40 < miou < 0.60
