"""Logs that are to be drawn as learning curves: of our runs, of other implementations, under names that tell them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from segmenter_pl.analysis.logs import Row, holds_log, read_log
from segmenter_pl.analysis.runs import Run, find_runs
from segmenter_pl.analysis.settings import differing
from segmenter_pl.analysis.tables import value


@dataclass
class Curves:
    """Logs by label, and what a logs.yml says of the axes.

    Attributes:
        low, high: ends of the y-axis; of rates in per cent, as the official code writes them.
        left_out: `path: reason`.
    """

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
            found.append((_name(place), read_log(place, curves.left_out)))
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
    for run in found.runs:
        if run.status in ("duplicate", "crashed"):
            curves.left_out.append(f"{run.folder}: {run.status}, {run.reason}")
        elif not run.rows:
            curves.left_out.append(f"{run.folder}: {run.status}, and has no metrics.csv with rows")
    curves.left_out += found.left_out
    return [run for run in found.runs if run.status in ("finished", "unfinished") and run.rows]


def _labels(runs: Sequence[Run]) -> list[str]:
    """How each run differs from the others: its name, its settings among those of that name, its seed, its state."""
    named: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        named[str(value(run, "name"))].append(run)
    varying = {name: differing([run.config for run in members]) for name, members in named.items()}
    seeds = len({run.config.get("seed") for run in runs}) > 1
    labels = []
    for run in runs:
        name = str(value(run, "name"))
        settings = str(value(run, "settings", varying[name]))
        parts = [name if len(named) > 1 or not settings else "", settings]
        parts += [f"seed {run.config.get('seed')}" if seeds else "", "unfinished" if run.status == "unfinished" else ""]
        labels.append(", ".join(filter(None, parts)))
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
    return [(str(label), read_log(root / str(log), curves.left_out)[:rows]) for label, log in entries.items()]
