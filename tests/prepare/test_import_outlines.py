"""Polygons and run lengths against closed forms, brute force and an encoder of our own."""

import numpy as np
import pytest

from segmenter_pl.prepare.outlines import mask_of_polygons, mask_of_runs, polygon_points, run_lengths


def whole(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    rows, columns, mask = mask_of_polygons([polygon_points(numbers) for numbers in polygons], height, width)
    full = np.zeros((height, width), bool)
    full[rows, columns] = mask
    return full


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The even-odd rule by casting a ray to the left."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 <= y < y1 or y1 <= y < y0) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            odd = not odd
    return odd


def runs_of(mask: np.ndarray) -> list[int]:
    """Lengths of 0, 1, 0, … down the columns, counted pixel by pixel."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    """COCO's text form: signed numbers in groups of five bits, as many as two's complement needs."""
    text = ""
    for i, count in enumerate(counts):
        number = count - counts[i - 2] if i > 2 else count
        groups = 1
        while not -(1 << 5 * groups - 1) <= number < 1 << 5 * groups - 1:
            groups += 1
        digits = [(number >> 5 * k) % 32 for k in range(groups)]
        text += "".join(chr(48 + digit + 32 * (k < groups - 1)) for k, digit in enumerate(digits))
    return text


def test_a_rectangle_covers_the_pixels_between_its_corners() -> None:
    expected = np.zeros((10, 12), bool)
    expected[3:7, 2:9] = True
    assert np.array_equal(whole([[2, 3, 9, 3, 9, 7, 2, 7]], 10, 12), expected)
    assert np.array_equal(whole([[2.4, 2.6, 9.4, 2.6, 9.4, 7.4, 2.4, 7.4]], 10, 12), expected)  # by pixel centres


def test_rectangles_that_share_an_edge_share_no_pixel_and_leave_none() -> None:
    left, right = (whole([[x, 1.5, x + 3.5, 1.5, x + 3.5, 6.5, x, 6.5]], 8, 12) for x in (1, 4.5))
    assert not (left & right).any()
    assert np.array_equal(left | right, whole([[1, 1.5, 8, 1.5, 8, 6.5, 1, 6.5]], 8, 12))


@pytest.mark.parametrize("seed", range(20))
def test_any_polygon_by_brute_force(seed: int) -> None:
    """Corners in any order, so that it crosses itself, and partly outside of the picture."""
    corners = [(float(x), float(y)) for x, y in np.random.default_rng(seed).uniform(-6, 26, (7, 2))]
    expected = [[inside(x + 0.5, y + 0.5, corners) for x in range(23)] for y in range(17)]
    assert np.array_equal(whole([[value for corner in corners for value in corner]], 17, 23), expected)


def test_several_polygons_are_united() -> None:
    one, other = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]
    assert np.array_equal(whole([one, other], 8, 8), whole([one], 8, 8) | whole([other], 8, 8))


def test_what_has_no_area_or_is_outside_covers_nothing() -> None:
    assert not whole([[1, 1, 5, 5]], 8, 8).any()
    assert not whole([[20, 20, 30, 20, 30, 30]], 8, 8).any()


@pytest.mark.parametrize("numbers", [[1, 2, 3], [], "1,2", [1, None], [[1, 2], [3, 4]], [0, 0, float("nan"), 1]])
def test_no_polygon(numbers: object) -> None:
    with pytest.raises(ValueError, match="a polygon"):
        polygon_points(numbers)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (40, 300), (300, 400)])
def test_runs_of_random_blobs_as_list_and_as_text(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = np.zeros((height, width), bool)
        for _ in range(round(20 * share)):
            y, x = rng.integers(height), rng.integers(width)
            mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] ^= True
        counts = runs_of(mask)
        for given in (counts, compressed(counts)):
            assert np.array_equal(mask_of_runs(run_lengths(given, height, width), height, width), mask)


def test_a_known_text() -> None:
    """By hand: 6; 1; 40 = 8 + 1·32, so X1; 4 - 1 = 3; 13 - 40 = -27 = 5 - 1·32, so U and O."""
    counts = [6, 1, 40, 4, 13]
    assert compressed(counts) == "61X13UO"
    assert run_lengths("61X13UO", 8, 8) == counts


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], "cover 7 pixels"),
        ("61X14", "cover 52 pixels"),
        ("61X13UP", "cut off"),
        ("6 1", "character ' '"),
        ("6é", "character"),
        ([-1, 65], "whole numbers"),
        ([1.5, 62.5], "whole numbers"),
        (None, "whole numbers"),
    ],
)
def test_no_runs(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_lengths(counts, 8, 8)
