"""The tables of the paper and of the model zoos, with what our runs measured beside each published number."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from segmenter_pl.analysis.matching import Published, departures, matches, steps_of
from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.tables import Table, parameters
from segmenter_pl.recipes import recipe_settings

KEYS = ("source", "table", "dataset", "method", "backbone", "patch_size", "decoder", "setting")
ZOOS = {"zoo-official": "official_repository", "zoo-mmsegmentation": "mmsegmentation", "zoo-paddlevit": "paddlevit"}
PER_CENT = ("miou_", "imagenet_", "pixel_accuracy_")
SIZES = {"miou_small": "small", "miou_medium": "medium", "miou_large": "large"}
VIEWS = {"miou_ss": "none", "miou_ms": "multiscale_flip"}


def published_rows(path: Path | None = None) -> list[Published]:
    """All published rows, one for each model and setting of a table.

    Args:
        path: a file with the columns source, table, dataset, method, backbone, patch_size, decoder, setting, metric,
            value; by default the packaged one.
    """
    place = path or files("segmenter_pl.experiments") / "published_results.csv"
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{place} does not exist: give the table of published numbers") from None
    found: dict[tuple[str, ...], dict[str, float]] = {}
    try:
        for line in csv.DictReader(text.splitlines()):
            metric, number = line["metric"], float(line["value"])
            key = tuple(line[name] for name in KEYS)
            found.setdefault(key, {})[metric] = round(number / 100, 6) if metric.startswith(PER_CENT) else number
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} is no table of published numbers: {error!r}") from error
    return [Published(**dict(zip(KEYS, key, strict=True)), values=values) for key, values in found.items()]


def names_of_tables(rows: Iterable[Published]) -> list[str]:
    """What `--paper` accepts: table2 … table9, section4_2, zoo-official …"""
    return list(dict.fromkeys(name for row in rows if (name := table_name(row))))


def table_name(row: Published) -> str | None:
    """What `--paper` calls the table of a row; None where it has no name."""
    if row.source == "paper":
        return row.table if row.table.startswith("section") else row.table.partition("_")[0]
    return next((name for name, source in ZOOS.items() if source == row.source), None)


def paper_table(
    name: str,
    runs: Sequence[Run],
    accuracies: Sequence[Mapping[str, Any]] = (),
    path: Path | None = None,
    recipe: Callable[[str], Mapping[str, Any]] = recipe_settings,
) -> tuple[Table, list[str]]:
    """One row for each of the published table: what it is, how many runs match, their steps, and for each metric the
    published number, the mean of the runs, their standard deviation, and the difference.

    Measured are the last weights: evaluations of last.ckpt, for single-scale mIoU else the training's own validation.
    The second result are remarks: on runs that were trained in another way than the row's recipe says, and so do not
    count, and on runs of another length.

    Args:
        runs: finished ones. accuracies: records of `segmenter accuracy` (backbone, top1), for Table 3.
        recipe: the settings of an experiment, by its name.
    Raises: ValueError for an unknown table.
    """
    everything = published_rows(path)
    rows = [row for row in everything if table_name(row) == name]
    if not rows:
        raise ValueError(f"--paper {name}: there is {', '.join(names_of_tables(everything))}")
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    table, remarks = [], []
    for row in rows:
        ours, others = _alike(row, runs, recipe)
        steps = sorted({run.steps for run in ours if run.steps is not None})
        cells: dict[str, Any] = {"method": row.method, "backbone": row.backbone or None, "decoder": row.decoder or None}
        cells |= {"dataset": row.dataset, "setting": row.setting or None}
        cells |= {"runs": len(ours), "steps": ", ".join(map(str, steps)) or None}
        for metric in metrics:
            cells |= _compared(row, metric, ours, accuracies)
        table.append(cells)
        remarks += others
        if steps and steps != [whole := steps_of(row.dataset)]:
            number = ", ".join(map(str, steps))
            remarks.append(f"{row.method}, {row.decoder}: {number} steps here, {whole} in the publication")
    return _without_empty(table), list(dict.fromkeys(remarks))


def _alike(
    row: Published, runs: Sequence[Run], recipe: Callable[[str], Mapping[str, Any]]
) -> tuple[list[Run], list[str]]:
    """The runs that are a row's training, and what keeps others from it that are the same model on the same data."""
    ours, remarks = [], []
    for run in (one for one in runs if matches(one, row)):
        if found := departures(run, row, recipe):
            remarks.append(f"{run.folder} does not count for {row.method}, {row.decoder}: {', '.join(found)}")
        else:
            ours.append(run)
    return ours, remarks


def _compared(
    row: Published, metric: str, ours: Sequence[Run], accuracies: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """A metric as published and as measured, by column."""
    stated = row.values.get(metric)
    found = [number for run in ours if (number := measured(run, metric)) is not None and math.isfinite(number)]
    if metric == "imagenet_top1":
        found = [one["top1"] for one in accuracies if one["backbone"] == row.backbone]
    own = mean(found) if found else None
    return {
        f"{metric} published": stated,
        f"{metric} measured": own,
        f"{metric} deviation": stdev(found) if len(found) > 1 else None,
        f"{metric} difference": None if own is None or stated is None else own - stated,
    }


def _without_empty(table: Table) -> Table:
    """Columns that say nothing in any row are left out, such as speeds that no run measures."""
    kept = [key for key in table[0] if any(row[key] is not None for row in table)]
    return [{key: row[key] for key in kept} for row in table]


def measured(run: Run, metric: str) -> float | None:
    """A run's number for a metric of the published tables, None if it has none; fractions."""
    data = f"last/{run.config['dataset'].get('name')}-val"
    if metric in SIZES:
        sizes = run.evaluations.get(f"{data}-none", {}).get("object_sizes", {})
        return sizes.get(SIZES[metric], {}).get("miou")
    if metric in VIEWS:
        if found := run.evaluations.get(f"{data}-{VIEWS[metric]}"):
            return found["val"]["miou"]
        return run.results["val"]["miou"] if metric == "miou_ss" and run.results else None
    if metric == "params_millions":
        count = parameters(run)
        return None if count is None else count / 1e6
    return None
