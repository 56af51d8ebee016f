"""Measurements in processes of their own.

A CPU's memory can only be told of a fresh process, and one that asks for too much may be killed. The processes are
forked from a server that has loaded the libraries and done nothing else: a second start costs no time, and no threads,
memory or device are inherited.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from segmenter_pl.benchmarking.measuring import Bench, Measurement
from segmenter_pl.benchmarking.timing import attempted
from segmenter_pl.data.memory import available_memory
from segmenter_pl.faults.explained import explanation

SPARE = 0.9  # of what a CPU's memory has free is taken at most


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        settings: resolved configuration. num_classes: K. mode: see `measuring`.
        batches: ascending, until one does not fit. seconds: for each.
        threads: of a CPU; None for torch's own number. memory_gb: at most, of the device; on a CPU on top of what the
            process has at its start; None for all that is free.
    """

    settings: dict[str, Any]
    num_classes: int
    mode: str
    batches: Sequence[int]
    seconds: float
    threads: int | None = None
    memory_gb: float | None = None


@dataclass(frozen=True)
class Fitting:
    """A batch size that fits; `device` is its name."""

    batch: int
    measured: Measurement
    device: str


@dataclass(frozen=True)
class TooLarge:
    """A batch size that does not fit, and why."""

    batch: int
    reason: str


def run(job: Job) -> Iterator[Fitting | TooLarge]:
    """Each batch size that fits, and the first that does not.

    Raises: ValueError for settings that the model refuses; RuntimeError for a fault of ours.
    """
    done = 0
    for kind, content in _messages(_measure, job):
        if kind == "measured":
            yield Fitting(job.batches[done], *content)
            done += 1
        else:
            yield TooLarge(job.batches[done], content)


def ceiling_tflops(job: Job) -> float:
    """The best rate of matrix products on the job's device, in its precision, 10^12 operations per second."""
    ((kind, content),) = _messages(_ceiling, job)
    if kind == "died":
        raise RuntimeError(f"measuring matrix products failed: {content}")
    return content


def _messages(work: Any, job: Job) -> Iterator[tuple[str, Any]]:
    """What a process sends; ("died", why) as the last one if a signal ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_obey, args=(work, job, sender))
    process.start()
    sender.close()
    try:
        while True:
            kind, content = receiver.recv()
            if kind == "refused":
                raise ValueError(content)
            if kind == "broken":
                raise RuntimeError(f"in the measuring process:\n{content}")
            yield kind, content
    except EOFError:
        process.join()
        code = process.exitcode or 0
        if code > 0:
            raise RuntimeError(f"the measuring process ended with code {code}") from None
        if code < 0:
            yield "died", f"killed by {signal.Signals(-code).name}"
    finally:
        process.kill()
        process.join()


def _obey(work: Any, job: Job, sender: Connection) -> None:
    """The process: Ctrl-C is for the one that started it, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        work(job, Bench(OmegaConf.create(job.settings), job.num_classes), sender)
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_DATA, limits)  # so that there is memory for the message
        sentence = explanation(error)
        sender.send(("broken", traceback.format_exc()) if sentence is None else ("refused", sentence))


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _ceiling(job: Job, bench: Bench, sender: Connection) -> None:
    sender.send(("ceiling", bench.ceiling_tflops(min(job.seconds, 1.0))))


def _measure(job: Job, bench: Bench, sender: Connection) -> None:
    if bench.device.type == "cpu":
        bench.load_libraries()
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    _limit_memory(bench.device, job.memory_gb)
    for batch in job.batches:
        found = attempted(lambda batch=batch: bench.measure(job.mode, batch, job.seconds))  # type: ignore[misc]
        if isinstance(found, str):
            resource.setrlimit(resource.RLIMIT_DATA, limits)
            sender.send(("full", found))
            return
        sender.send(("measured", (found, bench.name())))


def _limit_memory(device: torch.device, gigabytes: float | None) -> None:
    """Make torch raise where more is asked for, instead of the system killing this process or another."""
    if device.type == "cuda" and gigabytes is not None:
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gigabytes * 1e9 / whole, 1.0), device)
    if device.type != "cpu":
        return
    free = available_memory()
    wanted = gigabytes * 1e9 if gigabytes is not None else None if free is None else SPARE * free
    status = Path("/proc/self/status")
    if wanted is not None and status.exists():
        taken = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(1024 * taken + wanted), hard))
