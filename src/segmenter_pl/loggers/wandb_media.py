"""What a run shows in Weights & Biases beside numbers: pictures with masks, a table of classes, checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segmenter_pl.data.classes import Classes
from segmenter_pl.loggers.base import Prediction

OF_A_CLASS = "val/iou/"
MOST_CLASSES = 255  # W&B keeps masks in 8 bits, of which the last is for ignored pixels


def image(picture: np.ndarray) -> Any:
    """A picture (H, W, 3) uint8."""
    import wandb

    return wandb.Image(picture)


def predictions(pictures: Sequence[Prediction], classes: Classes) -> list[Any]:
    """Pictures with truth and prediction as masks that can be switched; above 255 classes without them."""
    import wandb

    names = {**dict(enumerate(classes.names)), classes.ignore_index: "(ignored)"}

    def masks(one: Prediction) -> dict[str, Any] | None:
        if len(classes) > MOST_CLASSES:
            return None
        ids = {"prediction": one.labels, "truth": one.truth}
        return {key: {"mask_data": mask.astype(np.uint8), "class_labels": names} for key, mask in ids.items()}

    return [wandb.Image(one.image, masks=masks(one), caption=one.name) for one in pictures]


def class_table(last: Mapping[str, float], best: Mapping[str, float]) -> Any:
    """IoU of each class in two rows of metrics.csv; empty where it does not occur."""
    import wandb

    keys = dict.fromkeys(key for row in (last, best) for key in row if key.startswith(OF_A_CLASS))
    rows: list[Any] = [[key.removeprefix(OF_A_CLASS), last.get(key), best.get(key)] for key in keys]
    return wandb.Table(columns=["class", "IoU, last", "IoU, best"], data=rows)


def best_of(row: Mapping[str, float]) -> dict[str, float]:
    """The row of the best validation as keys of the summary: `best/miou`, `best/step` …, without single classes."""
    kept = {key: row[key] for key in row if key.startswith("val/") and not key.startswith(OF_A_CLASS)}
    return {f"best/{key.removeprefix('val/')}": value for key, value in (*kept.items(), ("step", row["step"]))}


def checkpoint(path: Path, run_id: str) -> Any:
    """A model artifact that holds the file; it is not copied, so it has to stay until it is uploaded."""
    import wandb

    artifact = wandb.Artifact(f"checkpoint-{run_id}", type="model")
    artifact.add_file(str(path), policy="immutable")
    return artifact
