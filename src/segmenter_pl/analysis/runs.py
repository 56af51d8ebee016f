"""Run directories found below folders, what state each is in, and what was passed over."""

import json
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from segmenter_pl.analysis.logs import Row, read_metrics
from segmenter_pl.identity import numbers_changing

OF_A_RUN = ("config.yaml", "results.json", "metrics.csv", "checkpoints")
BESIDE_RUNS = ("multirun.yaml", ".submitit", "imagenet")  # Hydra's, and what `segmenter accuracy` writes
SECTIONS = ("backbone", "decoder", "optimizer", "dataset", "trainer")  # of every configuration
ASIDE = "old-seed-"  # where resume=never moves the earlier run


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        status: finished (results.json is there), unfinished (some progress), crashed (no progress, or broken files),
            duplicate (another directory has the same settings and seed, and counts instead).
        reason: why it is not finished, or what is wrong beside the results; empty if all is well.
        config: resolved settings. results: results.json, empty if there is none.
        rows: metrics.csv by our keys. evaluations: results.json by folder below eval/, e.g. last/ade20k-val-none.
    """

    folder: Path
    status: str
    reason: str
    config: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Optimizer steps done, as far as the files tell."""
        return int(self.results.get("steps", self.rows[-1]["step"] if self.rows else 0))


@dataclass(frozen=True)
class Found:
    """Runs in the order of their paths; records of `segmenter accuracy`; and `path: reason` for all else."""

    runs: list[Run]
    accuracies: list[dict[str, Any]]
    left_out: list[str]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.status == "finished"]


def find_runs(places: Iterable[Path]) -> Found:
    """All runs in and below some folders.

    Raises: FileNotFoundError for a place that is no folder; ValueError where no run is found in any.
    """
    runs: dict[Path, Run] = {}
    accuracies: list[dict[str, Any]] = []
    left_out: list[str] = []
    for place in (places := list(places)):
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is no folder: give run directories, or folders with runs below them")
        for path, names, files in os.walk(place):
            names.sort(key=_natural)
            folder = Path(path)
            if any(name in OF_A_RUN for name in (*names, *files)):
                names.clear()
                if folder.resolve() not in runs:
                    _take(folder, runs, left_out)
                continue
            names[:] = [name for name in names if name not in BESIDE_RUNS or _records(folder / name, accuracies)]
            left_out += [f"{folder / name}: belongs to no run" for name in sorted(files) if name not in BESIDE_RUNS]
            if not names and not files and not (folder / "imagenet").is_dir():
                left_out.append(f"{folder}: is empty")
    if not runs:
        told = "".join(f"\n  {line}" for line in left_out[:5])
        raise ValueError(f"there is no run in {', '.join(map(str, places))}{told}")
    return Found(_without_doubles(list(runs.values())), accuracies, left_out)


