"""`segmenter benchmark`: parameters, operations, speed and memory of a model, in inference and in training."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from segmenter_pl.commands.benchmark_options import (
    Batch,
    Classes,
    Device,
    MaxBatch,
    Memory,
    Mode,
    ModeOption,
    Out,
    Paper,
    Plot,
    Seconds,
    Threads,
    Words,
    check_options,
    numbers,
)

if TYPE_CHECKING:
    from segmenter_pl.benchmarking.driver import Effort, Misfit
    from segmenter_pl.benchmarking.plan import Variant
    from segmenter_pl.benchmarking.table import Speed

EPILOG = """
Examples:

segmenter benchmark backbone=vit_s16 decoder=mask dataset=ade20k

segmenter benchmark backbone=vit_t16,vit_s16 decoder=linear,mask dataset=ade20k --mode training --batch 8

segmenter benchmark backbone=vit_b16 dataset.crop=640 trainer.precision=bf16-mixed compile=true --classes 150 -o b.csv

segmenter benchmark experiment=ade20k_seg_l16_mask_640 --mode inference --device cpu --threads 1 --memory 4

segmenter benchmark --paper table3 trainer.precision=bf16-mixed --plot figure4.png

segmenter benchmark --paper zoo-mmsegmentation
"""

FIXED_BY_PAPER = ("model", "backbone", "decoder", "dataset", "dataset.crop", "recipe", "experiment")


def benchmark(
    words: Words = None,
    mode: ModeOption = None,
    batch: Batch = None,
    max_batch: MaxBatch = None,
    seconds: Seconds = 2.0,
    device: Device = None,
    threads: Threads = None,
    memory: Memory = None,
    classes: Classes = None,
    paper: Paper = None,
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Measure how fast a model is, and what it needs.

    It is built as train.py builds it, without weights and without data.

    ms and images/s: medians after a warm-up, compilation apart.

    memory: of a GPU what torch allocated at most, of a CPU how much the process grew at most.

    of ceiling: the model's operations (2 for a multiplication with its addition; in training forward and backward) as
    a part of what plain matrix products reach here in the same precision.
    """
    from segmenter_pl.faults import explained

    speeds: list[Speed] = []
    try:
        with explained():
            check_options(out, plot, mode, batch, max_batch)
            variants = _variants(words or [], paper, device, classes)
            if plot and not any(one.published and "miou_ss" in one.published.values for one in variants):
                raise ValueError(f"--plot {plot}: none of these models has a published mIoU; e.g. dataset=ade20k has")
            effort = _effort(variants, paper, mode, batch, max_batch, seconds, threads, memory)
            misfits = _measure(variants, effort, speeds)
            _tell(speeds, variants, misfits, paper)
            _write(speeds, out, plot)
    except KeyboardInterrupt:
        _tell(speeds, [], [], None)
        print("Stopped: nothing was written")
        raise typer.Exit(130) from None
    raise typer.Exit(0 if speeds else 1)


def _variants(words: list[str], paper: str | None, device: str | None, classes: int | None) -> list["Variant"]:
    """All models, checked and counted."""
    from segmenter_pl.analysis.matching import recipe_of
    from segmenter_pl.benchmarking.plan import paper_rows, swept, variant
    from segmenter_pl.prepare.progress import progress

    rows = paper_rows(paper) if paper else [None]
    if paper and (fixed := [word for word in words if word.lstrip("+~").partition("=")[0] in FIXED_BY_PAPER]):
        raise ValueError(f"{fixed[0]}: --paper chooses the models: leave it out")
    wanted = [((f"experiment={recipe_of(row)}", *some) if row else some, row) for row in rows for some in swept(words)]
    found = []
    with progress("counting", len(wanted), files=True) as advance:
        for some, row in wanted:
            found.append(variant(some, classes=classes, device=device, row=row))
            advance(1)
    return found


def _effort(
    variants: list["Variant"],
    paper: str | None,
    mode: Mode | None,
    batch: str | None,
    max_batch: int | None,
    seconds: float,
    threads: int | None,
    memory: float | None,
) -> "Effort":
    from segmenter_pl.benchmarking.driver import Effort
    from segmenter_pl.benchmarking.plan import MEMORY

    told = any(one.published and MEMORY in one.published.values for one in variants)
    if mode is None:
        mode = Mode.both if told or not paper else Mode.inference
    # A zoo's numbers are of single pictures.
    batches = numbers(batch) if batch else (1,) if paper and paper.startswith("zoo") and not max_batch else ()
    modes = (Mode.inference, Mode.training) if mode is Mode.both else (mode,)
    return Effort([str(one) for one in modes], batches, max_batch, seconds, threads, memory)


def _measure(variants: list["Variant"], effort: "Effort", speeds: list["Speed"]) -> list["Misfit"]:
    """Fills `speeds`, so that an interruption leaves what there is."""
    from segmenter_pl.benchmarking.driver import Misfit, measured, total
    from segmenter_pl.prepare.progress import progress

    misfits = []
    with progress("measuring", total(variants, effort), files=True) as advance:
        for found in measured(variants, effort, advance):
            if isinstance(found, Misfit):
                misfits.append(found)
            else:
                speeds.append(found)
    return misfits


def _tell(speeds: list["Speed"], variants: list["Variant"], misfits: list["Misfit"], paper: str | None) -> None:
    if speeds:
        from segmenter_pl.benchmarking.table import compared, names, rows, summary, text

        print(text(rows(speeds)))
        if paper and variants:
            print(compared(speeds, variants))
        for variant, name in zip(variants, names(variants), strict=True) if variants else ():
            print(summary(variant, name, speeds))
    for one in misfits:
        fact = one.variant.facts
        name = f"{fact['backbone']} {fact['decoder']} {fact['crop']}"
        typer.echo(f"{name}, {one.mode}: batch {one.too_large.batch} does not fit ({one.too_large.reason})", err=True)


def _write(speeds: list["Speed"], out: Path | None, plot: Path | None) -> None:
    from segmenter_pl.analysis.formats import csv_text
    from segmenter_pl.benchmarking.table import draw, rows
    from segmenter_pl.files import fresh

    if out and speeds:
        with fresh(out) as temporary:
            temporary.write_text(csv_text(rows(speeds)), encoding="utf-8")
        print(f"{len(speeds)} measurements → {out}")
    if plot and speeds:
        draw(speeds, plot)
        print(f"→ {plot}")
