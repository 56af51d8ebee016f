"""Learning curves: any logged value over any other, of our runs and of other implementations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segmenter_pl.analysis.drawing import drawn, faint_grid, look, spread_out
from segmenter_pl.analysis.logs import Row, holds_log, our_key, read_log
from segmenter_pl.analysis.runs import Run, find_runs
from segmenter_pl.analysis.settings import differing
from segmenter_pl.analysis.tables import value

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
LABEL_GAP = 0.05  # between values at the ends of curves, of the axes' height


@dataclass
class Curves:
    """Logs by label, and what a logs.yml says of the axes."""

    logs: dict[str, list[Row]] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    left_out: list[str] = field(default_factory=list)

    def add(self, label: str, rows: list[Row]) -> None:
        """Under a name of its own, should the label be taken."""
        names = (label if k == 1 else f"{label} ({k})" for k in range(1, len(self.logs) + 2))
        self.logs[next(name for name in names if name not in self.logs)] = rows


def gather(places: Sequence[Path], labels: Sequence[str] = ()) -> Curves:
    """The logs of run directories and of folders with runs below them, log files, and logs.yml files.

    Args:
        labels: one for each curve in their order; by default how our runs differ, and a file's name.
    Raises: FileNotFoundError, ValueError for what cannot be read.
    """
    curves = Curves()
    found: list[Run | tuple[str, list[Row]]] = []
    for place in places:
        if place.suffix in (".yml", ".yaml"):
            found += _listed(place, curves)
        elif place.is_dir() and (runs := _runs(place, curves)) is not None:
            found += runs
        else:
            found.append((_name(place), read_log(place)))
    runs = [one for one in found if isinstance(one, Run)]
    names = dict(zip((run.folder for run in runs), _labels(runs), strict=True))
    for one in found:
        curves.add(*((names[one.folder], one.rows) if isinstance(one, Run) else one))
    if not curves.logs:
        raise ValueError(f"there is nothing to draw: {'; '.join(curves.left_out) or 'no log'}")
    if labels:
        if len(labels) != len(curves.logs):
            raise ValueError(
                f"--label was given {len(labels)} times for {len(curves.logs)} curves: {', '.join(curves.logs)}"
            )
        curves.logs = dict(zip(labels, curves.logs.values(), strict=True))
        if len(curves.logs) < len(labels):
            raise ValueError("--label: two curves have the same one")
    return curves


def _name(path: Path) -> str:
    """A file's folder where its own name says nothing."""
    plain = path.name in ("log.txt", "metrics.csv", "scalars.json")
    parent = path.absolute().parent
    return (parent.parent.name if parent.name == "vis_data" else parent.name) if plain else path.name.split(".")[0]


def _runs(place: Path, curves: Curves) -> list[Run] | None:
    """Our runs below a folder; None if it is the run directory of another implementation."""
    try:
        found = find_runs([place])
    except ValueError:
        if holds_log(place):
            return None
        raise
    curves.left_out += [f"{run.folder}: {run.reason}" for run in found.runs if run.status in ("duplicate", "crashed")]
    return [run for run in found.runs if run.status in ("finished", "unfinished") and run.rows]


def _labels(runs: Sequence[Run]) -> list[str]:
    """How each run differs from the others: its name or its settings, its seed, and whether it has ended."""
    varying = differing([run.config for run in runs])
    seeds = len({run.config.get("seed") for run in runs}) > 1
    names = len({value(run, "name") for run in runs}) > 1
    labels = []
    for run in runs:
        label = str(value(run, "name")) if names else value(run, "settings", varying) or str(value(run, "name"))
        label += f", seed {run.config.get('seed')}" if seeds else ""
        labels.append(label + (", unfinished" if run.status == "unfinished" else ""))
    return labels


def _listed(path: Path, curves: Curves) -> list[tuple[str, list[Row]]]:
    """The official code's logs.yml: root, logs: {label: path}, and perhaps vmin, vmax, epochs (so many rows)."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = dict(content["logs"])
        root = path.parent / str(content.get("root") or "")
        rows = None if content.get("epochs") is None else int(content["epochs"])
        curves.low, curves.high = (None if content.get(k) is None else float(content[k]) for k in ("vmin", "vmax"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be read as a list of logs ({' '.join(repr(error).split())[:120]}): it needs logs: "
            "{LABEL: PATH}, and may have root, vmin, vmax, epochs"
        ) from error
    return [(str(label), read_log(root / str(log))[:rows]) for label, log in entries.items()]


def series(rows: Sequence[Row], x_key: str, y_key: str) -> tuple[list[float], list[float]]:
    """The values of two keys where both were logged; empty if never."""
    pairs = [(row[x_key], row[y_key]) for row in rows if x_key in row and y_key in row and math.isfinite(row[y_key])]
    return [x for x, _ in pairs], [y for _, y in pairs]


def draw_curves(curves: Curves, path: Path, x_key: str = "step", y_key: str = "val/miou") -> list[str]:
    """One line per log, its last value marked with × and written beside it.

    Args:
        x_key, y_key: by our names or the writer's (val_mean_iou, mIoU); fractions, whoever wrote them.
    Returns: a line on each curve: its label and last value.
    Raises: ValueError where a log lacks a key; the message lists what it has.
    """
    x_key, y_key = our_key(x_key), our_key(y_key)
    points = {}
    for label, rows in curves.logs.items():
        points[label] = series(rows, x_key, y_key)
        if not points[label][0]:
            keys = ", ".join(dict.fromkeys(key for row in rows for key in row))
            raise ValueError(f"{label} has no {y_key} over {x_key}: it logged {keys}")
    low, high = _limits([y for _, ys in points.values() for y in ys], curves)
    with drawn(path, height=4.2 + 0.22 * max(len(points) - 4, 0)) as (axes,):
        last = [ys[-1] for _, ys in points.values()]
        places = spread_out([(y - low) / (high - low) for y in last], LABEL_GAP)
        for number, ((label, (xs, ys)), place) in enumerate(zip(points.items(), places, strict=True)):
            style = look(number) | {"marker": "." if len(xs) < 60 else None}
            axes.plot(xs, ys, label=label, linewidth=1.6, **style)
            axes.plot(xs[-1], ys[-1], marker="x", markersize=8, markeredgewidth=2, color=style["color"])
            axes.annotate(
                f"{ys[-1]:.4f}" if abs(ys[-1]) < 10 and not y_key.startswith("lr/") else f"{ys[-1]:.4g}",
                (1.01, place),
                xycoords="axes fraction",
                color=style["color"],
                va="center",
                fontsize=9,
            )
        axes.set(xlabel=LABELS.get(x_key, x_key), ylabel=LABELS.get(y_key, y_key), ylim=(low, high))
        faint_grid(axes)
        _legend(axes, len(points))
    return [f"{label}: {y_key} {ys[-1]:.4f} at {x_key} {xs[-1]:g}" for label, (xs, ys) in points.items()]


def _legend(axes: Any, count: int) -> None:
    if count > 4:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1 if count < 8 else 2, fontsize=8, frameon=False
        )
    else:
        axes.legend(fontsize=9)


def _limits(values: Sequence[float], curves: Curves) -> tuple[float, float]:
    """The values' range and a tenth of it on both sides."""
    margin = 0.1 * (max(values) - min(values)) or 0.1 * abs(max(values)) or 1.0
    low = min(values) - margin if curves.low is None else curves.low
    high = max(values) + margin if curves.high is None else curves.high
    if not low < high:
        raise ValueError(f"vmin {low:g} is not below vmax {high:g}")
    return low, high
