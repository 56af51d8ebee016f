"""Two processes that are stopped and continued end like two that were not."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_commands import ROOT, TINY, run


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_continue(tmp_path: Path) -> None:
    """SIGTERM to the second process only; the run that goes on ends like one that was never stopped."""
    options = (*TINY, "trainer.max_steps=80", "dataset.val_every=40", "dataset.batch_size=4", "dataset.train_images=20")
    quick = ("trainer.limit_val_batches=2", "trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false")
    command = ("train.py", *options, *quick, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    whole = run(*command, runs=tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    settings = {**os.environ, "SEGMENTER_RUNS": str(tmp_path / "stopped"), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and sum(len(read(path)) for path in tmp_path.glob("stopped/**/metrics.csv")) < 5:
        time.sleep(0.02)
    (second,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()[:1]
    os.kill(int(second), signal.SIGTERM)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 143, said
    assert said.count("Stopped by SIGTERM. The same command continues in") == 1
    stopped = run(*command, runs=tmp_path / "stopped")
    assert stopped.returncode == 0, stopped.stderr
    assert "Continuing after step" in stopped.stdout
    (expected,), (found,) = (list((tmp_path / name).glob("**/metrics.csv")) for name in ("whole", "stopped"))
    assert read(found) == read(expected)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file without what no two runs share."""
    measured = ("train/images_per_second", "train/peak_memory_gb")
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in measured} for row in csv.DictReader(file)]
