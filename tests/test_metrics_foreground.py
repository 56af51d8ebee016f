"""ForegroundMetrics against loops over thresholds in float64, closed forms, and itself in another order."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from segmenter_pl.metrics import ForegroundMetrics

IGNORE = 255
NAN = math.nan
Picture = tuple[np.ndarray, np.ndarray, bool]  # probability, truth, without


def f_beta(precision: float, recall: float) -> float:
    both = 0.3 * precision + recall
    return 1.3 * precision * recall / both if both else 0.0


def one_score(probability: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Scores of some pixels as the formulas stand; the curves are precision and recall at k/255."""
    p, m = probability[target != IGNORE].astype(float), target[target != IGNORE].astype(bool)
    sure = p > 0.5
    union = (sure | m).sum()
    curves = []
    for k in range(256):
        above = p > k / 255
        precision = m[above].mean() if above.any() else 1.0
        curves.append((precision, above[m].mean() if m.any() else NAN))
    return {
        "mae": np.abs(p - m).mean(),
        "iou": (sure & m).sum() / union if union else 1.0,
        "max_f": max(f_beta(*point) for point in curves) if m.any() else NAN,
        "ber": 1 - (sure[m].mean() + (~sure)[~m].mean()) / 2 if m.any() and not m.all() else NAN,
        "curves": curves,
    }


def mean(values: list[float]) -> float:
    counted = [value for value in values if not math.isnan(value)]
    return sum(counted) / len(counted) if counted else NAN


def brute_force(pictures: list[Picture]) -> dict[str, Any]:
    """The values of one group. `pictures` has one at least."""
    each = [one_score(p, t) for p, t, _ in pictures if (t != IGNORE).any()]
    pooled = one_score(*(np.concatenate([picture[i].ravel() for picture in pictures]) for i in (0, 1)))
    keys = ("mae", "iou", "max_f", "ber")
    points = [np.array(one["curves"]) for one in each if not math.isnan(one["max_f"])]
    curve = max(f_beta(*point) for point in np.mean(points, axis=0)) if points else NAN
    return {
        "pictures": len(each),
        "per_picture": {**{key: mean([one[key] for one in each]) for key in keys}, "curve_max_f": curve},
        "pooled": {key: pooled[key] for key in keys},
        "counted": {key: sum(not math.isnan(one[key]) for one in each) for key in keys},
    }


def agree(found: Any, expected: dict[str, Any], within: float = 2e-8) -> None:
    assert int(found["pictures"]) == expected["pictures"]
    assert {key: int(value) for key, value in found["counted"].items()} == expected["counted"]
    for kind in ("per_picture", "pooled"):
        values = {key: float(value) for key, value in found[kind].items()}
        assert values == pytest.approx(expected[kind], abs=within, nan_ok=True)


def measured(pictures: list[Picture]) -> ForegroundMetrics:
    metric = ForegroundMetrics(IGNORE)
    for probability, target, without in pictures:
        metric.update(torch.from_numpy(probability), torch.from_numpy(target), without)
    return metric


def random_pictures() -> list[Picture]:
    """All kinds: soft and hard maps, values on the thresholds, empty and full masks, ignored pixels, none labelled."""
    rng = np.random.default_rng(0)
    pictures: list[Picture] = []
    for i, (height, width) in enumerate([(37, 53), (20, 31), (1, 7), (64, 48), (16, 16), (9, 9), (30, 40), (12, 5)]):
        target = (rng.random((height, width)) < (0.3, 0.0, 0.5, 0.7, 1.0, 0.1, 0.4, 0.0)[i]).astype(np.uint8)
        shown = np.clip(rng.normal(0.35 + 0.3 * target, 0.25), 0, 1).astype(np.float32)
        if i in (0, 3):  # on the thresholds, as a stored grey picture is
            shown = (np.round(shown * 255) / 255).astype(np.float32)
        if i == 6:
            shown = np.where(shown > 0.5, np.float32(1), np.float32(0))
        if i == 7:  # nothing there, nothing found
            shown *= np.float32(0.5)
        target[rng.random(target.shape) < (0.0, 0.2, 0.0, 0.2, 0.0, 0.1, 0.3, 0.0)[i]] = IGNORE
        pictures.append((shown, target, not (target == 1).any()))
    pictures.append((np.full((6, 6), 0.9, np.float32), np.full((6, 6), IGNORE, np.uint8), True))  # counts nowhere
    return pictures


def test_equals_brute_force_in_every_group() -> None:
    pictures = random_pictures()
    values = measured(pictures).compute()
    assert list(values) == ["all", "with", "without"]
    agree(values["all"], brute_force(pictures))
    for name, without in (("with", False), ("without", True)):
        agree(values[name], brute_force([one for one in pictures if one[2] is without]))
    assert [int(one["pictures"]) for one in values.values()] == [8, 6, 2]
    assert {key: int(n) for key, n in values["all"]["counted"].items()} == {"mae": 8, "iou": 8, "max_f": 6, "ber": 5}


