"""Pictures with one train id per pixel: the class table, the dataset interface, and pairs of files on disk."""

import os
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

# It warns of a damaged PNG on its own, which is reported here, by name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

BLANK = 256  # side in pixels of what stands in for a picture that cannot be read


class UnreadableError(ValueError):
    """A picture or label file is missing, damaged or cut short."""


LABEL_MODES = ("1", "L", "P", "I", "I;16")  # Pillow's modes that hold one number per pixel; "P" gives palette indices


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset: train id k has name `names[k]` and colour `palette[k]` (RGB, 0…255).

    Raises ValueError for an empty table, unequal lengths, duplicate names, or an ignore index that is a train id.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.palette):
            raise ValueError(
                f"{len(self.names)} class names and {len(self.palette)} colours: give one colour per class"
            )
        if duplicates := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(
                f"class names occur more than once: {', '.join(duplicates)}; give every class its own name"
            )
        if wrong := [color for color in self.palette if len(color) != 3 or not all(0 <= c <= 255 for c in color)]:
            raise ValueError(f"colour {wrong[0]} is not three numbers 0…255: correct it")
        highest = np.iinfo(self.mask_dtype).max
        if not len(self.names) <= self.ignore_index <= highest:
            raise ValueError(
                f"ignore_index={self.ignore_index} must lie in {len(self.names)}…{highest}: beyond the train ids, and "
                "within what a mask can hold"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mask_dtype(self) -> type[np.uint8] | type[np.int16]:
        """uint8 up to 255 classes (255 stays free for ignored pixels), int16 above."""
        return np.uint8 if len(self) <= 255 else np.int16


class SegmentationDataset(Dataset[dict[str, Any]], ABC):
    """Pictures and masks of one split. `read` gives them as they are; indexing applies `transform`."""

    transform: Any  # a pipeline of `transforms`; the data module sets it, the seed and what to do with bad files
    seed: int = 0
    bad_sample: str = "fail"
    labelled: bool = True  # False: masks hold nothing but the ignore index, there is only something to predict

    def __init__(self, classes: Classes) -> None:
        self.classes = classes

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3) uint8 RGB and the mask (H, W) of train ids, uint8 (int16 above 255 classes).

        Raises: UnreadableError for a missing or damaged file.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Path of output files, without suffix; unique in the dataset, may hold folders ("/")."""

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """The sample of an index (evaluation) or of an (epoch, index) pair (training).

        Every random draw is a function of (seed, epoch, index), whatever worker makes the sample.

        Returns: {"image": uint8 (3, H, W), "mask": (H, W), "index": int, "unreadable": str}. Where `bad_sample` is
            "skip", a picture that cannot be read is a black one without a labelled pixel, and "unreadable" says why.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        unreadable = ""
        try:
            image, mask = self.read(index)
        except UnreadableError as error:
            if self.bad_sample == "fail":
                raise
            unreadable = str(error)
            image = np.zeros((BLANK, BLANK, 3), np.uint8)
            mask = np.full((BLANK, BLANK), self.classes.ignore_index, self.classes.mask_dtype)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch, index))
        # One state for all steps: `set_random_seed` would give each the same numbers, so that flip follows scale.
        word = int(sequence.generate_state(1, np.uint64)[0])
        self.transform.set_random_state(np.random.default_rng(sequence), random.Random(word))
        sample = self.transform(image=image, mask=mask)
        return {"image": sample["image"], "mask": sample["mask"], "index": index, "unreadable": unreadable}


class Subset(SegmentationDataset):
    """The samples `indices` of a dataset, numbered from 0."""

    def __init__(self, dataset: SegmentationDataset, indices: Sequence[int]) -> None:
        super().__init__(dataset.classes)
        self.dataset, self.indices, self.labelled = dataset, indices, dataset.labelled

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.dataset.read(self.indices[index])

    def name(self, index: int) -> str:
        return self.dataset.name(self.indices[index])


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
