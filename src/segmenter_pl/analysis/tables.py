"""Runs as rows of a table, one each or one for each group; plain values, fractions not per cent."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import GROUPS, differing, flat, value_of

COLUMNS = ("name", "settings", "seed", "status", "steps", "miou", "best_miou", "pixel_accuracy")
AFTER_EVALUATIONS = ("parameters", "images_per_second")
MEASURED = ("miou", "best_miou", "pixel_accuracy", "images_per_second", "parameters", "steps")
Table = list[dict[str, Any]]


class Spread(NamedTuple):
    """The mean over some runs, and the standard deviation of the sample; None of a single run."""

    mean: float
    deviation: float | None


def run_table(runs: Sequence[Run], columns: Sequence[str] = (), *, spread_settings: bool = False) -> Table:
    """One row per run.

    Args:
        columns: names of `COLUMNS`, `AFTER_EVALUATIONS`, evaluations (last/val-none), groups and dotted keys of the
            configuration (backbone, trainer.max_steps), keys of results.json below `val`, `best` or an evaluation with
            slashes (val/classes/road, last/val-none/boundary_iou). By default the first two and all evaluations.
        spread_settings: a column for each setting that differs, instead of all of them in `settings`.

    Raises: ValueError for a column that no run has.
    """
    varying = differing([run.config for run in runs])
    chosen = list(columns or (*COLUMNS, *evaluation_columns(runs), *AFTER_EVALUATIONS))
    if spread_settings and not columns:
        at = chosen.index("settings")
        chosen[at : at + 1] = varying
    table = [{column: value(run, column, varying) for column in chosen} for run in runs]
    require_known(chosen, runs, table)
    return table


def require_known(columns: Sequence[str], runs: Sequence[Run], table: Table) -> None:
    """Raises ValueError for a column that is empty in all rows and no known name."""
    known = {*COLUMNS, *AFTER_EVALUATIONS, "run", *(key for run in runs for key in flat(run.config))}
    for column in columns:
        if column not in known and all(row[column] is None for row in table):
            more = ", ".join((*COLUMNS, *evaluation_columns(runs), *AFTER_EVALUATIONS))
            raise ValueError(
                f"{column} is no column: give {more}, a group or key of the settings (backbone, trainer.max_steps), or "
                "a key of results.json (val/loss, val/classes/NAME, last/val-none/boundary_iou)"
            )


def evaluation_columns(runs: Sequence[Run]) -> list[str]:
    """Checkpoint and view of each evaluation, the dataset's name left out where it is the training's."""
    return sorted({column for run in runs for column in _views(run)})


def _views(run: Run) -> dict[str, Mapping[str, Any]]:
    trained = f"{run.config['dataset'].get('name')}-"
    views: dict[str, Mapping[str, Any]] = {}
    for key, content in run.evaluations.items():
        checkpoint, _, view = key.partition("/")
        views[f"{checkpoint}/{view.removeprefix(trained)}"] = content
    return views


def value(run: Run, column: str, varying: Sequence[str] = ()) -> Any:
    """What a run says in a column, None if nothing; mIoU where a column is an evaluation."""
    if column in DERIVED:
        return DERIVED[column](run)
    if column == "settings":
        known = {*GROUPS, *flat(run.config)}  # what another run has and this one lacks is not told of this one
        return " ".join(f"{_short(key, varying)}={_plain(run, key)}" for key in varying if key in known)
    for name, content in _views(run).items():
        if column == name:
            return content["val"]["miou"]
        if column.startswith(f"{name}/"):
            return _below(content, column.removeprefix(f"{name}/"))
    if column.partition("/")[0] in ("val", "best"):
        return _below(run.results, column)
    return value_of(run.config, column)


def _below(content: Mapping[str, Any], path: str) -> Any:
    node: Any = content
    for part in path.split("/"):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _plain(run: Run, key: str) -> Any:
    found = value_of(run.config, key)
    text = str(found).rpartition(".")[2] if found is not None and key.endswith("_target_") else found
    return "null" if text is None else Path(str(text)).name if "/" in str(text) else text


def _short(key: str, among: Sequence[str]) -> str:
    """The last part of a key, with as many before it as tell it from the others; `_target_` goes by its owner."""
    key, *others = (one.removesuffix("._target_") for one in (key, *among))
    parts = key.split(".")
    for n in range(1, len(parts) + 1):
        short = ".".join(parts[-n:])
        if sum(one == short or one.endswith(f".{short}") for one in others) == 1:
            return short
    return key


def short_name(run: Run) -> str | None:
    """Its name; of an ablation's run without what it runs over, which the settings tell."""
    name = run.config.get("name")
    return name if name is None else re.sub(r"/([^/]*-)?[0-9a-f]{8}$", "", str(name))


