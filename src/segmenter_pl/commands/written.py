"""The files that `segmenter predict` writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segmenter_pl.files import fresh
from segmenter_pl.pictures import PictureError
from segmenter_pl.predictor import Labels, Predictor
from segmenter_pl.visualize import (
    Palette,
    Picture,
    beside,
    class_shares,
    default_palette,
    legend,
    overlay,
    save_label_png,
)

JPEG_SIDE = 65500  # pixels, of libjpeg


@dataclass(frozen=True)
class Style:
    """How results look.

    Attributes:
        names, palette: of the K classes. alpha: of the colours in overlays. legend: whether they have one.
        probabilities: whether they are written.
    """

    names: tuple[str, ...]
    palette: Palette
    alpha: float = 0.5
    legend: bool = False
    probabilities: bool = False

    @classmethod
    def of(cls, predictor: Predictor, **choices: object) -> "Style":
        """With the names and colours that the model knows, or numbers and made-up colours."""
        spec, count = getattr(predictor.model, "spec", None), predictor.model.num_classes
        names = (spec and spec.classes) or tuple(f"class {k}" for k in range(count))
        return cls(names, (spec and spec.palette) or default_palette(count), **choices)  # type: ignore[arg-type]

    def overlay(self, rgb: Picture, labels: Labels, *, cut: bool = False) -> Picture:
        """The overlay, with its legend on the right where one is wanted; `cut` as in `visualize.legend`."""
        mixed = overlay(rgb, labels, self.palette, self.alpha)
        if not self.legend:
            return mixed
        shares = class_shares(labels, len(self.names))
        return beside(mixed, legend(shares, self.names, self.palette, len(rgb), cut=cut))


def write_picture(
    rgb: Picture, labels: Labels, probabilities: np.ndarray | None, paths: Mapping[str, Path], style: Style
) -> None:
    """Label PNG, `.npz` with `probabilities` (K, H, W) float16 and `classes` (K,) names, and the overlay.

    Raises: OSError that names the file; PictureError where the overlay, the last of them, is too large for JPEG.
    """
    save_label_png(labels, paths["labels"], style.palette)
    if probabilities is not None:
        with fresh(paths["probabilities"]) as temporary:
            np.savez(temporary, probabilities=probabilities, classes=np.array(style.names))
    shown = style.overlay(rgb, labels)
    if paths["overlays"].suffix == ".jpg" and max(shown.shape) > JPEG_SIDE:
        raise PictureError(
            f"its labels are written, but its overlay of {shown.shape[1]}x{shown.shape[0]} pixels is beyond JPEG's "
            f"{JPEG_SIDE}: give --overlay png"
        )
    with fresh(paths["overlays"]) as temporary:
        Image.fromarray(shown).save(temporary, quality=92)
