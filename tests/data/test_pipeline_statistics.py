"""Scale, place, flip and colour have the distribution of MMSegmentation's steps, re-stated plainly here.

What was drawn is recovered from the pixels that come out. Seeds are fixed; a p-value below LEAST is a difference.
"""

import cv2
import numpy as np
import pytest
from scipy import stats

from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.data.transforms import train_transform

DRAWS, COLOUR_DRAWS = 1500, 4000
LEAST = 1e-3
CROP, SHORT, MAX_RATIO = 48, 96, 4.0
HEIGHT, WIDTH = 96, 144
IGNORE = 255


class OnePicture(SegmentationDataset):
    """The same picture in every epoch, through the augmentations of a training."""

    def __init__(self, image, mask, crop, short_side, photometric):
        super().__init__(Classes(tuple("abcdef"), ((0, 0, 0),) * 6))
        self.image, self.picture_mask = image, mask
        self.transform = train_transform(
            crop, short_side, MAX_RATIO, (0.5, 2.0), 0.75, photometric, (0, 0, 0), self.classes.ignore_index
        )

    def __len__(self):
        return 1

    def read(self, index):
        return self.image, self.picture_mask

    def name(self, index):
        return "one"


def ours(image, mask, draws, crop=CROP, short_side=SHORT, photometric=False):
    dataset = OnePicture(image, mask, crop, short_side, photometric)
    samples = [dataset[(epoch, 0)] for epoch in range(draws)]
    return [(sample["image"].permute(1, 2, 0).numpy(), sample["mask"].numpy()) for sample in samples]


def convert(values, alpha=1.0, beta=0.0):
    return np.clip(values.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def distorted(bgr, draw):
    """PhotoMetricDistortion of mmseg 0.14, with its draws in its order."""
    if draw.randint(2):
        bgr = convert(bgr, beta=draw.uniform(-32, 32))
    contrast_first = draw.randint(2) == 1
    if contrast_first and draw.randint(2):
        bgr = convert(bgr, alpha=draw.uniform(0.5, 1.5))
    if draw.randint(2):
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[:, :, 1] = convert(hsv[:, :, 1], alpha=draw.uniform(0.5, 1.5))
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if draw.randint(2):
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + draw.randint(-18, 18)) % 180
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and draw.randint(2):
        bgr = convert(bgr, alpha=draw.uniform(0.5, 1.5))
    return bgr


def placed(bgr, mask, draw):
    """Resize, RandomCrop and RandomFlip of mmseg 0.14."""
    ratio = draw.random_sample() * (2.0 - 0.5) + 0.5
    long, short = int(MAX_RATIO * SHORT * ratio), int(SHORT * ratio)
    factor = min(long / max(mask.shape), short / min(mask.shape))
    size = int(mask.shape[1] * factor + 0.5), int(mask.shape[0] * factor + 0.5)
    bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    for attempt in range(11):
        top = draw.randint(0, max(mask.shape[0] - CROP, 0) + 1)
        left = draw.randint(0, max(mask.shape[1] - CROP, 0) + 1)
        window = slice(top, top + CROP), slice(left, left + CROP)
        if attempt == 10 or good(mask[window]):
            break
    bgr, mask = bgr[window], mask[window]
    return (bgr[:, ::-1], mask[:, ::-1]) if draw.rand() < 0.5 else (bgr, mask)


def good(labels):
    values, counts = np.unique(labels, return_counts=True)
    counts = counts[values != IGNORE]
    return len(counts) > 1 and counts.max() / counts.sum() < 0.75


