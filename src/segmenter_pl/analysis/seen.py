"""Pictures as the model sees them whole, and which patch each of their pixels lies in.

Shapes: H W pixels of the picture, H' W' of it as the model sees it, P patch side, h w = ceil(H'/P) ceil(W'/P).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmenter_pl.inference import rescaled
from segmenter_pl.memory import is_out_of_memory
from segmenter_pl.ops.upsample import resized_part
from segmenter_pl.pictures import RGB


@dataclass(frozen=True)
class Seen:
    """One picture.

    Attributes:
        rgb: (H, W, 3) uint8. image: RGB (1, 3, H', W'), 0…255, what the model gets. patch_size: P.
    """

    rgb: RGB
    image: Tensor
    patch_size: int

    @classmethod
    def whole(cls, rgb: RGB, short_side: int | None, patch_size: int, device: torch.device) -> "Seen":
        """Resized, bilinearly, so that its short side is `short_side` pixels; None keeps its size."""
        picture = torch.from_numpy(rgb).to(device).permute(2, 0, 1)
        image, (height, width) = rescaled(picture, 1, short_side)
        if (height, width) != tuple(image.shape[-2:]):
            image = resized_part(resized_part(image, 1, height), 2, width)
        return cls(rgb, image[None], patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        height, width = self.image.shape[-2:]
        return -(-height // self.patch_size), -(-width // self.patch_size)

    def patch_at(self, x: int, y: int) -> tuple[int, int]:
        """Column and row of the patch that holds the centre of a pixel of `rgb`."""
        rows, columns = self._patches()
        return int(columns[x]), int(rows[y])

    def full_size(self, values: NDArray) -> NDArray:
        """Values (h, w) of patches as (H, W): each pixel has its patch's."""
        rows, columns = self._patches()
        return values[rows][:, columns]

    def box(self, x: int, y: int) -> tuple[int, int, int, int]:
        """First and last column, first and last row of the pixels of `rgb` that lie in a patch.

        A picture that is enlarged for the model may have patches without a pixel: the nearest pixel then stands for it.
        """
        rows, columns = self._patches()
        return *_span(columns, x), *_span(rows, y)

    def _patches(self) -> tuple[NDArray, NDArray]:
        """The row of patches of each row of pixels, and the column of each column."""
        rows, columns = (
            (2 * np.arange(length) + 1) * seen // (2 * length * self.patch_size)
            for length, seen in zip(self.rgb.shape[:2], self.image.shape[-2:], strict=True)
        )
        return rows, columns


def _span(patches: NDArray, number: int) -> tuple[int, int]:
    first, last = (int(np.searchsorted(patches, number, side)) for side in ("left", "right"))
    return min(first, len(patches) - 1), max(last - 1, min(first, len(patches) - 1))


@contextmanager
def enough_memory(seen: Seen) -> Iterator[None]:
    """Around what looks at a picture: too little memory is a ValueError that tells the way out."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        height, width = seen.image.shape[-2:]
        raise ValueError(
            f"the memory does not suffice for {width}x{height} pixels at once: give a smaller --short-side"
        ) from error