def _natural(name: str) -> list[tuple[bool, float, str]]:
    """Names in the order that people expect: 50 before 100."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(i % 2 == 0, float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


def _records(folder: Path, accuracies: list[dict[str, Any]]) -> bool:
    """Reads what `segmenter accuracy` wrote; never a folder to walk into."""
    for path in sorted(folder.glob("*.json")) if folder.name == "imagenet" else ():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            accuracies.append({"backbone": str(record["backbone"]), "top1": float(record["top1"])})
        except (ValueError, KeyError, TypeError):
            continue
    return False


def _take(folder: Path, runs: dict[Path, Run], left_out: list[str]) -> None:
    run = read_run(folder)
    if isinstance(run, str):
        left_out.append(f"{folder}: {run}")
    else:
        runs[folder.resolve()] = run


def read_run(folder: Path) -> Run | str:
    """One run directory, or the reason why it is none of ours. Never raises for what is in the files."""
    wrong: list[str] = []
    results, config = _json(folder / "results.json", wrong), _yaml(folder / "config.yaml", wrong)
    if results and "best" not in results and "val" in results:
        return "is an evaluation, not a training"
    config = results.get("config") or config
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in SECTIONS):
        if wrong or not config:
            return "; ".join(wrong) or "has no settings (neither config.yaml nor results.json)"
        return "was not made by this project: its settings lack " + ", ".join(k for k in SECTIONS if k not in config)
    try:
        numbers_changing(config)
    except (TypeError, ValueError) as error:
        return f"its settings hold something odd ({error})"
    if results and not _complete(results):
        wrong.append("results.json lacks val, best or steps")
    rows: list[Row] = []
    if (folder / "metrics.csv").exists():
        try:
            rows = read_metrics(folder / "metrics.csv")
        except (ValueError, OSError) as error:
            wrong.append(str(error).removeprefix(f"{folder}{os.sep}"))
    checkpoints = sorted((folder / "checkpoints").glob("*.ckpt"))
    cut = [path.name for path in checkpoints if not zipfile.is_zipfile(path)]
    run = Run(folder, "crashed", "; ".join(wrong), config, rows=rows)
    run = replace(run, evaluations=_evaluations(folder / "eval"))
    if wrong:
        return run
    if results:
        return replace(run, status="finished", results=results, reason=f"{', '.join(cut)} cut off" if cut else "")
    if rows or len(cut) < len(checkpoints):
        total = config["trainer"].get("max_steps")
        done = f"step {run.steps} of {total}" if rows else f"a checkpoint but no logged step of {total}"
        return replace(run, status="unfinished", reason=done)
    return replace(run, reason=f"no progress: {', '.join(cut)} cut off" if cut else "no progress")


def _complete(results: Mapping[str, Any]) -> bool:
    parts = [results.get(key) for key in ("val", "best")]
    scored = all(isinstance(one, dict) and isinstance(one.get("miou"), int | float) for one in parts)
    return scored and isinstance(results.get("steps"), int)


def _json(path: Path, wrong: list[str]) -> dict[str, Any]:
    """The content, empty if there is no file; what is no JSON object goes into `wrong`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        wrong.append(f"{path.name} cannot be read ({str(error).splitlines()[0]})")
        return {}
    if not isinstance(content, dict):
        wrong.append(f"{path.name} holds a {type(content).__name__}")
        return {}
    return content


def _yaml(path: Path, wrong: list[str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValueError, OSError) as error:
        wrong.append(f"{path.name} cannot be read ({' '.join(str(error).split())[:80]})")
        return {}
    if not isinstance(content, dict):
        wrong.append(f"{path.name} is empty" if content is None else f"{path.name} holds a {type(content).__name__}")
        return {}
    return content


def _evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """By checkpoint and view; those that hold no mIoU (no labels, broken) are none."""
    found = {}
    for path in sorted(folder.glob("*/*/results.json")):
        content = _json(path, [])
        if isinstance(content.get("val"), dict) and isinstance(content["val"].get("miou"), int | float):
            found[path.parent.relative_to(folder).as_posix()] = content
    return found


def _without_doubles(runs: list[Run]) -> list[Run]:
    """Of those with the same settings and seed one counts: finished before others, then the one with more steps."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, run in enumerate(runs):
        if run.status != "crashed":
            leaves = {"seed": run.config.get("seed"), **numbers_changing(run.config)}
            same[json.dumps(leaves, sort_keys=True, default=str)].append(i)
    for group in same.values():
        first, *others = sorted(group, key=lambda i: _worth(runs[i]))
        for i in others:
            aside = ", moved aside by resume=never" if runs[i].folder.name.startswith(ASIDE) else ""
            reason = f"same settings and seed as {runs[first].folder}{aside}"
            runs[i] = replace(runs[i], status="duplicate", reason=reason)
    return runs


def _worth(run: Run) -> tuple[Any, ...]:
    return run.status != "finished", run.folder.name.startswith(ASIDE), -run.steps, str(run.folder)
