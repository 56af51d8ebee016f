"""What was measured, as rows, as text beside the published numbers, and as a plot."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from segmenter_pl.analysis.plots import Groups, draw_panels, published_speeds, series
from segmenter_pl.analysis.published import published_rows
from segmenter_pl.analysis.tables import Table
from segmenter_pl.benchmarking.measuring import INFERENCE, TRAINING, Measurement
from segmenter_pl.benchmarking.plan import MEMORY, SPEEDS, Variant

IN_NAME = ("backbone", "decoder", "dataset", "dataset.crop", "experiment")
Column = tuple[str, str, Callable[[Any], str]]  # of a printed table: key, heading, how a value is written


def rate(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:#.3g}" if value < 100 else f"{value:.0f}"


PRINTED: tuple[Column, ...] = (
    ("model", "model", str),
    ("mode", "mode", str),
    ("batch", "batch", "{:d}".format),
    ("milliseconds", "ms", "{:.1f}".format),
    ("images_per_second", "images/s", rate),
    ("memory_gb", "memory, GB", "{:.3f}".format),
    ("mfu", "of ceiling", "{:.0%}".format),
)


@dataclass(frozen=True)
class Speed:
    """One batch size of one model.

    Attributes:
        device: its name. ceiling_tflops: rate of matrix products there, in the same precision, 10^12 operations/s.
    """

    variant: Variant
    mode: str
    batch: int
    measured: Measurement
    device: str
    ceiling_tflops: float

    @property
    def tflops(self) -> float:
        """Rate of the model's own operations, 10^12 per second; in training forward and backward."""
        counts = self.variant.counts
        of_one = counts.inference_gflops if self.mode == INFERENCE else counts.training_gflops
        return of_one * self.measured.images_per_second / 1000


def names(variants: Sequence[Variant]) -> list[str]:
    """`vit_s16 mask 512` and whatever else tells a model from the others."""
    facts = [one.facts for one in variants]
    models = [f"{fact['backbone']} {fact['decoder']} {fact['crop']}" for fact in facts]
    return [f"{model} {rest}".strip() for model, rest in zip(models, _differences(variants), strict=True)]


def _differences(variants: Sequence[Variant]) -> list[str]:
    """The overrides of each that not all have, without those that its name tells."""
    shared = set.intersection(*(set(one.words) for one in variants)) if variants else set()
    rest = ([word for word in one.words if word not in shared] for one in variants)
    return [" ".join(word for word in words if word.partition("=")[0] not in IN_NAME) for words in rest]


def rows(speeds: Sequence[Speed]) -> Table:
    """A row for each measurement, with everything that it depends on."""
    table = []
    variants = _variants(speeds)
    labels = {id(one): name for one, name in zip(variants, names(variants), strict=True)}
    for one in speeds:
        variant, fact, config = one.variant, one.variant.facts, one.variant.settings
        row: dict[str, Any] = {"model": labels[id(variant)]}
        row |= {key: fact[key] for key in ("backbone", "patch_size", "decoder", "dataset", "crop")}
        row |= {"classes": variant.num_classes, "precision": config["trainer"]["precision"]}
        row |= {"compile": config["compile"], "settings": " ".join(variant.words), "device": one.device}
        row |= {**variant.counts._asdict(), "mode": one.mode, "batch": one.batch, **asdict(one.measured)}
        row |= {"tflops": one.tflops, "ceiling_tflops": one.ceiling_tflops, "mfu": one.tflops / one.ceiling_tflops}
        table.append({**row, "torch": torch.__version__})
    return table


def _variants(speeds: Sequence[Speed]) -> list[Variant]:
    return list({id(one.variant): one.variant for one in speeds}.values())


