"""200 starts of the commands with wrong words and wrong files: no trace, no hang, nothing outside of their folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def started(folder: Path, first: int, count: int) -> list[dict[str, Any]]:
    """What `tests.fuzz.starts` says: findings, and at last the exit codes by command."""
    command = [sys.executable, "-m", "tests.fuzz.starts", str(folder), str(first), str(count)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEGMENTER_")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_two_hundred_wrong_starts(tmp_path: Path) -> None:
    *findings, last = started(tmp_path, 0, 200)
    assert not findings
    ends = last["codes"]
    assert sum(ends.values()) == 200
    assert {f"{name} 1" for name in ("train.py", "eval.py", "segmenter")} <= ends.keys()
    assert ends["segmenter 0"] > 10  # some of what is changed does not matter
