"""The attention of the patch at a point, in all layers and heads at once.

Shapes: A heads of a layer, h w grid of patches, N = h·w.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.analysis.attention import Attention, Layer, number_of_heads, number_of_layers, read_attention
from segmenter_pl.analysis.attention_queries import pixel_query
from segmenter_pl.analysis.seen import Seen, enough_memory
from segmenter_pl.models import Segmenter

KEPT_BYTES = 2**30  # of queries, keys and values of one picture; beyond it every point takes a run of the model


def layers_of(model: Segmenter) -> list[Layer]:
    """All that attend: the encoder's, then the mask decoder's."""
    return [(part, number) for part in ("enc", "dec") for number in range(number_of_layers(model, part))]


@dataclass(frozen=True)
class Look:
    """What the patch at a point attends to.

    Attributes:
        maps: of each layer, (A, h, w) float32; what other tokens get is missing in the sum.
        patch: its column and row. box: first and last column, first and last row of its pixels.
    """

    maps: list[NDArray[np.float32]]
    patch: tuple[int, int]
    box: tuple[int, int, int, int]


class Attending:
    """A picture in a model's eyes. The model runs once, and points are then a matter of milliseconds."""

    def __init__(self, model: Segmenter, seen: Seen) -> None:
        self.seen = seen
        self._model, self._layers = model, layers_of(model)
        self._kept: list[Attention] | None = None
        height, width = seen.grid
        wanted = 4 * 3 * height * width * model.encoder.vit.embed_dim * len(self._layers)
        if wanted <= KEPT_BYTES:
            with enough_memory(seen):
                self._kept = read_attention(model, seen.image, self._layers, lambda attention: attention)

    def look(self, x: int, y: int) -> Look:
        """From a pixel of the picture. Raises ValueError where weights are not finite."""
        query = {part: pixel_query(self._model, part, self.seen, x, y) for part in ("enc", "dec")}
        rows = iter([query[part].row for part, _ in self._layers])
        with enough_memory(self.seen):
            if self._kept is None:
                found = read_attention(self._model, self.seen.image, self._layers, lambda one: one.maps([next(rows)]))
            else:
                found = [one.maps([row]) for one, row in zip(self._kept, rows, strict=True)]
        maps = [one[0, :, 0].cpu().numpy() for one in found]  # (1, A, 1, h, w) -> (A, h, w)
        if not all(np.isfinite(one).all() for one in maps):
            raise ValueError("the model's attention is not finite: its weights are spoilt")
        patch = query["enc"].patch
        assert patch is not None
        return Look(maps, patch, self.seen.box(*patch))


def described(model: Segmenter) -> list[dict[str, object]]:
    """Part, number and number of heads of each layer, for the page."""
    return [
        {"part": part, "number": number, "heads": number_of_heads(model, (part, number))}
        for part, number in layers_of(model)
    ]
