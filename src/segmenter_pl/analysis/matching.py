"""Which runs are the training that a row of a published table describes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import differing, option, value_of

# What a row does not say: the official recipe's rate floor, and that of both other implementations.
FLOORS = {"paper": 1e-5, "official_repository": 1e-5, "mmsegmentation": 1e-4, "paddlevit": 1e-4}
PREFIXES = {"paper": "", "official_repository": "", "mmsegmentation": "mmseg_", "paddlevit": "paddlevit_"}

# Settings in which a run may depart from a row's recipe: those that the row itself is compared by, those that only say
# when to look, and the length, which the table tells.
FREE = {
    *("backbone", "backbone.model_name", "backbone.patch_size", "backbone.dropout", "backbone.drop_path_rate"),
    *("backbone.pretrained", "backbone.weights", "dataset.train_images", "tag", "compile"),
    *("trainer.max_steps", "dataset.max_steps", "dataset.val_every", "trainer.precision"),
}
OF_THE_OPTIMIZER = ("optimizer", "schedule", "decoder_lr_scale")


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


def recipe_of(row: Published) -> str:
    """The experiment that is the row's training, but for what its `setting` varies in an ablation."""
    prefix = PREFIXES[row.source]
    large = "_640" if "640x640" in row.setting and not prefix else ""
    return f"{prefix}{row.dataset}_seg_{row.backbone.removeprefix('vit_')}_{row.decoder}{large}"


def departures(run: Run, row: Published, recipe: Callable[[str], Mapping[str, Any]]) -> list[str]:
    """How a run that `matches` a row differs from its recipe all the same: `optimizer.lr=0.1 (0.001 there)`.

    Args:
        recipe: the settings of an experiment, by its name.
    """
    theirs = recipe(recipe_of(row))
    free = {*FREE, *(OF_THE_OPTIMIZER if "optimizer=adamw" in row.setting else ())}
    found = []
    for key in differing([run.config, theirs]):
        here, there = value_of(run.config, key), value_of(theirs, key)
        part = key.partition(".")[0]
        if key not in free and part not in free - {"backbone"} and (here or None) != (there or None):
            found.append(f"{key}={here} ({there} there)")
    return found


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


def steps_of(dataset: str) -> int:
    """The paper's number of steps on a dataset."""
    return int(_recipe(dataset)["max_steps"])


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
