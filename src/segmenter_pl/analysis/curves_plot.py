"""Learning curves: any logged value over any other."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmenter_pl.analysis.curves import Curves
from segmenter_pl.analysis.drawing import Legend, drawn, faint_grid, look, marks_of, spread_out, thousands
from segmenter_pl.analysis.logs import Row, our_key

LABELS = {
    "step": "optimizer step",
    "epoch": "epoch",
    "val/miou": "validation mIoU (fraction)",
    "val/pixel_accuracy": "validation pixel accuracy (fraction)",
    "val/mean_accuracy": "validation mean accuracy (fraction)",
    "val/loss": "validation loss",
    "train/loss": "training loss",
    "train/images_per_second": "training speed (images/s)",
    "train/peak_memory_gb": "peak memory (GB)",
    "lr/encoder": "learning rate of the encoder",
}
WIDTH, HEIGHT = 7.0, 4.2  # of a figure without what the legend needs, inches
AROUND = 0.8  # of the height: what the axes do not have
END = 0.15  # between values at the ends of curves, inches
Points = tuple[list[float], list[float]]


def series(rows: Sequence[Row], x_key: str, y_key: str) -> Points:
    """The values of two keys where both were logged; empty if never."""
    pairs = [(row[x_key], row[y_key]) for row in rows if x_key in row and y_key in row and math.isfinite(row[y_key])]
    return [x for x, _ in pairs], [y for _, y in pairs]


def draw_curves(
    curves: Curves, path: Path, x_key: str = "step", y_key: str = "val/miou"
) -> tuple[list[str], list[str]]:
    """One line per log, its last value marked with × and written beside it, with the number of the curve where there
    are more than colours.

    Args:
        x_key, y_key: by our names or the writer's (val_mean_iou, mIoU); fractions, whoever wrote them.
    Returns: a line on each curve (its label and last value), and one on each log that lacks a key.
    Raises: ValueError where all logs lack a key (the message lists what there is), or there are more than 28 curves.
    """
    x_key, y_key = our_key(x_key), our_key(y_key)
    points = {label: found for label, rows in curves.logs.items() if (found := series(rows, x_key, y_key))[0]}
    left_out = [f"{label}: has no {y_key} over {x_key}" for label in curves.logs if label not in points]
    if not points:
        keys = ", ".join(dict.fromkeys(key for rows in curves.logs.values() for row in rows for key in row))
        others = f", nor has any of {len(curves.logs) - 1} others" if len(curves.logs) > 1 else ""
        raise ValueError(f"{next(iter(curves.logs))} has no {y_key} over {x_key}{others}: logged was {keys}")
    legend = Legend.of(list(points), WIDTH)
    tall = max(HEIGHT, AROUND + END * (len(points) + 1))
    low, high = _limits([y for _, ys in points.values() for y in ys], curves, y_key)
    ends = spread_out([(ys[-1] - low) / (high - low) for _, ys in points.values()], END / (tall - AROUND))
    with drawn(path, WIDTH, tall + legend.height) as (axes,):
        for number, (label, one) in enumerate(zip(legend.labels, points.values(), strict=True)):
            _draw_one(axes, one, label, number)
        for mark, (_, ys), place, number in zip(
            marks_of(len(points)), points.values(), ends, range(len(points)), strict=True
        ):
            text = f"{ys[-1]:.4f}" if abs(ys[-1]) < 10 and not y_key.startswith("lr/") else f"{ys[-1]:.4g}"
            axes.annotate(f"{mark}: {text}" if mark else text, (1.01, place), xycoords="axes fraction",
                          color=look(number)["color"], va="center", fontsize=9)  # fmt: skip
        axes.set(xlabel=LABELS.get(x_key, x_key), ylabel=LABELS.get(y_key, y_key), ylim=(low, high))
        if max(abs(x) for xs, _ in points.values() for x in xs) >= 10_000:
            thousands(axes)
        faint_grid(axes)
        legend.draw([axes])
    return [f"{label}: {y_key} {ys[-1]:.4f} at {x_key} {xs[-1]:g}" for label, (xs, ys) in points.items()], left_out


def _draw_one(axes: Any, points: Points, label: str, number: int) -> None:
    xs, ys = points
    style = look(number) | {"marker": "." if len(xs) < 60 else None}
    axes.plot(xs, ys, label=label, linewidth=1.6, **style)
    axes.plot(xs[-1], ys[-1], marker="x", markersize=8, markeredgewidth=2, color=style["color"])


def _limits(values: Sequence[float], curves: Curves, y_key: str) -> tuple[float, float]:
    """The values' range and a tenth of it on both sides, where no logs.yml says otherwise."""
    margin = 0.1 * (max(values) - min(values)) or 0.1 * abs(max(values)) or 1.0
    rate = y_key.startswith("val/") and y_key != "val/loss"  # which logs.yml gives in per cent
    low, high = (end / 100 if rate and end is not None else end for end in (curves.low, curves.high))
    low, high = min(values) - margin if low is None else low, max(values) + margin if high is None else high
    if not low < high:
        raise ValueError(f"vmin {low:g} is not below vmax {high:g}")
    if not any(low <= value <= high for value in values):
        told = ", which logs.yml gives in per cent" if rate else ""
        raise ValueError(f"no value of {y_key} lies between vmin {low:g} and vmax {high:g}{told}")
    return low, high
