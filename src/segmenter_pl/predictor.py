"""Pictures in, label maps out: `Predictor(load_segmenter(path)).segment(picture)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segmenter_pl.inference import SCALES, Settings, TooLongError, averages, predict_bands, predict_label_bands
from segmenter_pl.ops import best_class
from segmenter_pl.pictures import PictureError, Source, read_rgb

if TYPE_CHECKING:
    from segmenter_pl.models.segmenter import ModelSpec, SegmentationModel

Labels = NDArray[np.uint8] | NDArray[np.int16]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Predictor:
    """A model with all that is decided about how it looks at pictures.

    Args:
        model: any `SegmentationModel`; it is put into evaluation mode and onto the device.
        window, stride: side and step of the sliding window, pixels; default: `model.spec`'s (the stride at most the
            window; without a spec, the window).
        short_side: pictures are brought to this short side first; None keeps their size, "auto" is `model.spec`'s.
        multiscale: average the class probabilities over the paper's six scales. flip: and over mirrored pictures.
        device: such as "cpu", "cuda:1"; default: where the model is, or an accelerator if there is one.
        precision: "float32", or "bfloat16" or "float16" for the model's large products; scores stay float32.

    Attributes:
        settings: the keywords for `inference.predict_bands`.

    Raises: ValueError for settings that do not fit, naming what to give.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        window: int | None = None,
        stride: int | None = None,
        short_side: int | Literal["auto"] | None = "auto",
        multiscale: bool = False,
        flip: bool = False,
        device: str | torch.device | None = None,
        precision: str = "float32",
    ) -> None:
        spec: ModelSpec | None = getattr(model, "spec", None)
        self.settings: Settings = {
            **_settings(spec, window, stride, short_side),
            "scales": SCALES if multiscale else (1.0,),
            "flip": flip,
        }
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision}: give one of {', '.join(PRECISIONS)}")
        self.device = _device(device, model)
        if isinstance(model, nn.Module):
            model.to(self.device).eval()
        self.model = model
        dtype = PRECISIONS[precision]
        self._seen: SegmentationModel = model if dtype is None else _Autocast(model, self.device, dtype)

    def segment(self, picture: Source) -> Labels:
        """Class ids (H, W) of a picture, uint8 (int16 above 256 classes).

        Args:
            picture: a path, a Pillow picture or an array, see `pictures.read_rgb`. H, W count after EXIF rotation.

        Raises: PictureError: it cannot be read, or is too long for its width.
        """
        return self.predict(picture)[0]

    def probabilities(self, picture: Source) -> NDArray[np.float32]:
        """Class probabilities (K, H, W) float32 of a picture; arguments and errors as `segment`."""
        full = self.predict(picture, torch.float32)[1]
        assert full is not None
        return full

    def predict(self, picture: Source, dtype: torch.dtype | None = None) -> tuple[Labels, np.ndarray | None]:
        """Class ids (H, W), and class probabilities (K, H, W) of type `dtype` where one is given.

        Without them nothing holds all classes at the picture's size.
        """
        rgb = read_rgb(picture)
        labels = torch.empty(rgb.shape[:2], dtype=self.label_dtype, device=self.device)
        if dtype is None:
            for rows, columns, ids in self._tiles(rgb, predict_label_bands):
                labels[rows, columns] = ids
            return labels.cpu().numpy(), None
        full = torch.empty((self.model.num_classes, *rgb.shape[:2]), dtype=dtype)
        for rows, columns, scores in self._tiles(rgb):
            labels[rows, columns] = best_class(scores)
            full[:, rows, columns] = self._normalised(scores).permute(2, 0, 1).to("cpu", dtype)  # (K, rows, columns)
        return labels.cpu().numpy(), full.numpy()

    def probability_tiles(self, picture: Source) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns and class probabilities (rows, columns, K) float32 of tiles, on the device."""
        for rows, columns, scores in self._tiles(read_rgb(picture)):
            yield rows, columns, self._normalised(scores)

    @property
    def label_dtype(self) -> torch.dtype:
        """Of class ids: uint8, int16 above 256 classes."""
        return torch.uint8 if self.model.num_classes <= 256 else torch.int16

    def _tiles(
        self, rgb: np.ndarray, predict: Callable[..., Iterator[tuple[slice, slice, Tensor]]] = predict_bands
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        image = torch.from_numpy(rgb).to(self.device).permute(2, 0, 1).contiguous()  # (3, H, W)
        try:
            yield from predict(self._seen, image, **self.settings)
        except TooLongError as error:
            raise PictureError(str(error)) from error

    def _normalised(self, scores: Tensor) -> Tensor:
        return scores if averages(self.settings) else scores.softmax(-1)


def _settings(
    spec: ModelSpec | None, window: int | None, stride: int | None, short_side: int | Literal["auto"] | None
) -> Settings:
    """Window, stride and short side: what is given, else the model's own."""
    if window is None:
        if spec is None:
            raise ValueError("the model does not tell its window (it has no spec): give window=, e.g. 512, and stride=")
        window = spec.window
    if stride is None:
        stride = min(spec.stride if spec else window, window)
    if short_side == "auto":
        short_side = spec.short_side if spec else None
    for name, value in (("window", window), ("stride", stride), ("short_side", short_side)):
        if value is not None and not (type(value) is int and value > 0):
            raise ValueError(f"{name}={value}: give a whole number of pixels above 0")
    if stride > window:
        raise ValueError(f"stride={stride} is larger than window={window}: pixels between windows would never be seen")
    return Settings(window=window, stride=stride, short_side=short_side)


def _device(wanted: str | torch.device | None, model: SegmentationModel) -> torch.device:
    """The device that is wanted; else the model's own, or an accelerator where that is the CPU."""
    if wanted is not None:
        try:
            device = torch.device(wanted)
            torch.empty(1, device=device)  # raises where there is no such device
        # torch says "no such device" as RuntimeError, AssertionError or NotImplementedError, by kind of device.
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device={wanted} cannot be used ({reason}): give cpu, cuda or cuda:1") from error
        return device
    here = next(model.parameters()).device if isinstance(model, nn.Module) else torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator if here.type == "cpu" and accelerator is not None else here


class _Autocast:
    """A model whose large products run in half precision; what comes out is mixed further in float32."""

    def __init__(self, model: SegmentationModel, device: torch.device, dtype: torch.dtype) -> None:
        self._model, self._device, self._dtype = model, device.type, dtype
        self.num_classes, self.stride, self.pixel_mean = model.num_classes, model.stride, model.pixel_mean

    def coarse_logits(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device, dtype=self._dtype):
            return self._model.coarse_logits(images)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device, dtype=self._dtype):
            return self._model(images)
