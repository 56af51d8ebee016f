"""Predictions as the evaluation servers of ADE20K and Cityscapes read them.

`SUBMISSIONS` has for each server what makes the file's path of a picture's name (its path without suffix), and what
makes the file's pixels of train ids; `evaluation.LabelWriter` writes them.
"""

from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

# Label ids of the 19 classes that count, by train id (labels.py of cityscapesScripts).
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def ade20k_submission(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Train ids 0…149 (H, W) to label values 1…150 (H, W). Raises ValueError for other ids."""
    return _translated(labels, tuple(range(1, 151)), "ADE20K")


def ade20k_path(name: str) -> PurePosixPath:
    """The picture's own name, without folders: `ADE_test_00000001.png`."""
    return PurePosixPath(f"{PurePosixPath(name).name}.png")


def cityscapes_submission(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Train ids 0…18 (H, W) to Cityscapes' label ids 7…33 (H, W). Raises ValueError for other ids."""
    return _translated(labels, CITYSCAPES_IDS, "Cityscapes")


def cityscapes_path(name: str) -> PurePosixPath:
    """`berlin_000000_000019_labelIds.png` for the picture `…/berlin_000000_000019_leftImg8bit`.

    The official script looks for `<city>_<sequence>_<frame>*.png` in all folders, and wants exactly one.
    Raises ValueError for a name without these three parts.
    """
    parts = PurePosixPath(name).name.split("_")
    if len(parts) < 3 or not parts[0] or not (parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(f"{name} is no Cityscapes picture: their names begin with <city>_<sequence>_<frame>")
    return PurePosixPath("_".join([*parts[:3], "labelIds.png"]))


def _translated(labels: NDArray[np.integer], values: tuple[int, ...], server: str) -> NDArray[np.uint8]:
    if labels.size and not 0 <= labels.min() <= labels.max() < len(values):
        raise ValueError(
            f"predictions hold class ids {labels.min()}…{labels.max()} but {server} has the classes "
            f"0…{len(values) - 1}: choose a model of that dataset"
        )
    return np.array(values, np.uint8)[labels]


SUBMISSIONS = {
    "ade20k": (ade20k_path, ade20k_submission),
    "cityscapes": (cityscapes_path, cityscapes_submission),
}
