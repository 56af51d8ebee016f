"""The tables of the paper and of the model zoos, with what our runs measured beside each published number."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import option, value_of
from segmenter_pl.analysis.tables import Table, parameters

KEYS = ("source", "table", "dataset", "method", "backbone", "patch_size", "decoder", "setting")
ZOOS = {"zoo-official": "official_repository", "zoo-mmsegmentation": "mmsegmentation", "zoo-paddlevit": "paddlevit"}
PER_CENT = ("miou_", "imagenet_", "pixel_accuracy_")
# What a row does not say: the official recipe's rate floor, and that of both other implementations.
FLOORS = {"paper": 1e-5, "official_repository": 1e-5, "mmsegmentation": 1e-4, "paddlevit": 1e-4}
SIZES = {"miou_small": "small", "miou_medium": "medium", "miou_large": "large"}
VIEWS = {"miou_ss": "none", "miou_ms": "multiscale_flip"}


@dataclass(frozen=True)
class Published:
    """A row of a published table; `values` by metric, fractions where the publication has per cent."""

    source: str
    table: str
    dataset: str
    method: str
    backbone: str
    patch_size: str
    decoder: str
    setting: str
    values: Mapping[str, float]


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
    return list(dict.fromkeys(name for row in rows if (name := _table_name(row))))


def _table_name(row: Published) -> str | None:
    if row.source == "paper":
        return row.table if row.table.startswith("section") else row.table.partition("_")[0]
    return next((name for name, source in ZOOS.items() if source == row.source), None)


def paper_table(
    name: str, runs: Sequence[Run], accuracies: Sequence[Mapping[str, Any]] = (), path: Path | None = None
) -> tuple[Table, list[str]]:
    """One row for each of the published table: what it is, how many runs match, their steps, and for each metric the
    published number, the mean of the runs, and the difference.

    Measured are the last weights: evaluations of last.ckpt, for single-scale mIoU else the training's own validation.
    The second result are remarks on runs that were shorter than the published training.

    Args:
        runs: finished ones. accuracies: records of `segmenter accuracy` (backbone, top1), for Table 3.
    Raises: ValueError for an unknown table.
    """
    everything = published_rows(path)
    rows = [row for row in everything if _table_name(row) == name]
    if not rows:
        raise ValueError(f"--paper {name}: there is {', '.join(names_of_tables(everything))}")
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    table, remarks = [], []
    for row in rows:
        ours = [run for run in runs if matches(run, row)]
        steps = sorted({run.steps for run in ours})
        cells: dict[str, Any] = {"method": row.method, "backbone": row.backbone or None, "decoder": row.decoder or None}
        cells |= {"dataset": row.dataset, "setting": row.setting or None}
        cells |= {"runs": len(ours), "steps": ", ".join(map(str, steps)) or None}
        for metric in metrics:
            stated = row.values.get(metric)
            found = [number for run in ours if (number := measured(run, metric)) is not None]
            if metric == "imagenet_top1":
                found = [one["top1"] for one in accuracies if one["backbone"] == row.backbone]
            own = mean(found) if found else None
            cells |= {f"{metric} published": stated, f"{metric} measured": own}
            cells[f"{metric} difference"] = None if own is None or stated is None else own - stated
        table.append(cells)
        if steps and steps[0] < (whole := _recipe(row.dataset)["max_steps"]):
            remarks.append(f"{row.method}, {row.decoder}: {steps[0]} steps here, {whole} in the publication")
    return _without_empty(table), remarks


def _without_empty(table: Table) -> Table:
    """Columns that say nothing in any row are left out, such as speeds that no run measures."""
    kept = [key for key in table[0] if any(row[key] is not None for row in table)]
    return [{key: row[key] for key in kept} for row in table]


def matches(run: Run, row: Published) -> bool:
    """Whether a run trained what a row describes: dataset, backbone, patch, decoder, crop, batch, and the settings."""
    if row.decoder not in ("linear", "mask"):
        return False
    ours, theirs = facts(run), expected(row)
    return all(ours[key] == value for key, value in theirs.items())


def facts(run: Run) -> dict[str, Any]:
    """What tells the rows of the published tables apart, of a run."""
    config = run.config
    backbone, dataset = config["backbone"], config["dataset"]
    own = re.search(r"patch(\d+)", str(backbone.get("model_name")))
    return {
        "dataset": dataset.get("name"),
        "backbone": option(config, "backbone"),
        "patch_size": backbone.get("patch_size") or (own and int(own[1])),
        "decoder": option(config, "decoder"),
        "crop": dataset.get("crop"),
        "batch_size": dataset.get("batch_size"),
        "dropout": backbone.get("dropout"),
        "stochastic_depth": backbone.get("drop_path_rate"),
        "train_images": dataset.get("train_images"),
        "pretrained": bool(backbone.get("pretrained") or backbone.get("weights")),
        "optimizer": str(value_of(config, "optimizer._target_")).rpartition(".")[2].lower(),
        "floor": value_of(config, "schedule.floor"),
    }


def expected(row: Published) -> dict[str, Any]:
    """The same of a published row; what the publication leaves to the recipe of its dataset is taken from there."""
    recipe = _recipe(row.dataset)
    wanted: dict[str, Any] = {
        "dataset": row.dataset,
        "backbone": row.backbone,
        "patch_size": int(row.patch_size),
        "decoder": row.decoder,
        "crop": recipe["crop"],
        "batch_size": recipe["batch_size"],
        "dropout": 0.0,
        "train_images": None,
        "pretrained": True,
        "optimizer": "sgd",
        "floor": FLOORS.get(row.source),
    }
    if row.source != "paddlevit":  # which has no stochastic depth, whatever its files say
        wanted["stochastic_depth"] = 0.1
    for part in filter(None, row.setting.split(";")):
        key, equals, value = part.partition("=")
        if not equals:
            wanted |= _plain_setting(part)
        elif key == "pretraining":
            wanted["pretrained"] = value != "none"
        elif key == "weights":
            wanted["backbone"] = "vit_b16_orig" if value.startswith("original") else row.backbone
        elif key == "train_images":
            wanted[key] = int(value)
        else:
            wanted[key] = value if key == "optimizer" else float(value)
    if wanted["optimizer"] != "sgd":
        wanted.pop("floor")  # the paper does not tell the recipe of its AdamW
    return wanted


@cache
def _recipe(dataset: str) -> dict[str, Any]:
    """The paper's numbers for a dataset, as `conf/dataset` has them."""
    return yaml.safe_load((files("segmenter_pl.conf") / "dataset" / f"{dataset}.yaml").read_text("utf-8"))


def _plain_setting(part: str) -> dict[str, Any]:
    """`512x512` is the crop, `batch 16` the batch; schedules are told by the steps column."""
    side, times, _ = part.partition("x")
    if times and side.isdecimal() and part == f"{side}x{side}":
        return {"crop": int(side)}
    return {"batch_size": int(part.removeprefix("batch "))} if part.startswith("batch ") else {}


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
