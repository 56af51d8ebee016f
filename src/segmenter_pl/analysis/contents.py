"""What the files of runs hold, checked; nothing here raises for what is in them: reasons are told in lists."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml


def read_json(path: Path, wrong: list[str]) -> dict[str, Any]:
    """The content, empty if there is no file; what is no JSON object goes into `wrong`."""
    return _mapping(path, json.loads, wrong)


def read_yaml(path: Path, wrong: list[str]) -> dict[str, Any]:
    """The same of YAML, of plain values only."""
    return _mapping(path, yaml.safe_load, wrong)


def _mapping(path: Path, parse: Callable[[str], Any], wrong: list[str]) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        wrong.append(f"{path.name} cannot be read ({' '.join(str(error).split())[:80]})")
        return {}
    if not isinstance(content, dict):
        wrong.append(f"{path.name} is empty" if content is None else f"{path.name} holds a {type(content).__name__}")
        return {}
    return content


def wrong_results(results: Mapping[str, Any]) -> str:
    """Why the results.json of a training does not count; empty if it does."""
    for key in ("val", "best"):
        if why := _wrong_scores(results.get(key)):
            return f"results.json: {key} {why}"
    for key in ("steps", "parameters"):
        number = results.get(key, 0 if key == "parameters" else None)  # older runs did not count theirs
        if type(number) is not int or number < 0:
            return f"results.json: {key} is {number!r}"
    return ""


def _wrong_scores(scores: Any) -> str:
    if not isinstance(scores, Mapping):
        return "is missing" if scores is None else f"is a {type(scores).__name__}"
    if not is_fraction(miou := scores.get("miou")):
        return f"has no miou between 0 and 1, but {miou!r}"
    classes = scores.get("classes", {})
    if not isinstance(classes, Mapping):
        return f"has classes as a {type(classes).__name__}, and not an IoU by name"
    odd = [name for name, iou in classes.items() if iou is not None and not is_fraction(iou)]
    return f"has an IoU of {classes[odd[0]]!r} for {odd[0]}" if odd else ""


def is_fraction(number: Any) -> bool:
    """Whether it is a number from 0 to 1; true, NaN and per cent are none."""
    return type(number) in (int, float) and math.isfinite(number) and 0 <= number <= 1


def evaluations(folder: Path, wrong: list[str]) -> dict[str, dict[str, Any]]:
    """The results.json of evaluations below eval/, by checkpoint and view; those of splits without labels are none."""
    found = {}
    for path in sorted(folder.glob("*/*/results.json")):
        faults: list[str] = []
        content = read_json(path, faults)
        unlabelled = "val" not in content and "pictures" in content
        if faults := faults or ([] if unlabelled else _wrong_parts(content)):
            wrong.append(f"{path}: {faults[0]}")
        elif not unlabelled:
            found[path.parent.relative_to(folder).as_posix()] = content
    return found


def _wrong_parts(content: Mapping[str, Any]) -> list[str]:
    if why := _wrong_scores(content.get("val")):
        return [f"val {why}"]
    for key in ("object_sizes", "speed"):
        if not isinstance(content.get(key, {}), Mapping):
            return [f"{key} is a {type(content[key]).__name__}"]
    return []


def accuracies(folder: Path, wrong: list[str]) -> list[dict[str, Any]]:
    """Backbone and top1 of each record that `segmenter accuracy` wrote into a folder."""
    found = []
    for path in sorted(folder.glob("*")):
        faults: list[str] = []
        record = read_json(path, faults) if path.suffix == ".json" else {}
        backbone, top1 = record.get("backbone"), record.get("top1")
        if path.suffix != ".json":
            wrong.append(f"{path}: is no record of segmenter accuracy")
        elif faults:
            wrong.append(f"{path}: {faults[0]}")
        elif isinstance(backbone, str) and is_fraction(top1):
            found.append({"backbone": backbone, "top1": top1})
        else:
            wrong.append(f"{path}: needs backbone and top1 from 0 to 1, and has {backbone!r} and {top1!r}")
    return found
