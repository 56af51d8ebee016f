"""Object sizes, boundaries, calibration and loss against hand-made cases, closed forms and brute force."""

import math

import numpy as np
import pytest
import torch

from segmenter_pl.metrics import BoundaryIoU, CalibrationError, MeanLoss, ObjectSizeMetrics, SegmentationMetrics
from segmenter_pl.metrics.boundary import band_width, boundary_band
from segmenter_pl.metrics.objects import NO_OBJECT, object_sizes

IGNORE = 255


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)


def patches(dtype: type[np.generic] = np.uint8, classes: int = 4, shape: tuple[int, int] = (41, 33)) -> np.ndarray:
    """Class ids in patches of all forms, a tenth ignored."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (shape[0] // 3 + 1, shape[1] // 5 + 1)).repeat(3, 0).repeat(5, 1)
    labels = np.where(rng.random(labels.shape) < 0.1, IGNORE, labels)
    return labels[: shape[0], : shape[1]].astype(dtype)


# --- size of objects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "index"), [(31, 33, 0), (32, 32, 1), (1, 1023, 0), (1, 1024, 1), (95, 97, 1), (96, 96, 2)]
)
def test_the_limits_of_the_sizes(height: int, width: int, index: int) -> None:
    target = np.full((height + 2, width + 4), IGNORE, np.uint8)
    target[1:-1, 2:-2] = 3
    sizes, objects = object_sizes(target, IGNORE)
    assert (sizes[target == 3] == index).all()
    assert (sizes[target == IGNORE] == NO_OBJECT).all()
    assert objects.tolist() == [int(k == index) for k in range(3)]


def test_touching_corners_join_and_other_classes_and_ignored_pixels_part() -> None:
    target = np.zeros((80, 80), np.uint8)
    target[:30, :20] = target[30:60, 20:40] = 1  # 600 + 600 pixels that share a corner: one of 1200
    target[64:80, :70] = 2
    target[64:80, 30] = IGNORE  # parts 16·30 = 480 from 16·39 = 624 pixels
    sizes, objects = object_sizes(target, IGNORE)
    assert np.unique(sizes[target == 1]).tolist() == [1]
    assert np.unique(sizes[target == 2]).tolist() == [0]
    assert np.unique(sizes[target == 0]).tolist() == [1]  # 6400 - 1200 - 16·70 pixels, joined around the corner
    assert objects.tolist() == [2, 2, 0]


def test_object_sizes_equal_flood_filling() -> None:
    target = patches(np.int16, classes=2, shape=(150, 130))
    expected = np.full(target.shape, NO_OBJECT)
    seen = target == IGNORE
    counts = [0, 0, 0]
    for start in np.argwhere(~seen):
        if seen[tuple(start)]:
            continue
        component, queue = [], [tuple(start)]
        seen[tuple(start)] = True
        while queue:
            y, x = queue.pop()
            component.append((y, x))
            for a in range(max(y - 1, 0), min(y + 2, target.shape[0])):
                for b in range(max(x - 1, 0), min(x + 2, target.shape[1])):
                    if not seen[a, b] and target[a, b] == target[y, x]:
                        seen[a, b] = True
                        queue.append((a, b))
        index = (len(component) >= 1024) + (len(component) >= 9216)
        counts[index] += 1
        expected[tuple(np.array(component).T)] = index
    sizes, objects = object_sizes(target, IGNORE)
    assert np.array_equal(sizes, expected)
    assert objects.tolist() == counts
    assert min(counts[:2]) > 0


def test_miou_of_each_size_by_hand() -> None:
    """A large class 0, a small object of class 1 of which a quarter is found, a medium one that is found but for 100
    pixels; 50 pixels of the large one are taken for class 1."""
    target = np.zeros((200, 200), np.uint8)
    target[10:30, 10:30] = 1  # 400 pixels
    target[100:150, 100:150] = 1  # 2500 pixels
    prediction = np.zeros_like(target)
    prediction[10:20, 10:20] = 1
    prediction[100:148, 100:150] = 1
    prediction[180:181, 100:150] = 1
    metric = ObjectSizeMetrics(3)
    metric.update(*tensors(prediction, target))
    values = metric.compute()
    large = 200 * 200 - 400 - 2500
    # Class 0 is predicted on pixels of objects of class 1 but never true there: its IoU is 0 and counts.
    assert values["small"]["iou"][:2].tolist() == [0, 100 / 400]
    assert values["medium"]["iou"][:2].tolist() == [0, 2400 / 2500]
    assert values["large"]["iou"][:2].tolist() == [(large - 50) / large, 0]
    assert float(values["small"]["miou"]) == 1 / 8
    assert float(values["medium"]["pixel_accuracy"]) == 2400 / 2500
    assert [int(values[name]["objects"]) for name in ("small", "medium", "large")] == [1, 1, 1]
    assert [int(values[name]["pixels"]) for name in ("small", "medium", "large")] == [400, 2500, large]
    assert all(values[name]["iou"][2].isnan() for name in values)


def test_sizes_add_up_to_the_whole_and_an_absent_size_is_nan() -> None:
    target = patches()
    prediction = np.random.default_rng(1).integers(0, 4, target.shape)
    metric, whole = ObjectSizeMetrics(4), SegmentationMetrics(4)
    for each in (metric, whole):
        each.update(*tensors(prediction, target))
    assert torch.equal(metric.confusion.sum(0), whole.confusion)
    assert metric.compute()["large"]["miou"].isnan()
    assert int(metric.compute()["large"]["objects"]) == 0


# --- boundaries -------------------------------------------------------------------------------------------------------


def distance_to_the_outside(mask: np.ndarray) -> np.ndarray:
    """Of each pixel of a mask to the next pixel that is not in it, beyond the picture too; max-norm, one by one."""
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    result = np.zeros(mask.shape, int)
    for y, x in np.argwhere(mask):
        result[y, x] = np.abs(outside - (y, x)).max(1).min()
    return result


@pytest.mark.parametrize("width", [1, 2, 5])
def test_bands_equal_distances(width: int) -> None:
    labels = patches(np.int16)
    expected = np.zeros(labels.shape, bool)
    for k in np.unique(labels):
        distance = distance_to_the_outside(labels == k)
        expected |= (distance > 0) & (distance <= width)
    assert np.array_equal(boundary_band(labels, width), expected)


def test_boundary_iou_equals_distances_summed_over_pictures() -> None:
    metric = BoundaryIoU(5)
    rng = np.random.default_rng(2)
    intersection, union = np.zeros(5), np.zeros(5)
    for shape in ((41, 33), (60, 80), (1, 50), (2, 3)):
        target = patches(shape=shape)
        noise = rng.random(target.shape) < 0.1
        prediction = np.where(noise, rng.integers(0, 4, target.shape), np.where(target == IGNORE, 2, target))
        metric.update(*tensors(prediction, target))
        width = max(round(0.02 * math.sqrt(shape[0] ** 2 + shape[1] ** 2)), 1)
        for k in range(5):
            bands = []
            for mask in (target == k, (prediction == k) & (target != IGNORE)):
                distance = distance_to_the_outside(mask)
                bands.append((distance > 0) & (distance <= width))
            intersection[k] += (bands[0] & bands[1]).sum()
            union[k] += (bands[0] | bands[1]).sum()
    values = metric.compute()
    np.testing.assert_array_equal(values["iou"][:4], intersection[:4] / union[:4])
    assert values["iou"][4].isnan()
    assert float(values["miou"]) == pytest.approx(np.mean(intersection[:4] / union[:4]), abs=1e-15)


def test_boundary_iou_of_a_shifted_square_by_hand() -> None:
    """Squares of side 20, one shifted by 4, in 300×400 (band 10: the squares are all band) and in 30×40 (band 1)."""
    for size, overlap, union in (((300, 400), 16 * 20, 24 * 20), ((30, 40), 2 * 16, 76 + 76 - 2 * 16)):
        target, prediction = np.zeros((2, *size), np.uint8)
        target[5:25, 5:25] = prediction[5:25, 9:29] = 1
        metric = BoundaryIoU(2)
        metric.update(*tensors(prediction, target))
        assert float(metric.compute()["iou"][1]) == overlap / union


def test_width_of_the_band() -> None:
    assert band_width(480, 640) == 16
    assert band_width(1, 1) == 1


# --- calibration and loss ---------------------------------------------------------------------------------------------


def test_calibration_error_of_known_bins() -> None:
    """Half of the pixels say 0.9 and 3 of 4 are right, half say 0.5 and 1 of 4 is: (0.15 + 0.25) / 2."""
    metric = CalibrationError()
    metric.update(torch.tensor([0.9] * 4), torch.tensor([True, True, True, False]))
    metric.update(torch.tensor([[0.5] * 2] * 2), torch.tensor([[True, False], [False, False]]))
    values = metric.compute()
    assert float(values["error"]) == pytest.approx(0.2, abs=1e-7)
    assert values["pixels"].nonzero().flatten().tolist() == [7, 13]
    assert float(values["accuracy"][13]) == 0.75
    assert float(values["confidence"][13]) == pytest.approx(0.9, abs=1e-7)
    assert values["accuracy"][0].isnan()


def test_bins_hold_their_upper_end_and_the_ends_of_the_range() -> None:
    metric = CalibrationError()
    metric.update(torch.tensor([0.0, 0.2, 0.201, 1.0]), torch.zeros(4, dtype=torch.bool))
    assert metric.pixels.nonzero().flatten().tolist() == [0, 2, 3, 14]


def test_calibration_error_equals_brute_force_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(100_000, np.float32)
    correct = rng.random(100_000) < confidence**2
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean(dtype=np.float64))
    metrics = [CalibrationError(), CalibrationError()]
    metrics[0].update(*tensors(confidence, correct))
    order = rng.permutation(100_000)
    for part in np.array_split(order, 7):
        metrics[1].update(*tensors(confidence[part], correct[part]))
    first, second = (metric.compute() for metric in metrics)
    assert float(first["error"]) == pytest.approx(expected, abs=1e-7)
    assert float(first["error"]) == float(second["error"])
    assert torch.equal(metrics[0].confidence, metrics[1].confidence)


def test_mean_loss_is_of_all_pixels_and_the_same_in_any_order() -> None:
    pictures = [(1234.56789, 1000), (0.1, 3), (98765.4321, 65536), (0.0, 0)]
    results = []
    for order in (pictures, pictures[::-1]):
        metric = MeanLoss()
        for total, pixels in order:
            metric.update(torch.tensor(total, dtype=torch.float64), torch.tensor(pixels))
        results.append(float(metric.compute()))
    assert results[0] == results[1]
    assert results[0] == pytest.approx((1234.56789 + 0.1 + 98765.4321) / 66539, rel=1e-9)
