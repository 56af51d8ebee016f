"""Runs of several processes that are started, watched and ended, and what they leave."""

import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.test_commands import ROOT, TINY

QUIET = ("trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu")
TWO = ("trainer=ddp", "trainer.devices=2", *QUIET)
SMALL = (*TINY, "dataset.batch_size=4", "dataset.train_images=24", "trainer.limit_val_batches=2", "decoder.dropout=0")


def start(*words: str, runs: Path, **environment: str) -> subprocess.Popen[str]:
    """A command in the project's folder, which goes on."""
    settings = {**os.environ, "SEGMENTER_RUNS": str(runs), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(runs: Path) -> list[dict[str, str]]:
    """Of the one metrics file below a folder."""
    (path,) = runs.glob("**/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(runs: Path) -> list[str]:
    """Texts of all metrics files below a folder."""
    return [path.read_text() for path in runs.glob("**/metrics.csv")]


def column(runs: Path, key: str) -> list[float]:
    """Numbers of a column, where there are any."""
    return [float(row[key]) for row in rows(runs) if row[key]]


def free_port() -> str:
    """Of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    """Until something is so; fails after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pids: Iterable[int]) -> list[int]:
    """Those that have not ended."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [
        pid for pid, stat in states.items() if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    ]
