"""The dataset interface: pictures with one train id per pixel; samples are functions of (seed, epoch, index)."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from segmenter_pl.data.classes import Classes
from segmenter_pl.data.sampling import Key

BLANK = 256  # side in pixels of what stands in for a picture that cannot be read


class UnreadableError(ValueError):
    """A picture or label file is missing, damaged or cut short."""


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

    def mask(self, index: int) -> np.ndarray:
        """The mask of `read` alone."""
        return self.read(index)[1]

    @abstractmethod
    def name(self, index: int) -> str:
        """Path of output files, without suffix; unique in the dataset, may hold folders ("/")."""

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        """The sample of an index (evaluation) or of a key of the training's order.

        Every random draw is a function of (seed, epoch, index), whatever worker makes the sample.

        Returns: {"image": uint8 (3, H, W), "mask": (H, W), "index": int, "unreadable": str}. Where `bad_sample` is
            "skip", a picture that cannot be read is a black one without a labelled pixel, and "unreadable" says why.
        """
        epoch, index, *wanted = key if isinstance(key, tuple) else (0, key)
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
        sample = self.transform(image=image, mask=mask, **({"wanted": wanted[0]} if wanted else {}))
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

    def mask(self, index: int) -> np.ndarray:
        return self.dataset.mask(self.indices[index])

    def name(self, index: int) -> str:
        return self.dataset.name(self.indices[index])
