"""Runs that are timed, and runs that may find too little memory."""

import time
from collections.abc import Callable
from typing import TypeVar

from segmenter_pl.memory import is_out_of_memory

LEAST_SAMPLES = 3
# How oneDNN and C++ say that there is no memory for a buffer of theirs.
NO_BUFFER = ("could not create a primitive", "bad_alloc")
T = TypeVar("T")


def timed(run: Callable[[], object], wait: Callable[[], None], seconds: float) -> list[float]:
    """Seconds of each run, waited for; at least three, then until `seconds` are over."""
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        wait()
        samples.append(time.perf_counter() - start)
    return samples


def attempted(run: Callable[[], T]) -> T | str:
    """The result, or, in one line, why the memory did not suffice."""
    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and not any(words in str(error) for words in NO_BUFFER):
            raise
        return (str(error) or type(error).__name__).splitlines()[0]