def test_the_group_is_what_the_caller_says() -> None:
    probability, target, _ = random_pictures()[0]
    values = measured([(probability, target, True)]).compute()
    agree(values["without"], brute_force([(probability, target, True)]))
    assert int(values["with"]["pictures"]) == 0
    assert all(value.isnan() for kind in ("per_picture", "pooled") for value in values["with"][kind].values())


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("constant", [0.0, 0.25, 0.5, 0.6, 1.0])
def test_a_constant_probability_has_closed_forms(constant: float, share: float) -> None:
    """The soft probability counts: 0.6 everywhere is 0.4 off in the foreground, whose hard mask would be 0 off."""
    target = np.zeros((20, 20), np.uint8)
    target[: int(20 * share)] = 1
    values = measured([(np.full((20, 20), constant, np.float32), target, False)]).compute()["all"]
    for kind in ("per_picture", "pooled"):
        found = {key: float(value) for key, value in values[kind].items()}
        assert found["mae"] == pytest.approx(share * (1 - constant) + (1 - share) * constant, abs=3e-8)
        assert found["iou"] == (share if constant > 0.5 else 0)
        assert found["max_f"] == pytest.approx(f_beta(share, 1) if constant else 0)
        assert found["ber"] == 0.5


def test_a_hard_mask_would_have_another_error() -> None:
    target = np.ones((8, 8), np.uint8)
    soft = np.full((8, 8), 0.6, np.float32)
    hard = (soft > 0.5).astype(np.float32)
    errors = [float(measured([(p, target, False)]).compute()["all"]["pooled"]["mae"]) for p in (soft, hard)]
    assert errors == [pytest.approx(0.4, abs=3e-8), 0]


@pytest.mark.parametrize("k", [1, 51, 127, 128, 200, 254])
def test_thresholds_have_to_be_exceeded(k: int) -> None:
    """A threshold parts two neighbouring numbers around k/255, and not the next two below."""
    around = np.float32(k / 255)
    low, high = (around, np.nextafter(around, np.float32(1)))
    if float(around) > k / 255:
        low, high = np.nextafter(around, np.float32(0)), around
    for probability, expected in (((high, low), 1.0), ((low, np.nextafter(low, np.float32(0))), f_beta(0.5, 1))):
        shown = np.array([probability], np.float32)
        values = measured([(shown, np.array([[1, 0]], np.uint8), False)]).compute()["all"]
        assert float(values["pooled"]["max_f"]) == pytest.approx(expected)


def test_one_half_is_not_foreground() -> None:
    more = np.nextafter(np.float32(0.5), np.float32(1))
    for probability, iou in ((0.5, 0.0), (more, 1.0)):
        shown = np.array([[probability, 0.5]], np.float32)
        values = measured([(shown, np.array([[1, 0]], np.uint8), False)]).compute()["all"]
        assert float(values["pooled"]["iou"]) == iou


def test_certain_foreground_exceeds_all_thresholds_but_the_last() -> None:
    target = np.array([[1, 0, 0]], np.uint8)
    values = measured([(np.array([[1, 0, 1 - 1e-3]], np.float32), target, False)]).compute()["all"]
    assert float(values["pooled"]["max_f"]) == pytest.approx(f_beta(0.5, 1))  # 0.999 > 254/255
    assert float(values["pooled"]["ber"]) == pytest.approx(0.25)


def test_an_average_that_exceeds_one_by_its_rounding_is_one() -> None:
    target = np.array([[1, 0]], np.uint8)
    found, expected = (measured([(np.array([[p, 0]], np.float32), target, False)]) for p in (1 + 1e-6, 1))
    assert torch.equal(found.counts, expected.counts)
    assert torch.equal(found.error, expected.error)


def test_maxima_and_mean_curves_and_pooling_differ() -> None:
    """A small object is found at any threshold up to 0.3, a large one at any up to 0.9, each with as much beside it at
    half of that: every picture has a threshold that is perfect, all pixels and the mean curves have none."""
    pictures: list[Picture] = []
    for size, probability in ((4, 0.3), (16, 0.9)):
        target, shown = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.float32)
        target[:size, :size] = 1
        shown[:size, :size], shown[:size, 16 : 16 + size] = probability, probability / 2
        pictures.append((shown, target, False))
    values = measured(pictures).compute()["all"]
    assert float(values["per_picture"]["max_f"]) == 1
    # From 0.15 to 0.3: precisions 1 and 1/2, all recalled; from 0.45 to 0.9 the small one is lost (precision 1).
    curves = [f_beta(0.75, 1), f_beta(1, 0.5)]
    assert float(values["per_picture"]["curve_max_f"]) == pytest.approx(max(curves))
    pooled = [f_beta(272 / (16 + 512), 1), f_beta(1, 256 / 272)]
    assert float(values["pooled"]["max_f"]) == pytest.approx(max(pooled))


def test_neither_order_nor_processes_change_a_bit() -> None:
    pictures = random_pictures()
    whole, merged, other = measured(pictures), measured(pictures[::2]), measured(pictures[1::2][::-1])
    merged.merge_state(other)  # as processes do: their sums are summed
    for name in whole._defaults:
        assert getattr(whole, name).dtype == torch.int64
        assert torch.equal(getattr(whole, name), getattr(merged, name))
    values, same = whole.compute(), merged.compute()
    for group, kind in product(values, ("per_picture", "pooled")):
        bits = [torch.stack(list(one[group][kind].values())).nan_to_num(-1) for one in (values, same)]
        assert torch.equal(*bits)


def test_large_pictures_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(random_pictures())
    monkeypatch.setattr("segmenter_pl.metrics.foreground.PART", 100)
    parts = measured(random_pictures())
    assert torch.equal(whole.counts, parts.counts)
    assert torch.equal(whole.error, parts.error)
    assert torch.equal(whole.scores, parts.scores)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        ForegroundMetrics().update(torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.long), without=False)
