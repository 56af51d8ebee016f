"""The metrics file of a run, as a Lightning logger."""

import csv
import io
from argparse import Namespace
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """`metrics.csv` in the run directory: one row per step, columns as they appear.

    A run that is started again keeps its earlier rows; rows at or past the first step logged now are dropped,
    so a resumed run has neither gaps nor repeats. (Lightning's CSVLogger deletes the file instead.) Only the last row
    is written in place; when columns are added the file is replaced as a whole.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rows: dict[int, dict[str, Any]] = {}
        self.columns = ["step"]
        self.tail_step = 0
        self.tail: int | None = None  # where the last row starts in the file; None: write the whole file
        self.started = False
        if self.path.exists():
            text = self.path.read_text()
            whole_lines = text[: text.rfind("\n") + 1].splitlines()
            for row in csv.DictReader(whole_lines):
                self._add(int(row["step"]), {key: value for key, value in row.items() if value and key != "step"})

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run directory's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        if not self.started:
            self.rows = {known: row for known, row in self.rows.items() if known < step}
            self.started, self.tail = True, None
        self._add(step, {key: value for key, value in metrics.items() if key != "epoch"})

    def _add(self, step: int, metrics: dict[str, Any]) -> None:
        self.rows.setdefault(step, {}).update(metrics)
        if new := [key for key in metrics if key not in self.columns]:
            self.columns += new
            self.tail = None

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return
        if self.tail is None:
            self._replace()
            return
        *complete, last = reversed(list(takewhile(lambda step: step >= self.tail_step, reversed(self.rows))))
        before, line = self._lines(complete), self._lines([last])
        with self.path.open("r+b") as file:
            file.seek(self.tail)
            file.write(before + line)
            file.truncate()
        self.tail, self.tail_step = self.tail + len(before), last

    def _replace(self) -> None:
        *complete, last = self.rows
        before = self._lines(complete, header=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_bytes(before + self._lines([last]))
        temporary.replace(self.path)
        self.tail, self.tail_step = len(before), last

    def _lines(self, steps: Iterable[int], *, header: bool = False) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows({"step": step, **self.rows[step]} for step in steps)
        return text.getvalue().encode()

    def finalize(self, status: str) -> None:
        self.save()