def _last(run: Run, key: str) -> float | None:
    """Of the last weights: from results.json, or the latest validation of a run that goes on."""
    if run.results:
        return run.results["val"].get(key)
    found = [row[f"val/{key}"] for row in run.rows if f"val/{key}" in row]
    return found[-1] if found else None


def _best(run: Run) -> float | None:
    if run.results:
        return run.results["best"]["miou"]
    return max((row["val/miou"] for row in run.rows if "val/miou" in row), default=None)


def _rate(run: Run) -> float | None:
    """Of training, all devices together; the median, since the first steps are slower."""
    found = [row["train/images_per_second"] for row in run.rows if "train/images_per_second" in row]
    return median(found) if found else None


def parameters(run: Run) -> int | None:
    """As results.json has it; of an unfinished or older run counted in its checkpoint, None if that cannot be read."""
    if (known := run.results.get("parameters")) is not None:
        return int(known)
    from segmenter_pl.weights.reading import read_file

    for file in ("last.ckpt", "best.ckpt"):
        try:
            tensors = read_file(run.folder / "checkpoints" / file).data["state_dict"]
            return sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("model."))
        except (FileNotFoundError, ValueError, KeyError, AttributeError):
            continue
    return None


DERIVED = {
    "run": lambda run: str(run.folder),
    "name": short_name,
    "seed": lambda run: run.config.get("seed"),
    "status": lambda run: run.status,
    "steps": lambda run: run.steps,
    "miou": lambda run: _last(run, "miou"),
    "best_miou": _best,
    "pixel_accuracy": lambda run: _last(run, "pixel_accuracy"),
    "parameters": parameters,
    "images_per_second": _rate,
}


def group_table(runs: Sequence[Run], keys: Sequence[str], columns: Sequence[str] = ()) -> tuple[Table, list[str]]:
    """Finished runs, one row per group: the keys, the number of runs, and mean and deviation of what was measured.

    Args:
        keys: as columns of `run_table`; `settings` stands for everything that differs but the seed.
        columns: what to average; by default mIoU, pixel accuracy and evaluations.

    Returns: the table, and remarks on groups whose runs differ in more than the seed.
    Raises: ValueError for an unknown column, or where no run is finished.
    """
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        raise ValueError("none of the runs is finished: there is nothing to average over")
    varying = differing([run.config for run in finished])
    measured = list(columns or ("miou", "best_miou", "pixel_accuracy", *evaluation_columns(finished)))
    groups: dict[str, list[Run]] = {}
    rows = [{key: value(run, key, varying) for key in (*keys, *measured)} for run in finished]
    require_known([*keys, *measured], finished, rows)
    for run, row in zip(finished, rows, strict=True):
        groups.setdefault(repr([row[key] for key in keys]), []).append(run)
    table, remarks = [], []
    for members in groups.values():
        first = {key: value(members[0], key, varying) for key in keys}
        spreads = {column: _spread([value(run, column) for run in members], column) for column in measured}
        table.append({**first, "runs": len(members), **spreads})
        if mixed := differing([run.config for run in members]):
            named = ", ".join(f"{key}={one}" for key, one in first.items())
            remarks.append(f"{named or 'all'}: the runs differ in {', '.join(mixed)} too")
    return table, remarks


def _spread(values: Sequence[Any], column: str) -> Spread | None:
    numbers = [one for one in values if one is not None]
    if any(not isinstance(one, int | float) for one in numbers):
        raise ValueError(f"{column} holds no numbers to average ({numbers[0]!r})")
    return Spread(mean(numbers), stdev(numbers) if len(numbers) > 1 else None) if numbers else None
