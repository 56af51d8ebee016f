"""What came of `segmenter predict`, and how it is told."""

from dataclasses import dataclass, field
from pathlib import Path

import typer

from segmenter_pl.commands.inputs import Found


@dataclass
class Outcome:
    """What was done, in lines for people; `failures` as `input: reason`."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    pictures: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def tell(outcome: Outcome, found: Found, out: Path) -> int:
    """Say what was done and what was not; returns the exit code."""
    failures = [*found.missing, *outcome.failures]
    for line in outcome.lines:
        print(line)
    if outcome.pictures:
        some = "1 picture" if outcome.pictures == 1 else f"{outcome.pictures} pictures"
        rate = outcome.pictures / outcome.seconds
        print(f"{some} in {outcome.seconds:.1f} s ({rate:.1f} pictures per second) → {out}")
    if found.left_alone:
        first = ", ".join(str(path) for path in found.left_alone[:5]) + (", …" if len(found.left_alone) > 5 else "")
        why = "no pictures or videos, hidden, results, or other names of an INPUT"
        print(f"Left alone, as {why} ({len(found.left_alone)}): {first}")
    if failures:
        typer.echo("\n  ".join([f"Not done, or not to the end ({len(failures)}):", *failures]), err=True)
    return 130 if outcome.interrupted else int(bool(failures))
