"""One pair, read to the end: what is wrong with its files, and what they hold."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.checking.findings import Finding
from segmenter_pl.data.pairs import LABEL_MODES, read_label, read_picture
from segmenter_pl.pictures import opened

START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
PADDING = 16  # so many of them, some cameras leave; more are the rest of a damaged stretch
UNKNOWN_SHOWN = 10  # values


@dataclass(frozen=True)
class Pair:
    """The files of one name; one of them may be missing."""

    split: str
    picture: Path | None
    label: Path | None


@dataclass
class Examined:
    """What came of a pair.

    Attributes:
        size: (width, height) of the picture, EXIF rotation applied; None where it cannot be read.
        kind: what it is on disk: Pillow's mode, with " 16 bit" behind it.
        digest: of its RGB pixels and their shape, so that a copy saved anew without loss has the same.
        counts: (K + 1,) pixels by train id, the ignored ones last; None where there is no label to be read.
        unknown: pixels by label value, for values without a train id.
    """

    pair: Pair
    findings: list[Finding] = field(default_factory=list)
    size: tuple[int, int] | None = None
    kind: str = ""
    digest: bytes = b""
    counts: NDArray[np.int64] | None = None
    unknown: dict[int, int] = field(default_factory=dict)

    def found(self, kind: str, file: Path, text: str) -> None:
        """Note a finding about one of the files."""
        self.findings.append(Finding(kind, self.pair.split, file, text))


def examine(pair: Pair, table: NDArray[np.integer], num_classes: int, complaints: Callable[[], str]) -> Examined:
    """Read both files and look for everything at once.

    Args:
        table: train id of every raw label value, -1 where there is none, above `num_classes` where it does not count.
        complaints: gives what the decoders wrote to stderr since the last call.
    """
    result = Examined(pair)
    if pair.picture is not None:
        _picture(pair.picture, result, complaints)
    if pair.label is not None:
        _label(pair.label, result, table, num_classes)
    return result


def _picture(path: Path, result: Examined, complaints: Callable[[], str]) -> None:
    complaints()
    try:
        image = read_picture(path)
        result.kind = _kind(path)
        if not _is_whole(path.read_bytes()):
            raise ValueError("the end of the JPEG is missing")
    except MemoryError:
        raise
    except Exception as error:  # decoders answer damaged bytes with almost any exception
        result.found("unreadable picture", path, _reason(path, error))
        return
    height, width = image.shape[:2]
    result.size = (width, height)
    result.digest = hashlib.blake2b(image.data, digest_size=16, key=f"{width}x{height}".encode()).digest()
    # libjpeg fills what it cannot decode and goes on; it only says so.
    if said := next((line for line in complaints().splitlines() if "JPEG" in line), ""):
        extraneous = EXTRANEOUS.search(said)
        harmless = extraneous is not None and int(extraneous[1]) <= PADDING
        result.found("odd picture" if harmless else "unreadable picture", path, said)


def _kind(path: Path) -> str:
    """As `Examined.kind`. Raises: almost anything, for a file that Pillow cannot read to the end."""
    with opened(path) as file:
        deep = any("16" in str(tile.args) for tile in file.tile) and "16" not in file.mode
        if file.format not in ("JPEG", "MPO", "PNG"):  # OpenCV finds damage in PNGs, and `_is_whole` in JPEGs
            file.load()
        return f"{file.mode} 16 bit" if deep else file.mode


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG has its end marker; a download cut short may be filled with zeros. Other files are.

    The walk passes by the preview in a header, which has an end of its own.
    """
    if not data.startswith(b"\xff\xd8"):
        return True
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != START_OF_SCAN:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return data.find(END_OF_IMAGE, at) >= 0


def _label(path: Path, result: Examined, table: NDArray[np.integer], num_classes: int) -> None:
    try:
        with opened(path) as file:
            mode, form = file.mode, file.format
            if form == "PNG":
                file.verify()  # the check sums, which reading ignores
        raw = read_label(path) if mode in LABEL_MODES else None
    except MemoryError:
        raise
    except Exception as error:
        result.found("unreadable label", path, _reason(path, error))
        return
    if raw is None:
        text = f"its mode is {mode}: save one whole number per pixel, the class id, as a grey or palette PNG"
        result.found("colour label", path, text)
        return
    if form == "JPEG":
        result.found("lossy label", path, "make it again as PNG")
    if result.size and result.size != raw.shape[::-1]:
        (width, height), (own_height, own_width) = result.size, raw.shape
        text = f"it is {own_width}x{own_height}, its picture {result.pair.picture} {width}x{height} pixels"
        result.found("size", path, text)
    _count(path, raw, result, table, num_classes)


def _count(
    path: Path, raw: NDArray[np.integer], result: Examined, table: NDArray[np.integer], num_classes: int
) -> None:
    values, pixels = _histogram(raw)
    ids = np.where((values >= 0) & (values < len(table)), table[np.clip(values, 0, len(table) - 1)], -1)
    known = ids >= 0
    result.counts = np.zeros(num_classes + 1, np.int64)
    np.add.at(result.counts, np.minimum(ids[known], num_classes), pixels[known])
    result.unknown = dict(zip(values[~known].tolist(), pixels[~known].tolist(), strict=True))
    if result.unknown:
        shown = [f"value {value} at {number} pixels" for value, number in result.unknown.items()]
        more = [f"{len(shown) - UNKNOWN_SHOWN} more values"] if len(shown) > UNKNOWN_SHOWN else []
        result.found("unknown value", path, ", ".join(shown[:UNKNOWN_SHOWN] + more))
    elif not result.counts[:num_classes].any():
        result.found("nothing labelled", path, "all its pixels are ignored")


def _histogram(raw: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that occur, ascending, and their numbers."""
    if raw.dtype not in (np.uint8, np.uint16):
        return np.unique(raw.astype(np.int64), return_counts=True)
    numbers = np.bincount(raw.ravel())
    values = np.flatnonzero(numbers)
    return values, numbers[values]


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not path.exists():
        return "it is a link to a file that is not there" if path.is_symlink() else "it is gone"
    if not path.stat().st_size:
        return "it is empty (0 bytes)"
    return str(error).removeprefix(f"{path} ")
