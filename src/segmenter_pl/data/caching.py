"""Which data sets get a cache of decoded pictures, and whether there is room for it."""

import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import RawValue, get_all_start_methods, get_start_method
from pathlib import Path

import numpy as np

from segmenter_pl.data.cache import RESERVE, DiskCache, RamCache, warn
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.data.memory import available_memory
from segmenter_pl.data.pairs import PairDataset
from segmenter_pl.pictures import TooLargeError, opened

CACHES = ("none", "ram", "disk")
SHARE = 0.8  # of the memory that is available; the training needs some, too


def keep_decoded(
    kind: str, parts: Sequence[tuple[SegmentationDataset, Collection[int]]], *, workers: int, processes: int
) -> None:
    """Give data sets a cache, "ram" or "disk", before their workers start.

    Args:
        parts: each data set with the indices that will be read.
        workers: loader processes. processes: how many on this machine do the same, each with a memory cache of its own.

    Raises: ValueError for data sets without files; for "ram" if memory is short, or workers would not be forks.
    """
    of_files = [(pairs, indices) for pairs, indices in parts if isinstance(pairs, PairDataset)]
    if len(of_files) < len(parts):
        raise ValueError(f"dataset.cache={kind} keeps decoded files, and this dataset reads none: leave it at none")
    sizes = [_decoded_sizes(pairs, indices) for pairs, indices in of_files]
    if kind == "ram":
        _check_start_method(workers)
        _check_memory(sum(map(sum, sizes)), processes)
        for (pairs, _), each in zip(of_files, sizes, strict=True):
            pairs.cache = RamCache(each, pairs.classes.mask_dtype)
        return
    needed, stopped = 0, RawValue("b", 0)
    for (pairs, _), each in zip(of_files, sizes, strict=True):
        pairs.cache = cache = DiskCache(pairs, stopped)
        needed += sum(size for index, size in enumerate(each) if size and not cache.path(index).exists())
    _check_disk(needed, cache.folder.parent)


def _check_start_method(workers: int) -> None:
    method = get_start_method(allow_none=True) or get_all_start_methods()[0]
    if workers and method != "fork":
        raise ValueError(
            f"dataset.cache=ram is shared with forked workers alone, and processes start by {method} here: "
            "set dataset.cache=disk, or dataset.num_workers=0"
        )


def _check_memory(needed: int, processes: int) -> None:
    available = available_memory()
    if available is not None and needed * processes > SHARE * available:
        times = f" in each of {processes} processes" if processes > 1 else ""
        raise ValueError(
            f"dataset.cache=ram needs {needed / 1e9:.2f} GB{times}, and may take {SHARE:.0%} of the "
            f"{available / 1e9:.2f} GB of memory that are available: set dataset.cache=disk, or none"
        )


def _check_disk(needed: int, folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed and needed > free - RESERVE:
        warn(
            f"{folder} will not take all pictures: {needed / 1e9:.1f} GB are still to come, {free / 1e9:.1f} GB are "
            f"free, and {RESERVE / 1e9:.0f} GB stay so. Set SEGMENTER_CACHE to a folder with more room"
        )


def _decoded_sizes(pairs: PairDataset, indices: Collection[int]) -> list[int]:
    """Bytes of each sample's picture and mask, from the pictures' headers; 0 for those that are not in `indices`."""
    wanted = sorted(indices)
    with ThreadPoolExecutor(16) as pool:
        pixels = dict(zip(wanted, pool.map(_pixels, [pairs.pictures[index] for index in wanted]), strict=True))
    return [pixels.get(index, 0) * (3 + np.dtype(pairs.classes.mask_dtype).itemsize) for index in range(len(pairs))]


def _pixels(path: Path) -> int:
    try:
        with opened(path) as file:
            return file.width * file.height
    except (OSError, SyntaxError, TooLargeError):
        return 0  # it is not kept; reading it will say what is wrong
