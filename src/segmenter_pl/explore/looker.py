"""One checkpoint, and what it made of the pictures that were asked for last.

Shapes: K classes, H W pixels of the picture.
"""

import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from segmenter_pl.analysis.attention import require_attention
from segmenter_pl.analysis.attention_queries import class_names
from segmenter_pl.analysis.seen import Seen
from segmenter_pl.explore.attending import Attending, Look, described
from segmenter_pl.explore.recent import Recent
from segmenter_pl.inference import views_of
from segmenter_pl.memory import is_out_of_memory
from segmenter_pl.models import EncoderDecoder
from segmenter_pl.ops.bands import View, banded_labels, banded_scores
from segmenter_pl.pictures import RGB, PictureError
from segmenter_pl.predictor import Labels, Predictor
from segmenter_pl.visualize import default_palette

SEGMENTED = 16  # pictures and frames whose labels and coarse logits are kept
ONE_AT_A_TIME = Lock()  # models share processors and memory, also two of them


@dataclass(frozen=True)
class Segmented:
    """What a model made of a picture.

    Attributes:
        labels: (H, W). view: coarse logits, from which every pixel's probabilities can be had again.
        seconds: that it took.
    """

    labels: Labels
    view: View
    seconds: float


class Looker:
    """A checkpoint's model as the page sees it.

    Args:
        name: for people. path: where it came from, likewise.
        predictor: of one scale, without mirroring.
    """

    def __init__(self, name: str, path: Path, predictor: Predictor) -> None:
        self.name, self.path, self.predictor = name, path, predictor
        model = predictor.model
        assert isinstance(model, EncoderDecoder)
        self.classes = class_names(model)
        self.palette = (model.spec and model.spec.palette) or default_palette(model.num_classes)
        self._segmented: Recent[Segmented] = Recent(SEGMENTED)
        self._attending: Recent[Attending] = Recent(1)

    def about(self) -> dict[str, Any]:
        """For the page: names, classes, colours, and the layers that attend or why there are none."""
        settings, layers, reason = self.predictor.settings, [], None
        try:
            layers = described(require_attention(self.predictor.model))
        except ValueError as error:
            reason = str(error)
        return {
            "name": self.name,
            "path": str(self.path),
            "device": str(self.predictor.device),
            "seen": {key: settings[key] for key in ("window", "stride", "short_side")},
            "classes": self.classes,
            "palette": self.palette,
            "layers": layers,
            "why_no_attention": reason,
        }

    def segmented(self, key: Hashable, rgb: RGB) -> Segmented:
        """A picture's labels, those of `Predictor.segment`. Raises ValueError where the memory does not suffice."""
        with ONE_AT_A_TIME:
            return self._segmented.get(key, lambda: self._segment(rgb))

    def probabilities(self, key: Hashable, rgb: RGB, x: int, y: int) -> list[float]:
        """Class probabilities (K) at a pixel, those of `Predictor.probabilities`. Raises ValueError outside of it."""
        _require_inside(rgb, x, y)
        view = self.segmented(key, rgb).view
        one = View(view.logits, view.rows[y : y + 1], view.columns[x : x + 1])
        ((_, _, scores),) = banded_scores([one])  # (1, 1, K)
        return scores[0, 0].softmax(-1).tolist()

    def attention(self, key: Hashable, rgb: RGB, x: int, y: int) -> tuple[Look, Seen]:
        """What the patch at a pixel attends to, and the picture as the model sees it whole.

        Raises: ValueError for a model without attention, outside of the picture, or where the memory does not suffice.
        """
        _require_inside(rgb, x, y)
        model = require_attention(self.predictor.model)
        short_side, side = self.predictor.settings["short_side"], model.encoder.patch_size
        with ONE_AT_A_TIME, torch.inference_mode():
            attending = self._attending.get(
                key, lambda: Attending(model, Seen.whole(rgb, short_side, side, self.predictor.device))
            )
            return attending.look(x, y), attending.seen

    @torch.inference_mode()
    def _segment(self, rgb: RGB) -> Segmented:
        start, device = time.perf_counter(), self.predictor.device
        image = torch.from_numpy(rgb).to(device).permute(2, 0, 1).contiguous()  # (3, H, W)
        labels = torch.empty(rgb.shape[:2], dtype=self.predictor.label_dtype, device=device)
        try:
            (view,) = views_of(self.predictor.model, image, **self.predictor.settings)
            for rows, columns, ids in banded_labels([view]):
                labels[rows, columns] = ids
            found = labels.cpu().numpy()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = f"{rgb.shape[1]}x{rgb.shape[0]}"
            raise PictureError(f"the memory does not suffice for {size} pixels: give a smaller picture") from error
        return Segmented(found, view, time.perf_counter() - start)


def _require_inside(rgb: RGB, x: int, y: int) -> None:
    height, width = rgb.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"there is no pixel {x}, {y}: the picture has {width}x{height}")


def same_classes(lookers: list[Looker]) -> bool:
    """Whether the labels of all checkpoints mean the same."""
    return all(one.classes == lookers[0].classes for one in lookers)
