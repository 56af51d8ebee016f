"""Pairs of files: pictures and label pictures of the same size, as they lie on disk."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, UnreadableError

# It warns of a damaged PNG on its own, which is reported here, by name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

LABEL_MODES = ("1", "L", "P", "I", "I;16")  # Pillow's modes that hold one number per pixel; "P" gives palette indices


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
        self._base = Path(os.path.commonpath([path.parent for path in self.pictures]))

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """The path below the pictures' common folder, without suffix."""
        return self.pictures[index].relative_to(self._base).with_suffix("").as_posix()

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        picture = self.pictures[index]
        image = read_picture(picture)
        if not self.labelled:
            return image, np.full(image.shape[:2], self.classes.ignore_index, self.classes.mask_dtype)
        label = self.labels[index]
        raw = read_label(label)
        if image.shape[:2] != raw.shape:
            raise ValueError(
                f"{picture} is {image.shape[1]}x{image.shape[0]} (EXIF rotation applied) and its label {label} is "
                f"{raw.shape[1]}x{raw.shape[0]} pixels: make the label again at the picture's size"
            )
        mask = self.table[raw]  # (H, W)
        if mask.min() < 0:
            values = ", ".join(str(value) for value in np.unique(raw[mask < 0])[:10])
            raise ValueError(
                f"{label} holds label values without a class: {values}. The classes are from {self.source}"
            )
        return image, mask.astype(self.classes.mask_dtype)


def read_picture(path: Path) -> np.ndarray:
    """Decode a picture to (H, W, 3) uint8 RGB, rotated as its EXIF tag says.

    Raises: UnreadableError for a file that is missing, is no picture or is cut short.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8") and not data.endswith(b"\xff\xd9"):
            with Image.open(path) as file:
                file.load()  # OpenCV fills the missing rest of a JPEG with grey and says nothing; Pillow raises
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except OSError as error:
        raise UnreadableError(f"{path} {_ailment(error)}") from error
    if image is None:
        raise UnreadableError(f"{path} cannot be read as a picture ({len(data)} bytes): copy it again, or remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_label(path: Path) -> np.ndarray:
    """Decode a label picture to (H, W) raw values, uint8 or a wider integer type; palette pictures give indices.

    Raises: UnreadableError for a missing or damaged file; ValueError for one with several numbers per pixel.
    """
    try:
        with Image.open(path) as file:
            mode, raw = file.mode, np.array(file)
    except (OSError, SyntaxError) as error:  # Pillow reports a damaged PNG chunk as SyntaxError
        raise UnreadableError(f"{path} {_ailment(error)}") from error
    if mode not in LABEL_MODES:
        raise ValueError(
            f"{path} has mode {mode!r}, that is {raw.shape[-1]} numbers per pixel; labels must hold one class id per "
            "pixel: convert colours to ids and save a grey or palette PNG"
        )
    return raw.astype(np.uint8) if mode == "1" else raw


def _ailment(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is gone: put it back, or start again without it"
    return f"is damaged ({error}): copy or download it again, or remove it"
