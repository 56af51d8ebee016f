"""The metrics file of a run: the one complete record, which every mirror is filled from."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from segmenter_pl.files import write_atomically
from segmenter_pl.loggers.base import Rows, RunLogger, naming


class MetricsCSV(RunLogger):
    """`metrics.csv` in the run directory: one row per step, columns as they appear.

    A row after the last one is appended. Everything else (new columns, a row once more, rows dropped by `begin`)
    replaces the file as a whole, so whenever a write is killed or the disk is full, the rows before it stay as they
    were. (Lightning's CSVLogger deletes the file of an earlier start.)

    Raises:
        ValueError: the file holds something else than rows of numbers.
        OSError: naming the file, when it cannot be written: a run without its record is not worth going on.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir)
        self.path = self.folder / "metrics.csv"
        self.columns: list[str] = []  # without the step
        self.last = -1
        self.end = 0  # of the last whole line, in bytes: what a killed write left behind it is overwritten
        self._read()

    @property
    def rows(self) -> dict[int, dict[str, float]]:
        """What the file holds now, by step; a row without some column lacks its key."""
        return {step: {key: float(text) for key, text in row.items()} for step, row in self._read().items()}

    @rank_zero_only
    def begin(self, step: int, earlier: Rows) -> None:
        """Drops the rows after `step`: the run is about to make them again."""
        rows = self._read()
        kept = {known: row for known, row in rows.items() if known <= step}
        if len(kept) < len(rows):
            self._replace(kept)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        if step > self.last >= 0 and set(metrics) <= set(self.columns):
            self._append(step, metrics)
        else:
            rows = self._read()
            rows[step] = rows.get(step, {}) | {key: str(value) for key, value in metrics.items()}
            self._replace(dict(sorted(rows.items())))

    def _read(self) -> dict[int, dict[str, str]]:
        """The rows as text, which a rewrite must not change; a torn last line is none."""
        data = self.path.read_bytes() if self.path.exists() else b""
        self.end = data.rfind(b"\n") + 1
        text = data[: self.end].decode(errors="replace")  # what is none is no number either, and named below
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = {}
        try:
            for row in reader:
                step = int(row.pop("step"))
                rows[step] = {key: text for key, text in row.items() if text}
                for number in rows[step].values():
                    float(number)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            where = f"{self.path}, line {reader.line_num}"
            raise ValueError(f"{where}: no row of numbers with a step ({error}); move the file away") from error
        self.columns = [key for key in reader.fieldnames or () if key != "step"]
        self.last = max(rows, default=-1)
        return rows

    def _append(self, step: int, metrics: Mapping[str, float]) -> None:
        line = _text(self.columns, [{"step": step, **metrics}])
        try:
            with self.path.open("r+b") as file:
                file.seek(self.end)
                file.truncate()
                file.write(line)
                file.flush()
                os.fsync(file.fileno())  # as its checkpoint will be: a power cut must not leave that one without it
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, self.end)
            raise naming(self.path, error) from error
        self.last, self.end = step, self.end + len(line)

    def _replace(self, rows: dict[int, dict[str, str]]) -> None:
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        data = _text(columns, ({"step": step, **row} for step, row in rows.items()), header=True)
        write_atomically(self.path, data)
        self.columns, self.last, self.end = columns, max(rows, default=-1), len(data)


def _text(columns: list[str], rows: Iterable[Mapping[str, Any]], *, header: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", *columns], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
