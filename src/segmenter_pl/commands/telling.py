"""What the commands about runs say of everything that did not count, on stderr."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from segmenter_pl.analysis.runs import Found, Run

SHOWN = 10  # lines on a subject

Runs = Annotated[list[Path], Argument(metavar="RUNS…", help="Run directories, or folders with runs below them.")]
All = Annotated[bool, Option("--all", help=f"Tell everything that was left out, and not the first {SHOWN} of a kind.")]


def tell(subjects: Iterable[tuple[str, list[str]]], *, everything: bool) -> None:
    """A heading with the number of lines, and the lines: all of them, or the first ten."""
    for heading, lines in subjects:
        if lines:
            shown = lines if everything else lines[:SHOWN]
            more = [f"and {len(lines) - len(shown)} more (--all tells them)"] if len(shown) < len(lines) else []
            typer.echo("\n  ".join([f"{heading} ({len(lines)}):", *shown, *more]), err=True)


def about(found: "Found") -> list[tuple[str, list[str]]]:
    """Headings, with lines on unfinished runs, duplicates, what is wrong beside results, and all other files."""

    def lines(*states: str) -> list[str]:
        return [f"{run.folder}: {run.status}, {run.reason}" for run in found.runs if run.status in states]

    return [
        ("Not finished", lines("unfinished", "crashed")),
        ("Duplicates", lines("duplicate")),
        ("Finished, but", [f"{run.folder}: {run.reason}" for run in found.finished if run.reason]),
        ("Passed over", found.left_out),
    ]


def finished(places: list[Path], *, everything: bool) -> list["Run"]:
    """The runs that count; what does not is told. Raises ValueError where none does."""
    from segmenter_pl.analysis.runs import find_runs

    found = find_runs(places)
    tell(about(found), everything=everything)
    if not found.finished:
        raise ValueError("none of the runs is finished: there is nothing to draw")
    return found.finished
