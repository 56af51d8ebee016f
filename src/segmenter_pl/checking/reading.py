"""All pairs, read by several processes."""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, get_worker_info

from segmenter_pl.checking.pairs import Examined, Pair, examine


class Complaints:
    """What libraries written in C say on this process's stderr, kept from the terminal."""

    def __init__(self) -> None:
        self.end, entrance = os.pipe()
        for one in (self.end, entrance):
            os.set_blocking(one, False)  # a pipe that nobody empties must not stop the writer
        os.dup2(entrance, 2)

    def __call__(self) -> str:
        """What was said since the last call."""
        try:
            return os.read(self.end, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return ""


class Examination(Dataset[Examined]):
    """`examine` for every pair. Its processes keep what decoders complain of: they name no file, but each has one.

    Args:
        tables: of label values by split, as for `examine`.
    """

    complaints: Complaints

    def __init__(self, pairs: Sequence[Pair], tables: Mapping[str, NDArray[np.integer]], num_classes: int) -> None:
        self.pairs, self.tables, self.num_classes = pairs, tables, num_classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Examined:
        pair = self.pairs[index]
        return examine(pair, self.tables[pair.split], self.num_classes, self.complaints)


def examined(
    pairs: Sequence[Pair], tables: Mapping[str, NDArray[np.integer]], num_classes: int, workers: int | None = None
) -> Iterator[Examined]:
    """The pairs' results in their order; `workers` processes, None for as many as there are cores."""
    if not pairs:
        return
    count = min(workers or usable_cores(), len(pairs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more processes than cores
        loader = DataLoader(
            Examination(pairs, tables, num_classes),
            batch_size=None,
            num_workers=count,
            collate_fn=_unchanged,  # keeps NumPy's arrays
            worker_init_fn=_start_worker,
        )
        results = iter(loader)
    yield from results


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else multiprocessing.cpu_count()


def _unchanged(result: Any) -> Any:
    return result


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the main one ends the others
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, Examination)
    info.dataset.complaints = Complaints()
