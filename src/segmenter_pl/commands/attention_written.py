"""The files that `segmenter attention` writes for a picture.

Shapes: A heads that are shown, h w grid of patches.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segmenter_pl.analysis.attention import Layer
from segmenter_pl.analysis.attention_drawing import attention_overlay, colored, marked, sheet
from segmenter_pl.analysis.attention_queries import Query
from segmenter_pl.analysis.seen import Seen
from segmenter_pl.files import fresh
from segmenter_pl.visualize import Picture

Tile = tuple[str, Picture]  # with a title


@dataclass(frozen=True)
class Style:
    """What is shown, and how.

    Attributes:
        layer: part and number. heads: None is the mean over all. rollout: over all layers up to this one.
        cmap, alpha: colour map, and its strength over the picture. clip: percentile of its last colour, in overlays.
        weights: whether numbers are written too.
    """

    layer: Layer
    heads: tuple[int | None, ...]
    rollout: bool
    cmap: str
    alpha: float
    clip: float
    weights: bool

    @property
    def name(self) -> str:
        """Of the layer, as in the official script's files."""
        return f"{self.layer[0]}_{'rollout' if self.rollout else 'layer'}{self.layer[1]}"

    def head_names(self) -> list[str]:
        """One for each map."""
        return ["rollout"] if self.rollout else ["mean" if head is None else f"head{head}" for head in self.heads]

    def chosen(self, maps: NDArray) -> NDArray:
        """The maps of the heads that are shown, out of those of all heads (all, h, w)."""
        return maps if self.rollout else np.stack([maps.mean(0) if head is None else maps[head] for head in self.heads])

    def overlays(self, seen: Seen, query: Query, maps: NDArray) -> list[Picture]:
        """One for each of the maps (A, h, w), the patch that looks framed in red."""
        overlays = [attention_overlay(seen, one, self.cmap, self.alpha, self.clip) for one in maps]
        return [marked(overlay, seen, query.patch) for overlay in overlays]

    def sheet(self, seen: Seen, query: Query, overlays: list[Picture]) -> Picture:
        """The picture and all overlays beside each other."""
        titles = [f"{self.name}: {query.title}", *self.head_names()]
        return sheet(list(zip(titles, [marked(seen.rgb, seen, query.patch), *overlays], strict=True)))


def file_name(query: Query) -> str:
    """Of what belongs to a query."""
    if query.patch is not None:
        return "patch_{}_{}".format(*query.patch)
    if query.number is None:
        return "cls"
    title = re.sub(r"[^\w.-]+", "-", query.title)
    return f"cls_{query.number}_{title}"


def write_overlays(seen: Seen, query: Query, maps: NDArray, style: Style, folder: Path) -> list[Tile]:
    """`all.png`, an overlay of the picture's size for each map (A, h, w), and `weights.npz` where it is wanted.

    Returns: the overlays, with titles that tell them from those of other layers and queries.
    """
    overlays = style.overlays(seen, query, maps)
    save_png(style.sheet(seen, query, overlays), folder / "all.png")
    for name, overlay in zip(style.head_names(), overlays, strict=True):
        save_png(overlay, folder / f"{name}.png")
    if style.weights:
        with fresh(folder / "weights.npz") as temporary:
            np.savez(temporary, weights=maps, heads=np.array(style.head_names()), query=query.title)
    titles = [f"{style.name}: {query.title}, {name}".removesuffix(", rollout") for name in style.head_names()]
    return list(zip(titles, overlays, strict=True))


def write_official(
    seen: Seen, query: Query, maps: NDArray, style: Style, out: Path, statistics: tuple[NDArray, NDArray]
) -> None:
    """The official script's files: maps alone, each patch P by P pixels, and the picture with a red patch.

    Args: statistics: mean and standard deviation of the model's pixels, 0…255, (3,) each.
    """
    folder = out / style.name / (f"cls_{query.number}" if query.number is not None else file_name(query))
    token = "_cls" if query.patch is None else ""
    ending = token if query.number is None else f"_{query.number}"
    height, width = seen.image.shape[-2:]
    for head, one in zip(style.heads, maps, strict=True):
        big = colored(one, style.cmap).repeat(seen.patch_size, 0).repeat(seen.patch_size, 1)[:height, :width]
        save_png(big, folder / f"{style.name}_attn-head{head}{ending}.png")
    if query.patch is not None:
        x, y = (place * seen.patch_size for place in query.patch)
        values = (seen.image[0].permute(1, 2, 0).cpu().numpy() - statistics[0]) / statistics[1]  # (H', W', 3)
        values = (values - values.min()) / max(values.max() - values.min(), 1e-5)
        values[y : y + seen.patch_size, x : x + seen.patch_size] = (1, 0, 0)
        save_png((255 * values + 0.5).clip(0, 255).astype(np.uint8), folder / "input_img.png")


def save_png(picture: Picture, path: Path) -> None:
    """Write a picture."""
    with fresh(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
