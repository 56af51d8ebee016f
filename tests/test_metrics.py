"""SegmentationMetrics against counting in numpy, and against closed forms."""

import numpy as np
import pytest
import torch

from segmenter_pl.metrics import SegmentationMetrics


def brute_force(
    predictions: list[np.ndarray], targets: list[np.ndarray], classes: int, ignore: int
) -> dict[str, float]:
    prediction = np.concatenate([p.ravel() for p in predictions])
    target = np.concatenate([t.ravel() for t in targets])
    prediction, target = prediction[target != ignore], target[target != ignore]
    iou, accuracy = [], []
    for k in range(classes):
        union = ((prediction == k) | (target == k)).sum()
        if union:
            iou.append(((prediction == k) & (target == k)).sum() / union)
        if (target == k).any():
            accuracy.append((prediction[target == k] == k).mean())
    pixel_accuracy = (prediction == target).mean()
    return {"miou": np.mean(iou), "mean_accuracy": np.mean(accuracy), "pixel_accuracy": pixel_accuracy}


@pytest.mark.parametrize(
    ("classes", "ignore"),
    [
        (6, 255), (2, 255), (150, 255), (255, 255), (6, 6), (6, 3), (6, -100), (200, -100), (256, 256), (200, 300),
        (300, 300), (300, 855), (300, 856), (300, 32767),
    ],
)  # fmt: skip
@pytest.mark.parametrize("deterministic", [False, True])
def test_equals_brute_force(classes: int, ignore: int, deterministic: bool) -> None:
    rng = np.random.default_rng(0)
    metrics = SegmentationMetrics(classes, ignore)
    dtype = np.uint8 if classes <= 255 and 0 <= ignore <= 255 else np.int32
    predictions, targets = [], []
    torch.use_deterministic_algorithms(deterministic)
    try:
        for height, width in [(7, 9), (64, 48), (1, 5)]:
            # The last class never occurs; a tenth of the pixels is ignored.
            target = rng.integers(0, classes - 1, (height, width)).astype(dtype)
            target[rng.random((height, width)) < 0.1] = ignore
            predictions.append(rng.integers(0, classes - 1, (height, width)))
            targets.append(target.copy())
            metrics.update(torch.from_numpy(predictions[-1]), torch.from_numpy(target))
            assert np.array_equal(target, targets[-1])
    finally:
        torch.use_deterministic_algorithms(False)
    values = metrics.compute()
    expected = brute_force(predictions, targets, classes, ignore)
    for key, value in expected.items():
        assert float(values[key]) == pytest.approx(value, abs=1e-12)
    assert torch.isnan(values["iou"][-1])


def test_averages_classes_of_the_dataset_not_of_each_picture() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0]))
    metrics.update(torch.tensor([1, 1]), torch.tensor([1, 255]))
    values = metrics.compute()
    assert values["iou"].tolist() == [3 / 4, 1 / 2]
    assert float(values["miou"]) == 5 / 8


def test_class_only_predicted_counts_in_miou_but_not_in_mean_accuracy() -> None:
    metrics = SegmentationMetrics(3)
    metrics.update(torch.tensor([0, 0, 2, 1]), torch.tensor([0, 0, 0, 1]))
    values = metrics.compute()
    assert float(values["miou"]) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert float(values["mean_accuracy"]) == pytest.approx((2 / 3 + 1) / 2)


def test_any_split_over_pictures_gives_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randint(0, 19, (8, 32, 32), generator=generator) for _ in range(2))
    whole, parts = SegmentationMetrics(19), SegmentationMetrics(19)
    whole.update(prediction, target)
    for p, t in zip(prediction, target, strict=True):
        parts.update(p, t)
    assert torch.equal(whole.confusion, parts.confusion)
    assert torch.equal(whole.compute()["miou"], parts.compute()["miou"])


def test_counts_beyond_what_float32_holds() -> None:
    many = torch.zeros(4097, 4097, dtype=torch.uint8)  # 2^24 + 8193 pixels
    metrics = SegmentationMetrics(2)
    metrics.update(many, many)
    assert metrics.confusion.tolist() == [[4097**2, 0], [0, 0]]


def test_a_picture_without_pixels_counts_nothing() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(torch.zeros(0, 5, dtype=torch.long), torch.zeros(0, 5, dtype=torch.long))
    assert metrics.confusion.tolist() == [[0, 0], [0, 0]]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        SegmentationMetrics(2).update(torch.zeros(2, 3, dtype=torch.long), torch.zeros(3, 2, dtype=torch.long))
