"""`segmenter plot KIND`: pictures of what runs logged and reached."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from segmenter_pl.analysis.runs import Run

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Draw what runs logged and reached.")

Runs = Annotated[list[Path], Argument(metavar="RUNS…", help="Run directories, or folders with runs below them.")]
Out = Annotated[Path, Option("--out", "-o", help="Picture: .png, .pdf, .svg or .jpg.")]

CURVES = """
Examples:

segmenter plot curves runs/camvid_seg_t16_mask -o curves.png

segmenter plot curves runs/camvid_seg_t16_mask seg_tiny_mask/log.txt -o curves.png --label ours --label official

segmenter plot curves 20220105_151706.log.json work_dir/vis_data/scalars.json --y-key mIoU -o mmseg.png

segmenter plot curves logs.yml --x-key epoch --y-key val_mean_iou -o official.png
"""


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    from segmenter_pl.faults import explained

    with explained():
        yield
        print(f"→ {out}")


def _finished(places: list[Path]) -> list["Run"]:
    """The runs that count; the others are told on stderr."""
    from segmenter_pl.analysis.runs import find_runs

    found = find_runs(places)
    if left := [f"{run.folder}: {run.status}, {run.reason}" for run in found.runs if run.status != "finished"]:
        typer.echo("\n  ".join([f"Left out ({len(left)}):", *left]), err=True)
    if not found.finished:
        raise ValueError("none of the runs is finished: there is nothing to draw")
    return found.finished


@app.command(epilog=CURVES)
def curves(
    logs: Annotated[
        list[Path],
        Argument(
            metavar="LOGS…",
            help="Run directories and folders with runs below them; the official code's log.txt, or its logs.yml; "
            "MMSegmentation's *.log.json (0.x) and vis_data/scalars.json (1.x); metrics.csv.",
        ),
    ],
    out: Out,
    x_key: Annotated[str, Option("--x-key", help="A logged key, ours or the writer's: step, epoch …")] = "step",
    y_key: Annotated[str, Option("--y-key", help="A logged key: val/miou, train/loss, val/iou/CLASS …")] = "val/miou",
    label: Annotated[
        list[str] | None, Option("--label", help="Of each curve, in their order; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Any logged value over any other, a line for each log; × and a number mark the last value.

    Rates are fractions, also those of logs that are written in per cent.
    """
    with _explained(out):
        from segmenter_pl.analysis.curves import draw_curves, gather

        found = gather(logs, label or ())
        lines = draw_curves(found, out, x_key, y_key)
        if found.left_out:
            typer.echo("\n  ".join([f"Left out ({len(found.left_out)}):", *found.left_out]), err=True)
        print("\n".join(lines))


@app.command()
def speed(
    runs: Runs,
    out: Out,
    published: Annotated[bool, Option("--published", help="A second panel with the paper's Tables 3 and 6.")] = False,
) -> None:
    """mIoU over images per second in training, a line for each decoder and patch size (Figure 4 of the paper)."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_speed
        from segmenter_pl.analysis.published import published_rows

        rows = [row for row in published_rows() if row.source == "paper"] if published else []
        draw_speed(_finished(runs), rows, out)


@app.command("dataset-size")
def dataset_size(runs: Runs, out: Out) -> None:
    """mIoU over the number of training pictures (Table 5 of the paper)."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_dataset_size

        draw_dataset_size(_finished(runs), out)


@app.command()
def classes(
    first: Annotated[Path, Argument(metavar="RUN", help="A run directory.")],
    second: Annotated[Path, Argument(metavar="RUN", help="Another one.")],
    out: Out,
) -> None:
    """IoU of each class in two runs, ordered by what the second gains over the first."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_classes

        pair = []
        for place in (first, second):
            found = _finished([place])
            if len(found) > 1:
                raise ValueError(f"{place} holds {len(found)} runs: give one, e.g. {found[0].folder}")
            pair += found
        draw_classes(pair[0], pair[1], out)


@app.command("heat-map")
def heat_map(
    runs: Runs,
    out: Out,
    x_key: Annotated[str, Option("--x-key", help="Setting of the columns.")] = "backbone.drop_path_rate",
    y_key: Annotated[str, Option("--y-key", help="Setting of the rows.")] = "backbone.dropout",
    value: Annotated[str, Option("--value", help="Column of `segmenter results` in the cells.")] = "miou",
) -> None:
    """Mean of a number over two settings that were swept; by default dropout × stochastic depth (Table 2)."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_heat_map

        draw_heat_map(_finished(runs), out, x_key, y_key, value)
