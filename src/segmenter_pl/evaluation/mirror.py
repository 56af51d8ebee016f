"""An evaluation as a run of Weights & Biases, beside the training that made the checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segmenter_pl.evaluation.confusion import confusion_picture
from segmenter_pl.evaluation.task import EvaluationTask
from segmenter_pl.loggers import Wandb


def log_evaluation(
    task: EvaluationTask, config: dict[str, Any], folder: Path, trained: Mapping[str, Any], *, project: str
) -> None:
    """One row of results and the confusion matrix; made again in the same folder, it is the same run.

    Args:
        task: after its pass over labelled pictures. config: of the evaluation, resolved. folder: what it wrote.
        trained: the training's configuration, whose name is the group; empty for other implementations' checkpoints.
    """
    name = "/".join(folder.absolute().parts[-2:])  # checkpoint and view
    tags = [config["dataset"]["name"], config["tta"]]
    logger = Wandb(folder, project=project, group=trained.get("name"), job_type="eval", name=name, tags=tags)
    logger.log_hyperparams(config)
    logger.begin(0, {})
    picture = confusion_picture(task.confusion.numpy(), task.class_names)
    logger.log_image("val/confusion", np.asarray(picture), 1)
    logger.log_metrics(_row(task.results), 1)
    logger.finish(0)


def _row(results: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of results.json by the names of a training's; what cannot be measured is left out."""
    val = results["val"]
    row = {f"val/{key}": value for key, value in val.items() if key != "classes"}
    row |= {f"val/iou/{name}": value for name, value in val["classes"].items()}
    row |= {f"val/{key}": results[key] for key in ("boundary_iou", "expected_calibration_error")}
    row |= {f"val/miou_{size}": one["miou"] for size, one in results["object_sizes"].items()}
    return {key: float(value) for key, value in row.items() if value is not None}
