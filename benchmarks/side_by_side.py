"""What the benchmarks share: variants that alternate in one process, and glibc's malloc in two moods.

Page faults flatter lean code: glibc gives large blocks back to the system and faults them in again at each step. TUNED
keeps them, so that both sides are measured without.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
MALLOCS: dict[str, dict[str, str]] = {"default": {}, "tuned": TUNED}


def alternated(
    functions: Mapping[str, Callable[[], object]], runs: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median seconds of each function, of CPU time unless told otherwise; they take turns, after a round as warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(runs + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if run:
                seconds[name].append(clock() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def child(script: str, *words: object, malloc: str = "default", threads: int = 1) -> Any:
    """What a fresh process of the script prints, as JSON."""
    settings = {**os.environ, "OMP_NUM_THREADS": str(threads), **MALLOCS[malloc]}
    command = [sys.executable, script, *map(str, words)]
    return json.loads(subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, text=True).stdout)
