"""`segmenter check`: is a dataset sound, and what does it hold?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from segmenter_pl.commands import datasets as d

if TYPE_CHECKING:
    from segmenter_pl.checking.survey import Survey

EPILOG = """
Examples:

segmenter check pictures/ dataset.ignore_value=0

segmenter check cityscapes --root /data/cityscapes

segmenter check ade20k --split test -o ade20k_checked
"""

Out = Annotated[
    Path | None, Option("--out", "-o", help="Folder for the report; by default check/NAME.", show_default=False)
]
Splits = Annotated[
    list[str] | None,
    Option("--split", help="A further split to check with train and val; may be repeated.", show_default=False),
]
Workers = Annotated[int | None, Option(min=1, help="Processes that read; by default one per core.", show_default=False)]


def check(
    dataset: d.Dataset,
    overrides: d.Overrides = None,
    root: d.Root = None,
    split: Splits = None,
    out: Out = None,
    workers: Workers = None,
) -> None:
    """Read every picture and label of a dataset, and tell all that is wrong with it.

    Looked for: missing partners, damaged and cut-off files, sizes that differ, label values without a class, pictures
    without a pixel that counts, the same picture in several splits. Counted: classes, sizes, kinds of pictures.

    OUT gets report.json (everything), classes.csv and classes.png. The exit code is 1 where there are problems.
    """
    try:
        problems = _check(dataset, overrides, root, split or [], out, workers)
    except KeyboardInterrupt:
        print("Stopped: no report was written")
        raise typer.Exit(130) from None
    raise typer.Exit(int(problems > 0))


def _check(
    dataset: str,
    overrides: list[str] | None,
    root: Path | None,
    further: list[str],
    out: Path | None,
    workers: int | None,
) -> int:
    """The work of `check`; returns the number of problems."""
    from segmenter_pl.faults import explained

    with explained():
        from segmenter_pl.checking.report import reported, write_report
        from segmenter_pl.checking.survey import Survey
        from segmenter_pl.checking.tables import verdict
        from segmenter_pl.data.pairing import PairsDataModule
        from segmenter_pl.locking import sole_owner
        from segmenter_pl.prepare.progress import progress

        name, datamodule = d.opened(dataset, overrides, root)
        if not isinstance(datamodule, PairsDataModule):
            raise ValueError(f"{name} is drawn in memory: there are no files to check")
        folder = out or Path("check", name)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {folder} is a file: give a folder")
        if out is None and (other := reported(folder)) not in (None, datamodule.root.resolve()):
            raise ValueError(f"{folder} holds the report of {other}: give --out another folder")
        # A folder that cannot be made is told now, not after all has been read.
        with sole_owner(folder, f"another process is writing to --out {folder}: wait for it"):
            survey = Survey(datamodule, ["train", "val", *further])
            with progress("reading", len(survey.pairs), files=True) as advance:
                for _ in survey.run(workers):
                    advance(1)
            _tell(survey)
            write_report(survey, name, folder)
        print(f"{verdict(survey, name)} → {folder}")
    return len(survey.problems)


def _tell(survey: "Survey") -> None:
    from segmenter_pl.checking.tables import class_lines, finding_lines, split_lines

    for lines in (class_lines(survey), split_lines(survey.tallies)):
        print("\n".join(lines), end="\n\n")
    for title, findings in (("Notes", survey.notes), ("Problems", survey.problems)):
        if findings:
            print(f"{title}:", *finding_lines(findings, survey), sep="\n  ", end="\n\n")
