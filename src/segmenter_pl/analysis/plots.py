"""Plots over runs: mIoU over speed, and by class between two runs."""

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from segmenter_pl.analysis.drawing import Legend, drawn, faint_grid, look, marks_of, plain_log_ticks
from segmenter_pl.analysis.matching import Published, facts
from segmenter_pl.analysis.runs import Run
from segmenter_pl.analysis.settings import differing
from segmenter_pl.analysis.tables import evaluation_columns, value

MOST_CLASSES = 40
LETTERS = 85  # of a line above the bars
MIOU = "validation mIoU (fraction)"
OTHERS = "other methods"
PUBLISHED = ", published"  # ends the names of series that stand among ours
Groups = dict[str, dict[str, list[tuple[float, float]]]]  # (speed, mIoU) by series and model
SPEED = "images_per_second_v100_512"  # as published
TRAINING = "training"  # whose speed
EVALUATED = "last/val-none"  # the evaluation that the paper's figure is about
WIDTH = 6.4  # of a panel, inches


def draw_speed(runs: Sequence[Run], published: Sequence[Published], path: Path, of: str | None = None) -> list[str]:
    """mIoU over speed, a line for each decoder, patch size, and whatever else the runs differ in (the paper's
    Figure 4). Runs that differ in their seed alone are one point.

    Args:
        published: rows with an inference speed on a V100 and a single-scale mIoU, among the evaluations, or as a panel
            of their own beside training speeds; may be empty.
        of: training (mIoU of the last weights), or an evaluation by its column; by default last/val-none where a run
            has its speed.
    Returns: `path: reason` of runs that have no such speed.
    Raises: ValueError where there is nothing to draw.
    """
    if of is None:
        of = EVALUATED if any(value(run, f"{EVALUATED}/speed/images_per_second") for run in runs) else TRAINING
    columns = ("images_per_second", "miou") if of == TRAINING else (f"{of}/speed/images_per_second", of)
    points = {run.folder: (value(run, columns[0]), value(run, columns[1])) for run in runs}
    counted = [run for run in runs if None not in points[run.folder]]
    lacking = [f"{run.folder}: no speed of {of} was recorded" for run in runs if run not in counted]
    if not counted and not (published and of == TRAINING):
        known = ", ".join((TRAINING, *evaluation_columns(runs)))
        raise ValueError(f"no run has a speed of {of}: there is nothing to draw; there is {known}, and python eval.py "
                         "records the speed of an evaluation")  # fmt: skip
    ours: Groups = defaultdict(lambda: defaultdict(list))
    varying = [key for key in differing([run.config for run in counted]) if key not in ("backbone", "decoder")]
    for run in counted:
        fact = facts(run)
        kind = series(fact["decoder"], fact["backbone"], fact["patch_size"])
        kind = ", ".join(filter(None, [kind, value(run, "settings", varying)]))
        ours[kind][fact["backbone"]].append(points[run.folder])
    theirs = published_speeds(published)
    if of == TRAINING:
        panels = [(ours, "Trained here", "training speed (images/s)")] if ours else []
        draw_panels([*panels, theirs] if published else panels, path)
        return lacking
    title, label = f"Evaluated here ({of})", "inference speed (images/s)"
    if published:
        ours |= {kind if kind == OTHERS else f"{kind}{PUBLISHED}": models for kind, models in theirs[0].items()}
        title, label = f"{title}, and published", f"{label}; published: V100, 512×512"
    draw_panels([(ours, title, label)], path)
    return lacking


def published_speeds(published: Sequence[Published]) -> tuple[Groups, str, str]:
    """A panel of the rows that have an inference speed on a V100 and a single-scale mIoU."""
    groups: Groups = defaultdict(lambda: defaultdict(list))
    for row in published:
        if {SPEED, "miou_ss"} <= row.values.keys():
            known = bool(row.patch_size)
            kind = series(row.decoder, row.backbone, row.patch_size) if known else OTHERS
            named = groups[kind][row.backbone if known else f"{row.method} {row.backbone}"]
            named[:] = named or [(row.values[SPEED], row.values["miou_ss"])]  # tables repeat models: the first counts
    return groups, "Published, ADE20K", "inference speed on a V100, 512×512 (images/s)"


def draw_panels(panels: Sequence[tuple[Groups, str, str]], path: Path) -> None:
    """mIoU over speed, side by side: points of each series and model, a title, and what the speed is."""
    kinds = sorted({kind for groups, _, _ in panels for kind in groups})
    width = WIDTH * len(panels)
    legend, marks = Legend.of(kinds, width), marks_of(len(kinds))
    with drawn(path, width, 4.6 + legend.height, panels=len(panels)) as all_axes:
        for axes, (groups, title, label) in zip(all_axes, panels, strict=True):
            ours_beside = any(kind.endswith(PUBLISHED) for kind in groups)
            names = {name for models in groups.values() for name in models}
            for kind, models in sorted(groups.items()):
                number = kinds.index(kind)
                style = {"color": "0.5", "marker": "*", "linestyle": "none"} if kind == OTHERS else look(number)
                points = sorted((*_middle(values), name) for name, values in models.items())
                xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
                axes.plot(xs, ys, **style, label=legend.labels[number])
                side = {"xytext": (-4, 5), "ha": "right"} if kind == OTHERS else {"xytext": (5, 5)}
                if ours_beside and not kind.endswith((OTHERS, PUBLISHED)):
                    side = {"xytext": (-6, -11), "ha": "right"}
                mark = "" if kind == OTHERS else marks[number]
                for x, y, name in points:
                    text = mark if mark and len(names) == 1 else f"{mark} {name}".strip()
                    axes.annotate(text, (x, y), textcoords="offset points", fontsize=8, **side)
            axes.set(title=title, xlabel=label, ylabel=MIOU, xscale="log")
            axes.margins(x=0.22, y=0.12)
            plain_log_ticks(axes)
            faint_grid(axes)
        legend.draw(all_axes)


def series(decoder: str, backbone: str, patch: Any) -> str:
    """The line that a model belongs to."""
    kind = f"{backbone.partition('_')[0]}/{patch}" if patch else backbone
    return f"{decoder} decoder, {kind}"


def _middle(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return mean(x for x, _ in values), mean(y for _, y in values)


def extremes(runs: Sequence[Run]) -> tuple[Run, Run]:
    """Finished runs with the lowest and the highest mIoU, of those classes that most runs have; one run is both.

    Raises: ValueError where there is no run.
    """
    alike: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        alike[tuple(run.results["val"].get("classes") or ())].append(run)
    if not alike:
        raise ValueError("none of the runs is finished: there is nothing to compare")
    most = max(alike.values(), key=len)
    return min(most, key=_miou), max(most, key=_miou)


def _miou(run: Run) -> float:
    return float(run.results["val"]["miou"])


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
    labels = [
        textwrap.fill(f"{_told(run, other)}: mIoU {value(run, 'miou'):.4f}", LETTERS)
        for run, other in ((first, second), (second, first))
    ]
    lines = sum(1 + label.count("\n") for label in labels)
    with drawn(path, 7.0, 1.1 + 0.17 * lines + 0.3 * len(kept)) as (axes,):
        for number, (label, one) in enumerate(zip(labels, ious, strict=True)):
            places = [i + (0.2 if number == 0 else -0.2) for i in range(len(kept))]
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
