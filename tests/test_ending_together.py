"""Processes of one run end together, and say once why."""

import os
import signal
from pathlib import Path

import pytest

from tests.starting import SMALL, TWO, alive, children, start, wait_for
from tests.test_commands import run


def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=5000", "dataset.val_every=5000", *TWO)
    first = start(*words, runs=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("**/metrics.csv"))))
    (second,) = children(first.pid)
    os.kill(second, signal.SIGKILL)
    said = first.communicate(timeout=60)[1]
    assert first.returncode in (1, 137, -9), said
    assert "Traceback" not in said
    assert not alive([second])


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=5000", "dataset.val_every=5000", *TWO)
    first = start(*words, runs=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("**/metrics.csv"))))
    started = children(first.pid)
    first.kill()
    first.communicate(timeout=60)
    wait_for(lambda: not alive(started), 60)


def test_what_all_processes_meet_is_told_once(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=50", "optimizer.lr=1e30", *TWO)
    ended = run(*words, runs=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("Error: nonfinite=stop") == 1, ended.stderr
    assert "Traceback" not in ended.stderr


SHORT_OF_MEMORY = """
import os
if os.environ.get("LOCAL_RANK") == "1":
    import segmenter_pl.task
    def fail(*arguments, **keywords):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12345 bytes")
    segmenter_pl.task.upsampled_cross_entropy = fail
"""


@pytest.mark.slow
def test_one_process_short_of_memory_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/short_of_memory.py").write_text(SHORT_OF_MEMORY)
    words = ("train.py", *SMALL, "trainer.max_steps=5", *TWO)
    ended = run(*words, runs=tmp_path / "runs", environment={"PYTHONPATH": f"{tmp_path}"})
    assert ended.returncode not in (0, None)
    assert ended.stderr.count("out of memory with trainer.precision=32-true, dataset.batch_size=4") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
