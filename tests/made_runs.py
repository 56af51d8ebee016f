"""Run directories as train.py leaves them, with made-up numbers."""

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from segmenter_pl import searchpath

CLASSES = {"road": 0.9, "pole_sign": 0.1}


@cache
def settings(*overrides: str) -> str:
    """The resolved configuration of a command, as JSON."""
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return json.dumps(OmegaConf.to_container(plain, resolve=True))


def make_run(
    folder: Path,
    *overrides: str,
    miou: float | None = 0.5,
    steps: int = 40,
    speed: Sequence[float] = (30.0, 50.0, 40.0),
    classes: Mapping[str, float | None] = CLASSES,
    evaluations: Mapping[str, float] | None = None,
    evaluation_speed: float | None = None,
    numbers: int = 0,
) -> Path:
    """A run in `folder`; without mIoU an unfinished one. With `numbers`, a checkpoint of so many parameters.

    `evaluations` are mIoU by folder below eval/, each at `evaluation_speed` images per second.
    """
    config = json.loads(settings(*overrides))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rows: list[dict[str, Any]] = [
        {"step": (i + 1) * 10, "train/loss": 2.0 - i, "train/images_per_second": rate} for i, rate in enumerate(speed)
    ]
    rows[-1]["val/miou"] = 0.25 if miou is None else miou
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if numbers:
        (folder / "checkpoints").mkdir()
        state = {"model.weight": torch.zeros(numbers - 1), "model.bias": torch.zeros(1)}
        content = {"state_dict": state, "segmenter": {"pictures": {"train": 367, "val": 101}}}
        torch.save(content, folder / "checkpoints" / "last.ckpt")
    if miou is not None:
        val = {"miou": miou, "pixel_accuracy": 0.75, "mean_accuracy": 0.6, "loss": 0.4, "classes": dict(classes)}
        best = {**val, "miou": miou + 0.125, "step": 10}
        results = {"val": val, "best": best, "steps": steps, "faults": {}, "config": config}
        (folder / "results.json").write_text(json.dumps(results))
    for name, value in (evaluations or {}).items():
        (folder / "eval" / name).mkdir(parents=True)
        sizes = {size: {"miou": value / (i + 2)} for i, size in enumerate(("small", "medium", "large"))}
        found: dict[str, Any] = {"val": {"miou": value}, "object_sizes": sizes}
        if evaluation_speed is not None:
            found["speed"] = {"images_per_second": evaluation_speed, "device": "cpu"}
        (folder / "eval" / name / "results.json").write_text(json.dumps(found))
    return folder
