"""How far a long step is, on terminals only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress(name: str, total: int | None, *, done: int = 0, files: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar with name, amount, rate and time left while the block runs; gives a function that adds to what is done.

    Args:
        total, done: bytes, or numbers of files with `files=True`; `total=None` where it is not known.
    """
    console = Console(stderr=True)
    amounts: list[ProgressColumn] = [MofNCompleteColumn()] if files else [DownloadColumn(), TransferSpeedColumn()]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amounts, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda step: bar.advance(task, step)
