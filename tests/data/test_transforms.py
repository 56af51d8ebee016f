import random

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from segmenter_pl.data.pixels import resized_corner
from segmenter_pl.data.transforms import (
    CategoryCrop,
    PhotometricDistortion,
    ScaledCrop,
    eval_transform,
    train_transform,
)


def random_state(transform, seed):
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (120, 90), (64, 64), (33, 200), (301, 77)])
@pytest.mark.parametrize("seed", range(6))
def test_resize_size_follows_the_base_scale(height, width, seed):
    image, mask = picture(height, width), np.zeros((height, width), np.uint8)
    out = random_state(ScaledCrop(1000, 52, 8.0, (0.5, 2.0)), seed)(image=image, mask=mask)
    # the reference: base (8*52, 52) times r, both sides cut to integers, then the largest size that fits
    r = random.Random(seed).uniform(0.5, 2.0)
    long, short = int(416 * r), int(52 * r)
    factor = min(long / max(height, width), short / min(height, width))
    expected = (int(height * factor + 0.5), int(width * factor + 0.5))
    assert out["image"].shape == (*expected, 3)
    assert out["mask"].shape == expected


def test_resize_is_bilinear_for_pictures_and_nearest_for_masks():
    mask = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (40, 60))
    image = picture(40, 60)
    out = ScaledCrop(1000, 64, 4.0, (1.0, 1.0))(image=image, mask=mask)
    assert set(np.unique(out["mask"])) == {0, 7, 255}
    np.testing.assert_array_equal(out["image"], cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(out["mask"], cv2.resize(mask, (96, 64), interpolation=cv2.INTER_NEAREST))


@pytest.mark.parametrize("seed", range(300))
def test_the_corner_of_a_resized_picture_has_the_bits_of_the_whole(seed):
    draw = random.Random(seed)
    height, width = draw.randint(1, 400), draw.randint(1, 400)
    r = draw.choice(
        [draw.uniform(0.03, 3), draw.uniform(0.98, 1.02), 0.25, 0.5, 1, 2]
    )  # OpenCV has its own ways for these
    size = max(1, int(width * r + 0.5)), max(1, int(height * r + 0.5))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    bottom, right = (
        draw.randint(1, size[1] + 20),
        draw.randint(1, size[0] + 20),
    )  # a crop may be larger than the picture
    np.testing.assert_array_equal(resized_corner(image, size, bottom, right), whole[:bottom, :right])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_resize_and_crop_are_those_of_the_whole_picture(dtype):
    image = picture(90, 120)
    mask = (image[..., 0] // 40).astype(dtype)
    for seed in range(30):
        out = random_state(ScaledCrop(48, 60, 4.0, (0.5, 2.0)), seed)(image=image, mask=mask)
        draw = random.Random(seed)
        r = draw.uniform(0.5, 2.0)
        factor = min(int(240 * r) / 120, int(60 * r) / 90)
        size = int(120 * factor + 0.5), int(90 * factor + 0.5)
        labels = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        box, _ = brute_force_crop(labels, 48, 0.75, 255, draw)
        np.testing.assert_array_equal(out["mask"], labels[box])
        np.testing.assert_array_equal(out["image"], cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[box])


def brute_force_crop(mask, crop, ratio, ignore, draw):
    """The reference's loop with np.unique: ten tests, the eleventh draw goes untested."""
    height, width = mask.shape

    def box():
        top = draw.randint(0, max(height - crop, 0))
        left = draw.randint(0, max(width - crop, 0))
        return slice(top, top + crop), slice(left, left + crop)

    candidate = box()
    for _ in range(10):
        labels, counts = np.unique(mask[candidate], return_counts=True)
        counts = counts[labels != ignore]
        if len(counts) > 1 and np.max(counts) / np.sum(counts) < ratio:
            return candidate, True
        candidate = box()
    return candidate, False


@pytest.mark.parametrize(("dtype", "ignore"), [(np.uint8, 255), (np.int16, 32767)])
def test_crop_follows_the_brute_force_rule(dtype, ignore):
    rng = np.random.default_rng(1)
    outcomes = set()
    for seed in range(60):
        coarse = rng.choice([0, 1, 2, ignore], (5, 6), p=[0.75, 0.1, 0.05, 0.1]).astype(dtype)
        mask = np.kron(coarse, np.ones((9, 9), dtype))  # (45, 54)
        image = np.repeat((np.arange(mask.size) % 251).astype(np.uint8).reshape(mask.shape)[..., None], 3, axis=2)
        box, accepted = brute_force_crop(mask, 16, 0.75, ignore, random.Random(seed))
        outcomes.add(accepted)
        out = random_state(CategoryCrop(16, 0.75, ignore), seed)(image=image, mask=mask)
        np.testing.assert_array_equal(out["mask"], mask[box])
        np.testing.assert_array_equal(out["image"], image[box])
        assert out["mask"].dtype == dtype
    assert outcomes == {True, False}


@pytest.mark.parametrize("fill", [3, 255])
def test_crop_without_choice_still_returns_one(fill):
    mask = np.full((20, 40), fill, np.uint8)
    out = CategoryCrop(32)(image=picture(20, 40), mask=mask)
    assert out["mask"].shape == (20, 32)  # the short side is kept whole


def float_photometric(image, steps):
    """The reference's order in float32, rounding down to uint8 after each step."""

    def convert(values, alpha=1.0, beta=0.0):
        return np.clip(values.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    if steps["brightness"] is not None:
        image = convert(image, beta=steps["brightness"])
    if steps["contrast_first"] and steps["contrast"] is not None:
        image = convert(image, alpha=steps["contrast"])
    if steps["saturation"] is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = convert(hsv[..., 1], alpha=steps["saturation"])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if steps["hue"] is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + steps["hue"]) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not steps["contrast_first"] and steps["contrast"] is not None:
        image = convert(image, alpha=steps["contrast"])
    return image


def test_photometric_distortion_is_bit_identical_to_float_arithmetic():
    distort = PhotometricDistortion()
    image = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    untouched = 0
    for seed in range(80):
        steps = random_state(distort, seed).get_params()
        out = random_state(distort, seed)(image=image, mask=image[..., 0])
        np.testing.assert_array_equal(out["image"], float_photometric(image, steps))
        np.testing.assert_array_equal(out["mask"], image[..., 0])
        untouched += np.array_equal(out["image"], image)
    assert untouched < 20


def test_photometric_draws_have_the_reference_ranges():
    distort = random_state(PhotometricDistortion(), 0)
    draws = [distort.get_params() for _ in range(4000)]
    ranges = {"brightness": (-32, 32), "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": (-18, 17)}
    for key, (low, high) in ranges.items():
        values = [draw[key] for draw in draws if draw[key] is not None]
        assert abs(len(values) / len(draws) - 0.5) < 0.03
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) <= high
    assert abs(np.mean([draw["contrast_first"] for draw in draws]) - 0.5) < 0.03


@pytest.mark.parametrize(("dtype", "ignore"), [(np.uint8, 255), (np.int16, 32767)])
def test_padding_is_right_and_bottom_with_the_mean_colour_and_the_ignore_index(dtype, ignore):
    transform = train_transform(64, None, 4.0, (0.5, 2.0), 0.75, False, (123.675, 116.28, 103.53), ignore)
    out = transform(image=picture(40, 50), mask=np.ones((40, 50), dtype))
    assert out["image"].shape == (3, 64, 64)
    assert out["image"].dtype == torch.uint8
    assert (out["mask"][:40, :50] == 1).all()
    padded = torch.ones(64, 64, dtype=torch.bool)
    padded[:40, :50] = False
    assert (out["mask"][padded] == ignore).all()
    assert (out["image"][:, padded] == torch.tensor([124, 116, 104])[:, None]).all()


def test_training_steps_come_in_the_order_of_the_reference():
    transform = train_transform(64, 80, 4.0, (0.5, 2.0), 0.75, True, (128, 128, 128), 255)
    names = [type(step).__name__ for step in transform]
    assert names == [
        "ScaledCrop",
        "HorizontalFlip",
        "PhotometricDistortion",
        "PadIfNeeded",
        "ToTensor",
    ]
    assert isinstance(transform, A.Compose)
    assert len(train_transform(64, None, 4.0, (0.5, 2.0), 0.75, False, (0, 0, 0), 255)) == 4  # CategoryCrop first
    for seed in range(20):  # pictures smaller and larger than the crop
        out = random_state(transform, seed)(image=picture(70, 130), mask=picture(70, 130)[..., 0] // 128)
        assert out["image"].shape == (3, 64, 64)
        assert out["mask"].shape == (64, 64)


def test_picture_and_mask_stay_aligned():
    mask = (picture(90, 120)[..., 0] // 64).astype(np.uint8)
    image = np.repeat(mask[..., None] * 10, 3, axis=2)
    for seed in range(20):
        transform = random_state(train_transform(64, None, 4.0, (0.5, 2.0), 0.75, False, (0, 0, 0), 255), seed)
        out = transform(image=image, mask=mask)
        assert torch.equal(out["image"][0], out["mask"] * 10)


@pytest.mark.parametrize(("height", "width"), [(41, 57), (1, 1), (1, 9), (9, 1)])
def test_evaluation_keeps_the_picture_as_it_is(height, width):
    image, mask = picture(height, width), np.zeros((height, width), np.uint8)
    out = eval_transform()(image=image, mask=mask)
    np.testing.assert_array_equal(out["image"].numpy(), image.transpose(2, 0, 1))
    assert out["image"].is_contiguous()
    np.testing.assert_array_equal(out["mask"].numpy(), mask)