def coordinates():
    """Red and green rise with x and y; the mask is small squares, of which every crop is good."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([x * 255 / (WIDTH - 1), y * 255 / (HEIGHT - 1), 0 * x], axis=2)
    return np.rint(image).astype(np.uint8), ((x // 6 + y // 6) % 5).astype(np.uint8)


def recovered(image):
    """Scale, top and left as shares of what was possible, and flip, from the slopes of red and green."""
    along_x, along_y = (image[..., k].mean(axis).astype(float) for k, axis in ((0, 0), (1, 1)))
    inner = slice(4, -4)  # away from the clamped border
    at = np.arange(CROP)[inner]
    slope_x, start_x = np.polyfit(at, along_x[inner] * (WIDTH - 1) / 255, 1)
    slope_y, start_y = np.polyfit(at, along_y[inner] * (HEIGHT - 1) / 255, 1)
    if flip := slope_x < 0:
        start_x += slope_x * (CROP - 1)
    scale = 1 / slope_y
    # the pixel j of the resized picture shows (j + 0.5) / scale - 0.5 of the original
    left, top = ((start + 0.5) * scale - 0.5 for start in (start_x, start_y))
    return scale, left / (WIDTH * scale - CROP), top / max(HEIGHT * scale - CROP, 1e-9), flip


@pytest.fixture(scope="module")
def places():
    """(draws, 4) of `recovered`: ours and the reference's."""
    image, mask = coordinates()
    draw = np.random.RandomState(0)
    reference = [placed(image[..., ::-1], mask, draw)[0][..., ::-1] for _ in range(2 * DRAWS)]
    mine = [sample for sample, _ in ours(image, mask, DRAWS)]
    return tuple(np.array([recovered(sample) for sample in samples], float) for samples in (mine, reference))


def test_scale_has_the_reference_distribution(places):
    mine, reference = (place[:, 0] for place in places)
    assert stats.ks_2samp(mine, reference).pvalue > LEAST
    assert stats.kstest(mine, stats.uniform(0.5, 1.5).cdf).pvalue > LEAST  # the base is the picture's own short side
    assert mine.min() == pytest.approx(0.5, abs=0.02)
    assert mine.max() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("side", ["left", "top"])
def test_place_has_the_reference_distribution(places, side):
    column = 1 if side == "left" else 2
    mine, reference = (place[place[:, 0] > 0.75, column] for place in places)  # where there is room to choose
    assert stats.ks_2samp(mine, reference).pvalue > LEAST
    assert stats.kstest(mine, stats.uniform(-0.02, 1.04).cdf).pvalue > LEAST
    assert -0.03 < mine.min() < 0.03
    assert 0.97 < mine.max() < 1.03


def test_flips_are_a_fair_coin(places):
    flips = [int(place[:, 3].sum()) for place in places]
    assert stats.binomtest(flips[0], DRAWS, 0.5).pvalue > LEAST
    assert stats.binomtest(flips[1], 2 * DRAWS, 0.5).pvalue > LEAST


def test_scale_place_and_flip_are_independent(places):
    roomy = places[0][places[0][:, 0] > 0.75]
    for one in range(4):
        for other in range(one):
            assert stats.spearmanr(roomy[:, one], roomy[:, other]).pvalue > LEAST


def test_share_of_good_crops_is_that_of_eleven_draws():
    """Few places are good: the closed form is 1 - (1 - p)^11, ten draws that are tested and one that is not."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 124:], mask[:30, :] = 1, IGNORE
    windows = np.lib.stride_tricks.sliding_window_view(mask, (CROP, CROP)).reshape(-1, CROP, CROP)
    share = np.mean([good(window) for window in windows])
    assert 0.03 < share < 0.15
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    accepted = sum(good(labels) for _, labels in ours(image, mask, DRAWS, short_side=None))
    assert stats.binomtest(int(accepted), DRAWS, 1 - (1 - share) ** 11).pvalue > LEAST


GREYS = [40, 70, 100, 130]  # far enough from 0 and 255 for every brightness and contrast
RED, YELLOW = [120, 60, 60], [240, 220, 20]
PATCHES = np.array(
    [*([grey] * 3 for grey in GREYS), RED, YELLOW, [200, 80, 60], [50, 160, 90], [70, 90, 190]], np.uint8
)


@pytest.fixture(scope="module")
def colours():
    """(draws, patches, 3) RGB of flat patches: ours and the reference's."""
    side = len(PATCHES)
    image = np.repeat(PATCHES[None], side, axis=0)  # a column for each patch
    mask = np.repeat(np.arange(side, dtype=np.uint8)[None], side, axis=0)  # tells a flip
    samples = ours(image, mask, COLOUR_DRAWS, side, None, True)
    mine = [sample[0] if labels[0, 0] == 0 else sample[0, ::-1] for sample, labels in samples]
    draw = np.random.RandomState(0)
    bgr = np.ascontiguousarray(image[:1, :, ::-1])
    reference = [distorted(bgr, draw)[0, :, ::-1] for _ in range(2 * COLOUR_DRAWS)]
    return np.array(mine), np.array(reference)


