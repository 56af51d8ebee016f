"""`segmenter results`: runs as a table, alone or beside the published numbers."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from segmenter_pl.commands.telling import All, Runs, about, tell

if TYPE_CHECKING:
    from segmenter_pl.analysis.runs import Found
    from segmenter_pl.analysis.tables import Table

EPILOG = """
Examples:

segmenter results runs

segmenter results runs/camvid_* --group name

segmenter results runs --group backbone.dropout,backbone.drop_path_rate --format latex -o table.tex

segmenter results runs --columns name,seed,miou,val/classes/road -o runs.csv

segmenter results runs --paper table3
"""


class Format(StrEnum):
    """How a table is written."""

    csv = "csv"
    markdown = "markdown"
    latex = "latex"


Group = Annotated[
    str | None,
    Option(
        metavar="KEYS",
        help="Mean ± standard deviation of the finished runs that agree in these columns: name, backbone, "
        "trainer.max_steps …; [b]settings[/b] for all that differs but the seed.",
        show_default=False,
    ),
]
Columns = Annotated[
    str | None,
    Option(
        metavar="NAMES",
        help="Columns to show: name, settings, seed, status, steps, miou, best_miou, pixel_accuracy, parameters, "
        "images_per_second (of training), run, an evaluation (last/val-none), a key of the settings "
        "(backbone.dropout), or of results.json (val/loss, val/classes/road, last/val-none/speed/images_per_second).",
        show_default=False,
    ),
]
Paper = Annotated[
    str | None,
    Option(
        metavar="TABLE",
        help="Published numbers beside those of the finished runs that match: table2 … table9, section4_2, "
        "zoo-official, zoo-mmsegmentation, zoo-paddlevit.",
        show_default=False,
    ),
]
TableFormat = Annotated[
    Format | None,
    Option("--format", help="By default as OUT ends: .csv, .md, .tex; else markdown.", show_default=False),
]
Out = Annotated[Path | None, Option("--out", "-o", help="File; by default it is printed.", show_default=False)]


def results(
    runs: Runs,
    group: Group = None,
    columns: Columns = None,
    paper: Paper = None,
    form: TableFormat = None,
    out: Out = None,
    everything: All = False,
) -> None:
    """Read run directories into one table, a row for each run.

    Numbers are of the last weights, mIoU and accuracies as fractions. Whatever is no finished run is told with the
    reason: unfinished and crashed runs, duplicates (the same settings and seed twice), empty folders, other files.
    """
    from segmenter_pl.faults import explained

    with explained():
        from segmenter_pl.analysis.formats import FORMATS, SUFFIXES
        from segmenter_pl.analysis.runs import find_runs
        from segmenter_pl.files import fresh

        kind = str(form) if form else SUFFIXES.get(out.suffix.lower()) if out else "markdown"
        if kind is None:
            raise ValueError(f"--out {out}: give a name that ends in {', '.join(SUFFIXES)}, or --format")
        if paper and (group or columns):
            raise ValueError("--paper makes a table of its own: leave out --group and --columns")
        found = find_runs(runs)
        table, remarks = _table(found, _words(group), _words(columns), paper, wide=kind == "csv")
        text = FORMATS[kind](table)
        if out is None:
            print(text, end="")
        else:
            with fresh(out) as temporary:
                temporary.write_text(text, encoding="utf-8")
        tell([("Remarks", remarks), *about(found)], everything=everything)
        if out is not None:
            print(f"{len(found.runs)} runs, {len(found.finished)} finished → {out}")


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _table(
    found: "Found", group: list[str], columns: list[str], paper: str | None, *, wide: bool
) -> tuple["Table", list[str]]:
    from segmenter_pl.analysis.published import paper_table
    from segmenter_pl.analysis.tables import group_table, run_table

    if paper:
        return paper_table(paper, found.finished, found.accuracies)
    if group:
        return group_table(found.runs, group, columns)
    return run_table(found.runs, columns, spread_settings=wide), []
