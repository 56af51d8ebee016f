"""What an evaluation found, as plain data: fractions, not percent; None where there is nothing to measure."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from segmenter_pl.metrics.calibration import BINS


def results_of(
    names: Sequence[str],
    scores: Mapping[str, Tensor],
    *,
    loss: Tensor,
    objects: Mapping[str, Mapping[str, Tensor]],
    boundary: Mapping[str, Tensor],
    calibration: Mapping[str, Tensor],
    foreground: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        names: K class names.
        scores, loss, objects, boundary, calibration, foreground: what the metrics of `segmenter_pl.metrics` compute.

    Returns:
        `val`: mIoU, accuracies, loss and IoU by class, the same keys as of a training; `object_sizes`: mIoU, IoU by
        class, numbers of objects and pixels for small, medium and large ones; `boundary_iou`; the
        `expected_calibration_error` and its `calibration_bins`; `classes`: for each its IoU, accuracy, boundary IoU
        and share of the labelled pixels. Of two classes also `foreground`: the name of its `class`, and what
        `ForegroundMetrics` tells of `all` pictures, and of those `with` and `without` it.
    """
    truth = scores["confusion"].sum(1).double()
    columns = {
        "iou": scores["iou"],
        "accuracy": scores["accuracy"],
        "boundary_iou": boundary["iou"],
        "pixel_share": truth / truth.sum(),
    }
    values = {key: _numbers(column) for key, column in columns.items()}
    means = {key: float(scores[key]) for key in ("miou", "pixel_accuracy", "mean_accuracy")}
    results = {
        "val": {**means, "loss": float(loss), "classes": dict(zip(names, values["iou"], strict=True))},
        "object_sizes": {size: _of_size(names, one) for size, one in objects.items()},
        "boundary_iou": _number(boundary["miou"]),
        "expected_calibration_error": float(calibration["error"]),
        "classes": {name: {key: values[key][k] for key in values} for k, name in enumerate(names)},
        "calibration_bins": [
            {
                "above": k / BINS,
                "up_to": (k + 1) / BINS,
                "pixels": int(calibration["pixels"][k]),
                "accuracy": _number(calibration["accuracy"][k]),
                "confidence": _number(calibration["confidence"][k]),
            }
            for k in range(BINS)
        ],
    }
    if foreground is not None:
        results["foreground"] = {"class": names[1], **{group: _of_group(one) for group, one in foreground.items()}}
    return results


def _of_size(names: Sequence[str], scores: Mapping[str, Tensor]) -> dict[str, Any]:
    means = {key: _number(scores[key]) for key in ("miou", "pixel_accuracy", "mean_accuracy")}
    counts = {key: int(scores[key]) for key in ("objects", "pixels")}
    return {**means, **counts, "classes": dict(zip(names, _numbers(scores["iou"]), strict=True))}


def _of_group(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pictures": int(values["pictures"]),
        **{key: {name: _number(one) for name, one in values[key].items()} for key in ("per_picture", "pooled")},
        "counted": {name: int(one) for name, one in values["counted"].items()},
    }


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values.cpu()]
