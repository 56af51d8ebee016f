"""Where Triton's kernels can be tested: on CUDA, or on a CPU in a process that runs them under Triton's interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton reads it when it is imported
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).parents[2]

runs_kernels = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="no CUDA device; the test of the interpreter runs it without one"
)
runs_cuda = pytest.mark.skipif(DEVICE == "cpu" or INTERPRETED, reason="no CUDA device")


def passed_under_the_interpreter(file: str) -> int:
    """How many tests of a file pass in a process of their own; asserts that none fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", file]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    found = re.search(r"(\d+) passed", done.stdout)
    return int(found[1]) if found else 0
