"""The values that a training logged: our metrics.csv, the official log.txt, MMSegmentation's JSON lines.

Whoever wrote them, the keys are ours (`step`, `train/loss`, `val/miou` …) and rates are fractions, not per cent.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, float]

# Theirs → ours. The official code writes per cent, and so does MMSegmentation 1.x; 0.x writes fractions.
OFFICIAL = {
    "num_updates": "step",
    "train_loss": "train/loss",
    "train_learning_rate": "lr/encoder",
    "val_mean_iou": "val/miou",
    "val_pixel_accuracy": "val/pixel_accuracy",
    "val_mean_accuracy": "val/mean_accuracy",
}
MMSEG = {
    "iter": "step",
    "loss": "train/loss",
    "lr": "lr/encoder",
    "mIoU": "val/miou",
    "aAcc": "val/pixel_accuracy",
    "mAcc": "val/mean_accuracy",
}
LOGS = ("metrics.csv", "log.txt", "*.log.json", "vis_data/scalars.json", "*/vis_data/scalars.json")
CLASS_IOU = "IoU."  # of MMSegmentation, before a class's name


def our_key(key: str) -> str:
    """Our name of a key, by whichever name it was asked for: `val_mean_iou` and `mIoU` are `val/miou`."""
    if key.startswith(CLASS_IOU):
        return f"val/iou/{key.removeprefix(CLASS_IOU)}"
    return OFFICIAL.get(key) or MMSEG.get(key, key)


def read_log(path: Path, left_out: list[str] | None = None) -> list[Row]:
    """The logged rows of a run directory, or of one file, in the order of the file; a row lacks what it did not log.

    Args:
        left_out: where given, it gets `path: reason` of other logs in the folder that do not count.
    Raises:
        FileNotFoundError: there is no such file, or no log in the folder.
        ValueError: a file is none of the known logs, or there is no row.
    """
    if path.is_dir():
        rows = _joined(path, [] if left_out is None else left_out)
    elif path.is_file():
        rows = _rows(path)
    else:
        raise FileNotFoundError(f"{path} does not exist: give a run directory or a log file")
    if not rows:
        raise ValueError(f"{path} holds no row of numbers yet")
    return rows


def _rows(path: Path) -> list[Row]:
    return read_metrics(path) if path.suffix == ".csv" else list(_json_rows(path))


def _joined(folder: Path, left_out: list[str]) -> list[Row]:
    """The rows of a folder's logs. MMSegmentation writes a file for each start of a training: of steps that were done
    twice the later start counts."""
    kinds = [found for name in LOGS if (found := sorted(folder.glob(name)))]  # names hold the time of the start
    if not kinds:
        raise FileNotFoundError(f"{folder} holds no log: there is no {', '.join(LOGS)}")
    counted, *others = kinds
    left_out += [f"{path}: {counted[0].name} beside it counts" for paths in others for path in paths]
    rows: list[Row] = []
    before: list[Path] = []
    for path in counted:
        if not (later := _rows(path)):
            left_out.append(f"{path}: holds no row of numbers")
            continue
        begins = min([row["step"] for row in later if row.keys() >= {"step", "train/loss"}], default=math.inf)
        kept = [row for row in rows if row.get("step", 0) < begins]
        if not kept:
            left_out += [f"{one}: {path.relative_to(folder)} begins again, at step {begins:g}" for one in before]
            before = []
        rows = kept + later
        before.append(path)
    return rows


def holds_log(folder: Path) -> bool:
    """Whether a folder is the run directory of one of the implementations."""
    return any(any(folder.glob(name)) for name in LOGS)


def read_metrics(path: Path) -> list[Row]:
    """The rows of metrics.csv; the last line counts only if it is whole. Raises ValueError for anything else."""
    data = path.read_bytes()
    text = data[: data.rfind(b"\n") + 1].decode(errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    try:
        for row in reader:
            rows.append({key: float(value) for key, value in row.items() if value})
            if not math.isfinite(rows[-1].get("step", math.nan)):
                raise ValueError("no step")
    except (TypeError, ValueError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: no row of numbers with a step ({error})") from error
    return rows


def _json_rows(path: Path) -> Iterator[Row]:
    step = 0.0  # of the latest training row: validations of MMSegmentation count pictures, or nothing
    for entry in _json_lines(path):
        if "num_updates" in entry or "train_loss" in entry or "val_mean_iou" in entry:
            yield _renamed(entry, OFFICIAL, percent=True)
        elif "mIoU" in entry or "aAcc" in entry:
            old = "mode" in entry  # MMSegmentation 0.x
            row = _renamed(entry, MMSEG, percent=not old)
            own = row.get("step", 0.0)
            yield row | {"step": step or own if old else own or step}
        elif row := _renamed(entry, MMSEG, percent=False):
            step = row.get("step", step)
            yield row


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects, one a line; what describes the run and not a step, and a last line that is cut off, are left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line or "{}")
        except ValueError:
            if 1 < number == len(lines):
                return
            entry = None
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, line {number}: no JSON object; give a log with one JSON object a line")
        if "env_info" not in entry:  # the first line of MMSegmentation 0.x
            yield entry


def _renamed(entry: Mapping[str, Any], names: Mapping[str, str], *, percent: bool) -> Row:
    """The numbers of an entry by our keys; nested ones as `outer/inner`."""
    row = {}
    for key, value in _flat(entry):
        ours = names.get(key) or (our_key(key) if key.startswith(CLASS_IOU) else key)
        rate = percent and ours.startswith("val/")
        row[ours] = value / 100 if rate else value
    return row


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, float(value)