def text(table: Table, columns: Sequence[Column] = PRINTED) -> str:
    """Columns for a terminal: words to the left, numbers to the right, a dash for nothing."""
    lines = [[heading for _, heading, _ in columns]]
    for row in table:
        lines.append(["-" if row[key] is None else write(row[key]) for key, _, write in columns])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    aligned = ["<" if write is str else ">" for _, _, write in columns]
    return "".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, aligned, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def best(speeds: Sequence[Speed], variant: Variant, mode: str) -> Speed | None:
    """The batch size with the highest rate."""
    found = [one for one in speeds if one.variant is variant and one.mode == mode]
    return max(found, key=lambda one: one.measured.images_per_second, default=None)


def compared(speeds: Sequence[Speed], variants: Sequence[Variant]) -> str:
    """Published speeds and memory beside the best inference rate and the least memory of a training step."""
    known = [(one, one.published, name) for one, name in zip(variants, names(variants), strict=True) if one.published]
    metrics = dict.fromkeys(key for _, stated, _ in known for key in (*SPEEDS, MEMORY) if key in stated.values)
    columns: list[Column] = [("method", "method", str), ("model", "model", str)]
    for metric in metrics:
        write = rate if metric in SPEEDS else "{:.2f}".format
        columns += [(metric, metric, write), (f"{metric} here", "here", write), (f"{metric} ×", "×", "{:.2f}".format)]
    table = []
    for variant, stated, name in known:
        row: dict[str, Any] = {"method": stated.method, "model": name}
        for metric in metrics:
            theirs, ours = stated.values.get(metric), _own(speeds, variant, metric)
            row |= {metric: theirs, f"{metric} here": ours}
            row[f"{metric} ×"] = ours / theirs if ours is not None and theirs else None
        table.append(row)
    return text(table, columns)


def _own(speeds: Sequence[Speed], variant: Variant, metric: str) -> float | None:
    if metric in SPEEDS:
        fastest = best(speeds, variant, INFERENCE)
        return fastest.measured.images_per_second if fastest else None
    steps = [one.measured.memory_gb for one in speeds if one.variant is variant and one.mode == TRAINING]
    return min((one for one in steps if one is not None), default=None)


def summary(variant: Variant, name: str, speeds: Sequence[Speed]) -> str:
    """One line on a model."""
    counts, parts = variant.counts, []
    for mode in (INFERENCE, TRAINING):
        if fastest := best(speeds, variant, mode):
            one = f"{mode} {rate(fastest.measured.images_per_second)} images/s (batch {fastest.batch})"
            if variant.settings["compile"]:
                one += f", first step {fastest.measured.first_step_seconds:.0f} s with compilation"
            parts.append(one)
    return (
        f"{name}: {variant.num_classes} classes, {variant.settings['trainer']['precision']}, "
        f"{counts.parameters / 1e6:.2f} M parameters, {counts.inference_gflops:.4g} GFLOPs a picture "
        f"({counts.training_gflops:.4g} in training); {'; '.join(parts) or 'nothing fits'}"
    )


def draw(speeds: Sequence[Speed], path: Path) -> None:
    """Published mIoU over the inference rate that was measured, beside the published rates (the paper's Figure 4)."""
    groups: Groups = defaultdict(lambda: defaultdict(list))
    variants = _variants(speeds)
    for variant, rest in zip(variants, _differences(variants), strict=True):
        fastest, fact, published = best(speeds, variant, INFERENCE), variant.facts, variant.published
        if fastest and published and "miou_ss" in published.values:
            kind = ", ".join(filter(None, [series(fact["decoder"], fact["backbone"], fact["patch_size"]), rest]))
            point = (fastest.measured.images_per_second, published.values["miou_ss"])
            groups[kind][fact["backbone"]].append(point)
    if not groups:
        raise ValueError(f"--plot {path}: no model with a published mIoU was measured")
    precisions = dict.fromkeys(str(one.settings["trainer"]["precision"]) for one in variants)
    title = f"Published mIoU, speed measured here\n{speeds[0].device}, {' and '.join(precisions)}"
    theirs = published_speeds([row for row in published_rows() if row.source == "paper"])
    draw_panels([(groups, title, "inference speed (images/s)"), theirs], path)
