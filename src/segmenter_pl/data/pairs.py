"""Pairs of files: pictures and label pictures of the same size, as they lie on disk."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, UnreadableError
from segmenter_pl.pictures import (
    PictureError,
    TooLargeError,
    most_pixels,
    opened,
    quiet_pillow,
    read_rgb,
    refuse_beyond_limit,
)

if TYPE_CHECKING:
    from segmenter_pl.data.cache import DiskCache, RamCache

# It warns of a damaged PNG on its own, which is reported here, by name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of pictures
LABEL_MODES = ("1", "L", "P", "I", "I;16")  # Pillow's modes that hold one number per pixel; "P" gives palette indices
PNG = b"\x89PNG\r\n\x1a\n"
GREY_BYTES = b"\x08\x00"  # bit depth and colour type in the header of a PNG
GREY_BITS = {b"\x02\x00": 85, b"\x04\x00": 17}  # what Pillow multiplies grey values of 2 and 4 bits with
CHANNELS, BITS, EXTRA = 277, 258, 338  # TIFF tags
# What is found out only while decoding; OpenCV has a limit of its own, 1074 megapixels.
TOO_LARGE = (Image.DecompressionBombError, cv2.error)


class PairDataset(SegmentationDataset):
    """Picture files and label files of the same size.

    Args:
        pictures, labels: paths, one label per picture; `labels` None: there are none, and no pixel counts.
        table: the train id of every raw label value, -1 where the value has none; shape (65536,), an integer type.
        source: where the table comes from; named in the error about a label value without a train id.
    """

    def __init__(
        self, pictures: Sequence[Path], labels: Sequence[Path] | None, classes: Classes, table: np.ndarray, source: str
    ) -> None:
        super().__init__(classes)
        self.pictures, self.labels, self.labelled = list(pictures), list(labels or ()), labels is not None
        self.table, self.source = table.astype(np.int16), source
        self.cache: RamCache | DiskCache | None = None
        self.base = Path(os.path.commonpath([path.parent for path in self.pictures]))

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """The path below the pictures' common folder, without suffix."""
        return self.pictures[index].relative_to(self.base).with_suffix("").as_posix()

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.decode(index) if self.cache is None else self.cache.read(index, self.decode)

    def mask(self, index: int) -> np.ndarray:
        return self._train_ids(index, read_label(self.labels[index])) if self.labelled else super().mask(index)

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`read` from the files themselves, whatever is cached."""
        picture = self.pictures[index]
        image = read_picture(picture)
        if not self.labelled:
            return image, np.full(image.shape[:2], self.classes.ignore_index, self.classes.mask_dtype)
        raw = read_label(self.labels[index])
        if image.shape[:2] != raw.shape:
            raise ValueError(
                f"{picture} is {image.shape[1]}x{image.shape[0]} (EXIF rotation applied) and its label "
                f"{self.labels[index]} is {raw.shape[1]}x{raw.shape[0]} pixels: make the label again at the picture's "
                "size"
            )
        return image, self._train_ids(index, raw)

    def _train_ids(self, index: int, raw: np.ndarray) -> np.ndarray:
        # OpenCV's look-up is five times faster than indexing, and takes bytes alone
        mask = cv2.LUT(raw, self.table[:256]) if raw.dtype == np.uint8 else self.table[raw]  # (H, W)
        if mask.min() < 0:
            values = ", ".join(str(value) for value in np.unique(raw[mask < 0])[:10])
            raise ValueError(
                f"{self.labels[index]} holds label values without a class: {values}. The classes are from {self.source}"
            )
        return mask.astype(self.classes.mask_dtype)


def read_picture(path: Path) -> np.ndarray:
    """Decode a picture to (H, W, 3) uint8 RGB, rotated as its EXIF tag says.

    Raises: UnreadableError for a file that is missing, is no picture, is cut short or has more pixels than the limit.
    """
    most_pixels()  # a wrong limit is no fault of the file
    try:
        data = path.read_bytes()
        if data[:4] in TiffImagePlugin.PREFIXES:
            return _read_tiff(path)
        # Pillow looks at the size, for OpenCV would decode first; what Pillow does not know could be of any size.
        with opened(io.BytesIO(data)) as file:
            if data.startswith(b"\xff\xd8") and not data.endswith(b"\xff\xd9"):
                file.load()  # OpenCV fills the missing rest of a JPEG with grey and says nothing; Pillow raises
        image = _decoded(data, cv2.IMREAD_COLOR_RGB)
    except TooLargeError as error:
        raise UnreadableError(f"{path} {error}") from error
    except UnidentifiedImageError:
        image = None
    except TOO_LARGE as error:
        raise UnreadableError(f"{path} is too large to be read ({_first_line(error)}): cut it into pieces") from error
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # Pillow answers damaged bytes with almost any exception
        raise UnreadableError(f"{path} {_ailment(error)}") from error
    if image is None:
        raise UnreadableError(f"{path} cannot be read as a picture ({len(data)} bytes): copy it again, or remove it")
    return image


def read_label(path: Path) -> np.ndarray:
    """Decode a label picture to (H, W) raw values, uint8 or a wider integer type; palette pictures give indices.

    Raises: UnreadableError for a missing or damaged file, or one beyond the limit; ValueError for one with several
        numbers per pixel.
    """
    most_pixels()  # a wrong limit is no fault of the file
    try:
        data = path.read_bytes()
        raw: np.ndarray | None
        depth_and_kind = data[24:26] if data[12:16] == b"IHDR" else b""  # of a PNG
        if depth_and_kind == GREY_BYTES:
            refuse_beyond_limit(int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]))
            mode, raw = "L", _decoded(data, cv2.IMREAD_UNCHANGED)
        else:  # OpenCV would expand palettes
            with opened(path) as file:  # by its name, which then stands in the errors
                mode, raw = file.mode, np.array(file) // GREY_BITS.get(depth_and_kind, 1)
    except TooLargeError as error:
        raise UnreadableError(f"{path} {error}") from error
    except TOO_LARGE as error:
        raise UnreadableError(f"{path} is too large to be read ({_first_line(error)}): cut it into pieces") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow answers damaged bytes with almost any exception
        raise UnreadableError(f"{path} {_ailment(error)}") from error
    if raw is None:  # OpenCV is quicker than Pillow, and finds damage that Pillow lets pass
        raise UnreadableError(f"{path} is damaged (its PNG data): copy or download it again, or remove it")
    if mode not in LABEL_MODES:
        raise ValueError(
            f"{path} has mode {mode!r}; labels must hold one class id, a whole number, per pixel: convert it and save "
            "a grey or palette PNG"
        )
    return raw.astype(np.uint8) if mode == "1" else raw


def _decoded(data: bytes, flags: int) -> np.ndarray | None:
    """With OpenCV; None for what it cannot read. It would make room for whatever a chunk of a PNG claims: gigabytes."""
    at = len(PNG)
    while data.startswith(PNG) and at < len(data):
        at += 12 + int.from_bytes(data[at : at + 4])  # length, kind, check sum
    return None if at > len(data) else cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _read_tiff(path: Path) -> np.ndarray:
    """With Pillow: OpenCV multiplies colours with alpha. Raises: UnreadableError; almost anything for damage."""
    if problem := tiff_problem(path, bits=16):
        raise UnreadableError(
            f"{path} {problem}: only grey and RGB pictures are read, with or without alpha; choose three channels"
        )
    try:
        return read_rgb(path)
    except PictureError as error:
        raise UnreadableError(str(error)) from error


def tiff_problem(path: Path, bits: int) -> str:
    """Why a TIFF is not read, or "": OpenCV and Pillow drop further channels, some without a word.

    Args:
        bits: so many a channel may have, at most; of 16 the upper 8 are read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if start[:4] not in TiffImagePlugin.PREFIXES:
            return ""
        quiet_pillow()
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
    channels, depth = tags.get(CHANNELS, 1), max(tags.get(BITS, (1,)))
    alpha = any(kind in (1, 2) for kind in tags.get(EXTRA, ()))
    return f"has {channels} channels of {depth} bits" if channels - alpha > 3 or depth > bits else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _ailment(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is gone: put it back, or start again without it"
    return f"is damaged ({error}): copy or download it again, or remove it"