def contrast_and_brightness(colour):
    """From the line on which the greys lie, which neither saturation nor hue move."""
    greys = colour[:, : len(GREYS), 0].astype(float)  # contrast * (grey + brightness), rounded down
    contrast = np.polyfit(GREYS, greys.T, 1)[0]
    return contrast, (greys + 0.5).mean(axis=1) / contrast - np.mean(GREYS)


def hue_and_saturation(colour, patch):
    """Turn of the hue in degrees / 2, and factor of the saturation, of one patch."""
    before, after = (
        cv2.cvtColor(np.ascontiguousarray(one[:, None]), cv2.COLOR_RGB2HSV)[:, 0].astype(int)
        for one in (PATCHES[patch : patch + 1], colour[:, patch])
    )
    return (after[:, 0] - before[0, 0] + 90) % 180 - 90, after[:, 1] / before[0, 1]


def assert_alike(one, other, low, high):
    """Two samples have one distribution, and nearly reach the ends of a range."""
    assert stats.ks_2samp(one, other).pvalue > LEAST
    assert low < one.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < one.max() < high


@pytest.mark.parametrize("patch", range(len(PATCHES)))
def test_colours_have_the_reference_distribution(colours, patch):
    mine, reference = (colour[:, patch] for colour in colours)
    for channel in range(3):
        assert stats.ks_2samp(mine[:, channel], reference[:, channel]).pvalue > LEAST


def test_brightness_and_contrast_have_the_reference_distribution(colours):
    mine, reference = (contrast_and_brightness(colour) for colour in colours)
    changed = [contrast[np.abs(contrast - 1) > 0.03] for contrast, _ in (mine, reference)]
    assert_alike(*changed, 0.48, 1.52)
    changed = [brightness[np.abs(brightness) > 2] for _, brightness in (mine, reference)]
    assert_alike(*changed, -34, 34)


@pytest.mark.parametrize("patch", range(len(GREYS), len(PATCHES)))
def test_hue_has_the_reference_distribution(colours, patch):
    changed = [turn[np.abs(turn) > 2] for turn in (hue_and_saturation(colour, patch)[0] for colour in colours)]
    assert stats.ks_2samp(*changed).pvalue > LEAST
    if PATCHES[patch].tolist() == RED:  # the others move by clipping, too
        assert -19 <= changed[0].min() <= -18  # one is rounding
        assert 17 <= changed[0].max() <= 18


def test_saturation_has_the_reference_distribution(colours):
    changed = [
        factor[np.abs(factor - 1) > 0.1] for factor in (hue_and_saturation(colour, len(GREYS))[1] for colour in colours)
    ]
    assert stats.ks_2samp(*changed).pvalue > LEAST


def test_contrast_comes_first_or_last_by_a_fair_coin(colours):
    """Strong contrast clips yellow, so that what a weaker saturation leaves of its blue depends on the order."""
    contrast, brightness = contrast_and_brightness(colours[0])
    red = (120 + brightness) / 60 * hue_and_saturation(colours[0], len(GREYS))[1] * 127.5 / 255
    high, low = 240 + brightness, 20 + brightness
    first = np.minimum(contrast * high, 255) * (1 - red) + contrast * low * red
    last = contrast * (np.minimum(high, 255) * (1 - red) + low * red)
    tells = (contrast > 1.2) & (red < 0.8) & (last - first > 16)
    blue = colours[0][tells, len(GREYS) + 1].min(axis=1)
    came_first = np.abs(blue - first[tells]) < np.abs(blue - last[tells])
    assert tells.sum() > 50
    assert stats.binomtest(int(came_first.sum()), int(tells.sum()), 0.5).pvalue > LEAST


def test_each_step_is_taken_every_second_time(colours):
    """All colours stay as they are in one of 16 draws; grey does in one of four, as hue and saturation leave it."""
    same = (colours[0] == PATCHES).all(axis=2)  # (draws, patches)
    assert stats.binomtest(int(same[:, 3].sum()), COLOUR_DRAWS, 1 / 4).pvalue > LEAST
    assert stats.binomtest(int(same.all(axis=1).sum()), COLOUR_DRAWS, 1 / 16).pvalue > LEAST
