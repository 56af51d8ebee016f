"""Plots of a sweep: mIoU over the size of the dataset, and as a heat map over two settings."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from segmenter_pl.analysis.drawing import Legend, drawn, faint_grid, look
from segmenter_pl.analysis.plots import MIOU
from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import differing, option, value_of
from segmenter_pl.analysis.tables import value

SIZE = "dataset.train_images"
NAMED = ("dataset", "backbone", "decoder", "optimizer")  # in the label of a line
AXES = {"backbone.dropout": "dropout", "backbone.drop_path_rate": "stochastic depth"}


def draw_dataset_size(runs: Sequence[Run], path: Path) -> list[str]:
    """mIoU of the last weights over the number of training pictures (the paper's Table 5): each run, mean, deviation.

    A line for all runs that differ in size and seed alone.

    Returns: `path: reason` of runs that do not tell their size.
    Raises: ValueError where the runs have fewer than two sizes.
    """
    sizes_of = {run.folder: size for run in runs if (size := _training_pictures(run)) is not None}
    counted = [run for run in runs if run.folder in sizes_of]
    varying = [key for key in differing([run.config for run in counted]) if key not in (SIZE, *NAMED)]
    lines: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in counted:
        parts = [*(option(run.config, group) for group in NAMED), value(run, "settings", varying)]
        lines[", ".join(filter(None, parts))][sizes_of[run.folder]].append(value(run, "miou"))
    if len({size for sizes in lines.values() for size in sizes}) < 2:
        raise ValueError("the runs have fewer than two sizes: sweep dataset.train_images (ablation=dataset_size)")
    legend = Legend.of(sorted(lines))
    with drawn(path, height=4.2 + legend.height) as (axes,):
        for number, (label, key) in enumerate(zip(legend.labels, sorted(lines), strict=True)):
            sizes = lines[key]
            style, xs = look(number), sorted(sizes)
            spreads = [stdev(sizes[x]) if len(sizes[x]) > 1 else 0.0 for x in xs]
            axes.errorbar(xs, [mean(sizes[x]) for x in xs], spreads, capsize=4, label=label, **style)
            singles = [(x, y) for x in xs for y in sizes[x] if len(sizes[x]) > 1]
            axes.plot([x for x, _ in singles], [y for _, y in singles], ".", color=style["color"], alpha=0.5)
        axes.set(xlabel="training pictures", ylabel=MIOU)
        axes.set_xlim(left=0)
        faint_grid(axes)
        legend.draw([axes])
    told = "its checkpoint, which tells the number of training pictures, cannot be read"
    return [f"{run.folder}: {told}" for run in runs if run not in counted]


def _training_pictures(run: Run) -> int | None:
    """What was asked for; else the whole training set, whose size the checkpoint tells."""
    from segmenter_pl.weights.reading import read_file

    if (wanted := value_of(run.config, SIZE)) is not None:
        return int(wanted)
    try:
        return int(read_file(run.folder / "checkpoints" / "last.ckpt").data["segmenter"]["pictures"]["train"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def draw_heat_map(runs: Sequence[Run], path: Path, x_key: str, y_key: str, column: str = "miou") -> list[str]:
    """The mean of a column over two settings (the paper's Table 2), with its number in each cell; empty ones hatched.

    Args:
        x_key, y_key: groups or dotted keys of the settings. column: as of `run_table`, a number.
    Returns: `path: reason` of runs that lack one of them.
    Raises: ValueError where no run has both settings and the column, or the runs differ in more than these and the
        seed, so that a mean would be of unlike runs.
    """
    cells, left_out = _cells(runs, x_key, y_key, column)
    columns, rows = (sorted({place[i] for place in cells}, key=_order) for i in (0, 1))
    grid = [[mean(cells[x, y]) if (x, y) in cells else float("nan") for x in columns] for y in rows]
    known = [number for row in grid for number in row if number == number]
    with drawn(path, 2.6 + 1.1 * len(columns), 1.8 + 0.75 * len(rows)) as (axes,):
        axes.patch.set(hatch="///", edgecolor="0.7", facecolor="white")
        image = axes.imshow(grid, cmap="cividis", aspect="auto")
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                if (x, y) in cells:
                    _write(axes, i, j, cells[x, y], (grid[i][j] - min(known)) > 0.5 * (max(known) - min(known)))
        axes.set_xticks(range(len(columns)), [str(x) for x in columns])
        axes.set_yticks(range(len(rows)), [str(y) for y in rows])
        axes.set(xlabel=AXES.get(x_key, x_key), ylabel=AXES.get(y_key, y_key))
        axes.figure.colorbar(image, label=MIOU if column == "miou" else column)
    return left_out


def _cells(
    runs: Sequence[Run], x_key: str, y_key: str, column: str
) -> tuple[dict[tuple[Any, Any], list[float]], list[str]]:
    """Numbers by place, and what lacks one; raises as `draw_heat_map`."""
    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    counted, left_out = [], []
    for run in runs:
        place, number = (value_of(run.config, x_key), value_of(run.config, y_key)), value(run, column)
        if lacking := [key for key, one in zip((x_key, y_key, column), (*place, number), strict=True) if one is None]:
            left_out.append(f"{run.folder}: has no {', '.join(lacking)}")
            continue
        if type(number) not in (int, float):
            raise ValueError(f"{column} is no number ({number!r}): give a column of numbers")
        cells[place].append(number)
        counted.append(run)
    if not cells:
        raise ValueError(f"no run has {x_key}, {y_key} and {column}: there is nothing to draw")
    if more := [key for key in differing([run.config for run in counted]) if key not in (x_key, y_key)]:
        raise ValueError(
            f"the runs differ in {', '.join(more)} beside {x_key} and {y_key}, and their mean would say nothing: give "
            "the folder of one sweep"
        )
    return cells, left_out


def _write(axes: Any, i: int, j: int, values: Sequence[float], bright: bool) -> None:
    spread = f"\n± {stdev(values):.4f} ({len(values)})" if len(values) > 1 else ""
    axes.text(j, i, f"{mean(values):.4f}{spread}", ha="center", va="center", fontsize=9,
              color="black" if bright else "white")  # fmt: skip


def _order(one: Any) -> tuple[bool, Any]:
    """Numbers by size, before words."""
    number = isinstance(one, int | float)
    return not number, one if number else str(one)
