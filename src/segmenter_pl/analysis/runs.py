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

from segmenter_pl.analysis.contents import accuracies, evaluations, read_json, read_yaml, wrong_results
from segmenter_pl.analysis.logs import Row, read_metrics
from segmenter_pl.identity import numbers_changing

OF_A_RUN = ("config.yaml", "results.json", "metrics.csv", "checkpoints")
RECORDS = "imagenet"  # what `segmenter accuracy` writes
BESIDE_RUNS = ("multirun.yaml", ".submitit", RECORDS)  # the others are Hydra's
SECTIONS = ("backbone", "decoder", "optimizer", "dataset", "trainer")  # of every configuration
ASIDE = "old-seed-"  # where resume=never moves the earlier run
FIRST = 5  # of what was passed over, where there is no run


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        status: finished (results.json is there), unfinished (some progress), crashed (no progress, or broken files),
            duplicate (another directory has the same settings and seed, and counts instead).
        reason: why it is not finished, or what is wrong beside the results; empty if all is well.
        config: resolved settings. results: results.json, empty if there is none.
        rows: metrics.csv by our keys. evaluations: results.json by folder below eval/, e.g. last/ade20k-val-none.
        left_out: `path: reason` of evaluations that do not count.
    """

    folder: Path
    status: str
    reason: str
    config: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

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
    records: list[dict[str, Any]] = []
    left_out: list[str] = []
    for place in (places := list(places)):
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is no folder: give run directories, or folders with runs below them")
        _walk(place, runs, records, left_out)
    if not runs:
        told = "".join(f"\n  {line}" for line in left_out[:FIRST])
        more = f"\n  and {len(left_out) - FIRST} more" if len(left_out) > FIRST else ""
        raise ValueError(f"there is no run in {', '.join(map(str, places))}{told}{more}")
    return Found(_without_doubles(list(runs.values())), records, left_out)


def _walk(place: Path, runs: dict[Path, Run], records: list[dict[str, Any]], left_out: list[str]) -> None:
    def unreadable(error: OSError) -> None:
        left_out.append(f"{error.filename}: cannot be read ({error.strerror})")

    for path, names, files in os.walk(place, onerror=unreadable):
        names.sort(key=_natural)
        folder = Path(path)
        if any(name in OF_A_RUN for name in (*names, *files)):
            names.clear()
            if folder.resolve() not in runs:
                _take(folder, runs, left_out)
            continue
        left_out += [f"{folder / name}: belongs to no run" for name in sorted(files) if name not in BESIDE_RUNS]
        if not names and not files:
            left_out.append(f"{folder}: is empty")
        if RECORDS in names:
            records += accuracies(folder / RECORDS, left_out)
        names[:] = [name for name in names if name not in BESIDE_RUNS]


def _natural(name: str) -> list[tuple[bool, float, str]]:
    """Names in the order that people expect: 50 before 100."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(i % 2 == 0, float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


def _take(folder: Path, runs: dict[Path, Run], left_out: list[str]) -> None:
    run = read_run(folder)
    if isinstance(run, str):
        left_out.append(f"{folder}: {run}")
    else:
        runs[folder.resolve()] = run
        left_out += run.left_out


def read_run(folder: Path) -> Run | str:
    """One run directory, or the reason why it is none of ours. Never raises for what is in the files."""
    wrong: list[str] = []
    results, config = read_json(folder / "results.json", wrong), read_yaml(folder / "config.yaml", wrong)
    if results and "best" not in results and "val" in results:
        return "is an evaluation, not a training"
    config = results.get("config") or config
    if why := _foreign(config, wrong):
        return why
    if results and (why := wrong_results(results)):
        wrong.append(why)
    rows: list[Row] = []
    if (folder / "metrics.csv").exists():
        try:
            rows = read_metrics(folder / "metrics.csv")
        except (ValueError, OSError) as error:
            wrong.append(str(error).removeprefix(f"{folder}{os.sep}"))
    broken: list[str] = []
    views = evaluations(folder / "eval", broken)
    run = Run(folder, "crashed", "; ".join(wrong), config, rows=rows, evaluations=views, left_out=broken)
    return run if wrong else _with_state(run, results)


def _with_state(run: Run, results: dict[str, Any]) -> Run:
    """The run as finished, unfinished or crashed, by its readable files and its checkpoints."""
    checkpoints = sorted((run.folder / "checkpoints").glob("*.ckpt"))
    cut = [path.name for path in checkpoints if not zipfile.is_zipfile(path)]
    if results:
        return replace(run, status="finished", results=results, reason=f"{', '.join(cut)} cut off" if cut else "")
    if run.rows or len(cut) < len(checkpoints):
        total = run.config["trainer"].get("max_steps")
        done = f"step {run.steps} of {total}" if run.rows else f"a checkpoint but no logged step of {total}"
        return replace(run, status="unfinished", reason=done)
    return replace(run, reason=f"no progress: {', '.join(cut)} cut off" if cut else "no progress")


def _foreign(config: Any, wrong: list[str]) -> str:
    """Why settings are none of a run of ours; empty if they are."""
    if not isinstance(config, Mapping) or not config or (wrong and not set(config).issuperset(SECTIONS)):
        return "; ".join(wrong) or "has no settings (neither config.yaml nor results.json)"
    if lacking := [key for key in SECTIONS if not isinstance(config.get(key), Mapping)]:
        return f"was not made by this project: its settings lack {', '.join(lacking)}"
    try:
        numbers_changing(config)
    except RecursionError as error:  # YAML can say that a mapping holds itself
        return f"its settings hold something odd ({error})"
    return ""


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
