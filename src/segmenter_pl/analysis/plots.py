"""Plots over runs: mIoU over speed, over the size of the dataset, by class, and as a heat map of a sweep."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from segmenter_pl.analysis.drawing import drawn, faint_grid, look
from segmenter_pl.analysis.published import Published, facts
from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import differing, option, value_of
from segmenter_pl.analysis.tables import value

MOST_CLASSES = 40
MIOU = "validation mIoU (fraction)"
OTHERS = "other methods"
Groups = dict[str, dict[str, list[tuple[float, float]]]]  # (speed, mIoU) by series and model
SPEED = "images_per_second_v100_512"  # as published


def draw_speed(runs: Sequence[Run], published: Sequence[Published], path: Path) -> None:
    """mIoU of the last weights over training speed, a line for each decoder and patch size (the paper's Figure 4).

    Args:
        published: rows whose inference speed on a V100 and single-scale mIoU make a panel of their own, since that is
            another speed; may be empty.
    Raises: ValueError where there is nothing to draw.
    """
    ours: Groups = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if (rate := value(run, "images_per_second")) is not None:
            fact = facts(run)
            kind = _series(fact["decoder"], fact["backbone"], fact["patch_size"])
            ours[kind][fact["backbone"]].append((rate, value(run, "miou")))
    theirs: Groups = defaultdict(lambda: defaultdict(list))
    for row in published:
        if {SPEED, "miou_ss"} <= row.values.keys():
            known = bool(row.patch_size)
            kind = _series(row.decoder, row.backbone, row.patch_size) if known else OTHERS
            named = theirs[kind][row.backbone if known else f"{row.method} {row.backbone}"]
            named[:] = named or [(row.values[SPEED], row.values["miou_ss"])]  # tables repeat models: the first counts
    panels = [(ours, "Trained here", "training speed (images/s)")] if ours else []
    panels += [(theirs, "Published, ADE20K", "inference speed on a V100, 512×512 (images/s)")] if theirs else []
    if not panels:
        raise ValueError("no run has logged train/images_per_second: there is no speed to draw")
    kinds = sorted({kind for groups, _, _ in panels for kind in groups})
    with drawn(path, 6.4 * len(panels), 4.6, panels=len(panels)) as all_axes:
        for axes, (groups, title, label) in zip(all_axes, panels, strict=True):
            for kind, models in sorted(groups.items()):
                style = {"color": "0.5", "marker": "*", "linestyle": "none"}
                style = style if kind == OTHERS else look(kinds.index(kind))
                points = sorted((*_middle(values), name) for name, values in models.items())
                axes.plot([p[0] for p in points], [p[1] for p in points], **style, label=kind)
                side = {"xytext": (-4, 5), "ha": "right"} if kind == OTHERS else {"xytext": (5, 5)}
                for x, y, name in points:
                    axes.annotate(name, (x, y), textcoords="offset points", fontsize=8, **side)
            axes.set(title=title, xlabel=label, ylabel=MIOU, xscale="log")
            axes.margins(x=0.22, y=0.12)
            _plain_ticks(axes)
            faint_grid(axes)
            axes.legend(fontsize=8)


def _series(decoder: str, backbone: str, patch: Any) -> str:
    return f"{decoder} decoder, {backbone.partition('_')[0]}/{patch}"


def _middle(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return mean(x for x, _ in values), mean(y for _, y in values)


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_dataset_size(runs: Sequence[Run], path: Path) -> None:
    """mIoU of the last weights over the number of training pictures (the paper's Table 5): each run, mean, deviation.

    Raises: ValueError where the runs have fewer than two sizes.
    """
    lines: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        parts = [option(run.config, group) for group in ("dataset", "backbone", "decoder", "optimizer")]
        if (pictures := _training_pictures(run)) is not None:
            lines[", ".join(parts)][pictures].append(value(run, "miou"))
    if len({size for sizes in lines.values() for size in sizes}) < 2:
        raise ValueError("the runs have fewer than two sizes: sweep dataset.train_images (ablation=dataset_size)")
    with drawn(path) as (axes,):
        for number, (label, sizes) in enumerate(sorted(lines.items())):
            style, xs = look(number), sorted(sizes)
            spreads = [stdev(sizes[x]) if len(sizes[x]) > 1 else 0.0 for x in xs]
            axes.errorbar(xs, [mean(sizes[x]) for x in xs], spreads, capsize=4, label=label, **style)
            singles = [(x, y) for x in xs for y in sizes[x] if len(sizes[x]) > 1]
            axes.plot([x for x, _ in singles], [y for _, y in singles], ".", color=style["color"], alpha=0.5)
        axes.set(xlabel="training pictures", ylabel=MIOU)
        axes.set_xlim(left=0)
        faint_grid(axes)
        axes.legend(fontsize=8, loc="lower right")


def _training_pictures(run: Run) -> int | None:
    """What was asked for; else the whole training set, whose size the checkpoint tells."""
    from segmenter_pl.weights.reading import read_file

    if (wanted := value_of(run.config, "dataset.train_images")) is not None:
        return int(wanted)
    try:
        return int(read_file(run.folder / "checkpoints" / "last.ckpt").data["segmenter"]["pictures"]["train"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def draw_classes(first: Run, second: Run, path: Path) -> None:
    """IoU of each class in two runs, ordered by what the second gains; of more than 40, those that differ most.

    Raises: ValueError where the runs have no class in common.
    """
    ious = [run.results["val"].get("classes") or {} for run in (first, second)]
    both = [name for name in ious[0] if ious[0][name] is not None and ious[1].get(name) is not None]
    if not both:
        raise ValueError(f"{first.folder} and {second.folder} have no class in common")
    gains = {name: ious[1][name] - ious[0][name] for name in both}
    kept = sorted(sorted(both, key=lambda name: -abs(gains[name]))[:MOST_CLASSES], key=lambda name: gains[name])
    with drawn(path, 7.0, 1.4 + 0.3 * len(kept)) as (axes,):
        for number, (run, other, one) in enumerate(zip((first, second), (second, first), ious, strict=True)):
            places = [i + (0.2 if number == 0 else -0.2) for i in range(len(kept))]
            label = f"{_told(run, other)}: mIoU {value(run, 'miou'):.4f}"
            axes.barh(places, [one[name] for name in kept], 0.38, color=look(number)["color"], label=label)
        for i, name in enumerate(kept):
            longest = max(ious[0][name], ious[1][name])
            axes.annotate(f"{gains[name]:+.3f}", (longest, i), xytext=(4, 0), textcoords="offset points",
                          va="center", fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(kept)), kept)
        axes.set(xlabel="validation IoU (fraction); number: second minus first", xlim=(0, 1.08))
        axes.set_ylim(-0.7, len(kept) - 0.3)
        if len(kept) < len(both):
            axes.set_title(f"the {len(kept)} of {len(both)} classes that differ most", fontsize=10)
        faint_grid(axes, "x")
        axes.figure.legend(loc="outside upper center", fontsize=9, frameon=False)


def _told(run: Run, other: Run) -> str:
    """How a run differs from the other one."""
    varying = differing([run.config, other.config])
    seed = f"seed {run.config['seed']}" if run.config["seed"] != other.config["seed"] else ""
    return ", ".join(filter(None, [value(run, "settings", varying), seed])) or run.folder.name


def draw_heat_map(runs: Sequence[Run], path: Path, x_key: str, y_key: str, column: str = "miou") -> None:
    """The mean of a column over two settings (the paper's Table 2), with its number in each cell; empty ones hatched.

    Args:
        x_key, y_key: groups or dotted keys of the settings. column: as of `run_table`, a number.
    Raises: ValueError where no run has both settings and the column.
    """
    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for run in runs:
        place = value_of(run.config, x_key), value_of(run.config, y_key)
        if None not in place and isinstance(number := value(run, column), int | float):
            cells[place].append(number)
    if not cells:
        raise ValueError(f"no run has {x_key}, {y_key} and {column}: there is nothing to draw")
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
        axes.set(xlabel=x_key, ylabel=y_key)
        axes.figure.colorbar(image, label=MIOU if column == "miou" else column)


def _write(axes: Any, i: int, j: int, values: Sequence[float], bright: bool) -> None:
    spread = f"\n± {stdev(values):.4f} ({len(values)})" if len(values) > 1 else ""
    axes.text(j, i, f"{mean(values):.4f}{spread}", ha="center", va="center", fontsize=9,
              color="black" if bright else "white")  # fmt: skip


def _order(one: Any) -> tuple[bool, Any]:
    """Numbers by size, before words."""
    number = isinstance(one, int | float)
    return not number, one if number else str(one)
