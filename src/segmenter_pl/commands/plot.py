"""`segmenter plot KIND`: pictures of what runs logged and reached."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from segmenter_pl.commands.telling import All, Runs, finished, tell

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Draw what runs logged and reached.")

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
    from segmenter_pl.analysis.drawing import require_possible
    from segmenter_pl.faults import explained

    with explained():
        require_possible(out)  # before anything is read
        yield
        print(f"→ {out}")


def _left_out(lines: list[str], *, everything: bool) -> None:
    tell([("Left out", lines)], everything=everything)


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
    everything: All = False,
) -> None:
    """Any logged value over any other, a line for each log; × and a number mark the last value.

    Rates are fractions, also those of logs in per cent; vmin and vmax of a logs.yml are per cent, as in the official
    code.
    """
    with _explained(out):
        from segmenter_pl.analysis.curves import gather
        from segmenter_pl.analysis.curves_plot import draw_curves

        found = gather(logs, label or ())
        lines, lacking = draw_curves(found, out, x_key, y_key)
        tell([("Left out", found.left_out), ("Without a value", lacking)], everything=everything)
        print("\n".join(lines))


@app.command()
def speed(
    runs: Runs,
    out: Out,
    of: Annotated[
        str | None,
        Option(
            help="Whose speed: training, or an evaluation as `segmenter results` names it (best/val-flip); by default "
            "that of last/val-none, as of `python eval.py ckpt=RUN/checkpoints/last.ckpt`, where a run has it.",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        bool,
        Option("--published", help="The paper's Tables 3 and 6 too; beside training speeds as a panel of their own."),
    ] = False,
    everything: All = False,
) -> None:
    """mIoU over images per second, a line for each decoder, patch size and setting (Figure 4 of the paper)."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_speed
        from segmenter_pl.analysis.published import published_rows

        rows = [row for row in published_rows() if row.source == "paper"] if published else []
        _left_out(draw_speed(finished(runs, everything=everything), rows, out, of), everything=everything)


@app.command("dataset-size")
def dataset_size(runs: Runs, out: Out, everything: All = False) -> None:
    """mIoU over the number of training pictures (Table 5 of the paper), a line for runs that differ in nothing else."""
    with _explained(out):
        from segmenter_pl.analysis.sweeps import draw_dataset_size

        _left_out(draw_dataset_size(finished(runs, everything=everything), out), everything=everything)


@app.command()
def classes(
    first: Annotated[Path, Argument(metavar="RUN", help="A run directory.")],
    second: Annotated[Path, Argument(metavar="RUN", help="Another one.")],
    out: Out,
    everything: All = False,
) -> None:
    """IoU of each class in two runs, ordered by what the second gains over the first."""
    with _explained(out):
        from segmenter_pl.analysis.plots import draw_classes

        pair = []
        for place in (first, second):
            found = finished([place], everything=everything)
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
    everything: All = False,
) -> None:
    """Mean of a number over two settings that were swept; by default dropout × stochastic depth (Table 2).

    The runs may differ in these two and the seed.
    """
    with _explained(out):
        from segmenter_pl.analysis.sweeps import draw_heat_map

        counted = finished(runs, everything=everything)
        _left_out(draw_heat_map(counted, out, x_key, y_key, value), everything=everything)
