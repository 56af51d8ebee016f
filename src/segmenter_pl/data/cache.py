"""Decoded pictures and masks, kept after their first reading: in memory or on disk, the same bits as decoding again."""

import hashlib
import mmap
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from errno import ENOSPC
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segmenter_pl.data.pairs import PairDataset
from segmenter_pl.files import fresh

RESERVE = 1 << 30  # bytes of a disk that stay free: checkpoints may go there
STAMP = 16  # bytes at the head of a file that tell which version of picture and label it was made from

Sample = tuple[np.ndarray, np.ndarray]
Decode = Callable[[int], Sample]


class RamCache:
    """Samples in memory that worker processes share with the process that made them, if they are its forks.

    Every process of a training on several devices has its own. Pickled, it arrives empty.

    Args:
        sizes: bytes of each sample's picture and mask; one that turns out larger is not kept.
        mask_dtype: of the masks.
    """

    def __init__(self, sizes: Sequence[int], mask_dtype: Any) -> None:
        self.sizes, self.mask_dtype = list(sizes), np.dtype(mask_dtype)
        starts = np.cumsum([0, *(-(-size // 2) * 2 for size in self.sizes)])  # even, for int16
        self.starts = starts.tolist()
        self.shapes = np.frombuffer(mmap.mmap(-1, 8 * max(len(self.sizes), 1)), np.int32).reshape(-1, 2)  # 0: not kept
        self.data = np.frombuffer(mmap.mmap(-1, max(self.starts[-1], 1)), np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        return RamCache, (self.sizes, self.mask_dtype)

    def read(self, index: int, decode: Decode) -> Sample:
        """The sample `decode(index)`, or a copy of what it was before."""
        height, width = self.shapes[index].tolist()
        if height:
            image, mask = self._slot(index, height, width)
            return image.copy(), mask.copy()
        image, mask = decode(index)
        if image.nbytes + mask.nbytes <= self.sizes[index]:
            kept_image, kept_mask = self._slot(index, *mask.shape)
            kept_image[:], kept_mask[:] = image, mask
            self.shapes[index, 1] = mask.shape[1]
            self.shapes[index, 0] = mask.shape[0]  # last, because it says that the rest is there
        return image, mask

    def _slot(self, index: int, height: int, width: int) -> Sample:
        return _views(self.data[self.starts[index] :], height, width, self.mask_dtype)


class DiskCache:
    """Samples as one file each, for every process and every later run that reads the same files by the same table.

    They lie below $SEGMENTER_CACHE, default ~/.cache/segmenter, and nothing removes them. A file begins with a stamp of
    the sizes and times of picture and label, so that it is made again when they change. What cannot be written, e.g.
    because the disk is full, is warned of once; from then on nothing more is written.

    Args:
        pairs: whose samples they are.
        stopped: not 0 once writing has failed; all caches of a process and its workers share it (`RawValue("b", 0)`).
    """

    def __init__(self, pairs: PairDataset, stopped: Any) -> None:
        self.stopped = stopped
        root = Path(os.environ.get("SEGMENTER_CACHE") or Path.home() / ".cache" / "segmenter")
        self.pairs, self.mask_dtype = pairs, np.dtype(pairs.classes.mask_dtype)
        base = pairs.base.absolute()
        facts = base, pairs.classes.ignore_index, self.mask_dtype, sys.byteorder, cv2.__version__  # decoders may differ
        meaning = hashlib.sha256(" ".join(map(str, facts)).encode() + pairs.table.tobytes())
        self.folder = root / f"{base.name}-{meaning.hexdigest()[:12]}"

    def path(self, index: int) -> Path:
        """Where a sample is kept, or would be."""
        name = hashlib.sha256(str(self.pairs.pictures[index].relative_to(self.pairs.base)).encode()).hexdigest()[:24]
        return self.folder / name[:2] / f"{name[2:]}.raw"

    def read(self, index: int, decode: Decode) -> Sample:
        """The sample `decode(index)`, or what it was when picture and label had the sizes and times that they have."""
        try:
            stamp = self._stamp(index)
        except OSError:
            return decode(index)  # which says what is wrong with the file
        kept = self._load(index, stamp)
        if kept is None:
            kept = decode(index)
            if not self.stopped.value:
                self._save(index, stamp, *kept)
        return kept

    def _stamp(self, index: int) -> bytes:
        files = [self.pairs.pictures[index], *self.pairs.labels[index : index + 1]]
        facts = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(repr(facts).encode()).digest()[:STAMP]

    def _load(self, index: int, stamp: bytes) -> Sample | None:
        try:
            data = np.fromfile(self.path(index), np.uint8)
        except OSError:
            return None
        if len(data) < STAMP + 8 or data[:STAMP].tobytes() != stamp:
            return None
        height, width = data[STAMP : STAMP + 8].view(np.int32).tolist()
        if len(data) != STAMP + 8 + height * width * (3 + self.mask_dtype.itemsize):
            return None
        return _views(data[STAMP + 8 :], height, width, self.mask_dtype)

    def _save(self, index: int, stamp: bytes, image: np.ndarray, mask: np.ndarray) -> None:
        try:
            with fresh(self.path(index)) as temporary, temporary.open("wb") as file:
                if shutil.disk_usage(temporary.parent).free < RESERVE + image.nbytes + mask.nbytes:
                    raise OSError(ENOSPC, f"less than {RESERVE / 1e9:.0f} GB would stay free")
                file.write(stamp)
                for part in (np.array(mask.shape, np.int32), mask, image):
                    file.write(np.ascontiguousarray(part).data)
        except OSError as error:
            if not self.stopped.value:
                self.stopped.value = 1
                warn(f"{error}. No more pictures are added to it: the others are decoded each time")


def warn(message: str) -> None:
    """Tell people about a disk cache, once for each message."""
    warnings.warn(f"dataset.cache=disk: {message}", stacklevel=3)


def _views(data: np.ndarray, height: int, width: int, mask_dtype: np.dtype) -> Sample:
    """Picture and mask as they lie in bytes: the mask first, which keeps the two bytes of an int16 together."""
    middle = height * width * mask_dtype.itemsize
    image = data[middle : middle + 3 * height * width].reshape(height, width, 3)
    return image, data[:middle].view(mask_dtype).reshape(height, width)
