"""What an evaluation says and leaves behind: results.json, classes.csv, the confusion matrix, and lines for people."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmenter_pl.evaluation.confusion import confusion_csv, confusion_picture
from segmenter_pl.files import write_atomically
from segmenter_pl.report import command, left_out, shown, versions

if TYPE_CHECKING:
    from segmenter_pl.evaluation.task import EvaluationTask
    from segmenter_pl.models.segmenter import ModelSpec

# Settings of a dataset that an evaluation does not look at, or that its own settings stand for.
TRAINING_KEYS = (
    *("batch_size", "cache", "cat_max_ratio", "crop", "max_ratio", "max_steps", "num_workers", "photometric"),
    *("rare_temperature", "sampling", "scale", "sgd_lr", "short_side", "stride", "train_images", "train_split"),
    *("val_every", "window"),
)
FOREGROUND_HEADS = {"mae": "MAE", "iou": "IoU", "max_f": "max F", "curve_max_f": "max F of mean curves", "ber": "BER"}


def evaluation_folder(checkpoint: Path, config: dict[str, Any], spec: ModelSpec, trained: Mapping[str, Any]) -> Path:
    """`eval/<checkpoint>/<dataset>-<split>-<tta>` in a run directory, or beside a checkpoint that stands alone.

    What is unlike the training (window, stride, short side, precision, the data), and a fraction of the split, is part
    of the name, so that results do not mix.

    Args:
        config: of the evaluation, resolved. spec: of the model. trained: dataset settings in the checkpoint, or empty.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    views = ("window", "stride", "short_side")
    others = [f"-{key}{config[key]}" for key in views if config[key] not in ("auto", getattr(spec, key))]
    others += [f"-fraction{config['fraction']}"] if config["fraction"] != 1 else []
    precision = config["trainer"]["precision"]
    others += [f"-{precision}"] if precision != "32-true" else []
    data = _shown_data(config["dataset"])
    if trained and data != _shown_data(trained):
        others.append("-" + hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:8])
    name = f"{config['dataset']['name']}-{config['split']}-{config['tta']}{''.join(others)}"
    return (folder.parent if folder.name == "checkpoints" else folder) / "eval" / checkpoint.stem / name


def _shown_data(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about the pictures and labels that an evaluation sees; folders count by their own name."""
    kept = {key: value for key, value in dataset.items() if key not in TRAINING_KEYS and value is not None}
    return kept | {key: Path(kept[key]).name for key in ("root", "classes_file") if key in kept}


def write_evaluation(task: EvaluationTask, config: dict[str, Any], folder: Path) -> None:
    """`results.json`, `classes.csv`, `confusion.csv`, `confusion.png` of an evaluation; without labels the first."""
    made_by = {"config": config, "command": command(), "versions": versions(), "faults": task.faults}
    made_by["speed"] = task.speed
    results = (json.dumps({**task.results, **made_by}, indent=2) + "\n").encode()
    if not task.labelled:
        write_atomically(folder / "results.json", results)
        return
    picture, confusion = io.BytesIO(), task.confusion.numpy()
    confusion_picture(confusion, task.class_names).save(picture, format="PNG")
    files = {
        "results.json": results,
        "classes.csv": _classes_csv(task.results["classes"]).encode(),
        "confusion.csv": confusion_csv(confusion, task.class_names).encode(),
        "confusion.png": picture.getvalue(),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)


def _classes_csv(classes: dict[str, dict[str, float | None]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    keys = list(next(iter(classes.values())))
    table.writerow(["class", *keys])
    table.writerows([name, *("" if row[key] is None else row[key] for key in keys)] for name, row in classes.items())
    return text.getvalue()


def class_table(results: dict[str, Any]) -> str:
    """Values by class as aligned lines; a dash where a class does not occur."""
    heads = {"iou": "IoU", "accuracy": "accuracy", "boundary_iou": "boundary IoU", "pixel_share": "pixels"}
    width = max(len("class"), *(len(name) for name in results["classes"]))
    lines = [f"{'class':<{width}}  " + "  ".join(heads.values())]
    for name, row in results["classes"].items():
        cells = (f"{shown_number(row[key]):<{len(head)}}" for key, head in heads.items())
        lines.append(f"{name:<{width}}  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def evaluation_lines(task: EvaluationTask, folder: Path) -> str:
    """The result, the objects by size, of two classes the second one, what was left out, where it was written."""
    results = task.results
    written = f"{left_out(task.faults)}Written to {shown(folder)}: " + " ".join(
        sorted(p.name for p in folder.iterdir())
    )
    if not task.labelled:
        return f"{results['pictures']} pictures of a split without labels\n{written}"
    val = results["val"]
    sizes = (f"{name} {shown_number(one['miou'])} ({one['objects']})" for name, one in results["object_sizes"].items())
    return (
        f"mIoU {val['miou']:.4f}, pixel accuracy {val['pixel_accuracy']:.4f}, "
        f"mean accuracy {val['mean_accuracy']:.4f}, loss {val['loss']:.4f}, "
        f"boundary IoU {results['boundary_iou']:.4f}, calibration error {results['expected_calibration_error']:.4f}\n"
        f"mIoU by size of object (number): {', '.join(sizes)}\n"
        f"{_foreground_lines(results['foreground']) if 'foreground' in results else ''}"
        f"{written}"
    )


def _foreground_lines(foreground: dict[str, Any]) -> str:
    """A line about all pictures; where some hold the class and some do not, one about each kind too."""
    kinds = {"all": "all", "with": "those with it", "without": "those without"}
    mixed = foreground["with"]["pictures"] and foreground["without"]["pictures"]
    lines = []
    for kind in kinds if mixed else ("all",):
        one = foreground[kind]
        mean, pooled = (
            [f"{name} {shown_number(one[way][key])}" for key, name in FOREGROUND_HEADS.items() if key in one[way]]
            for way in ("per_picture", "pooled")
        )
        name = f"{foreground['class']}, mean of {kinds[kind]} ({one['pictures']})"
        lines.append(f"{name}: {', '.join(mean)}; pixels pooled: {', '.join(pooled)}\n")
    return "".join(lines)


def shown_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
