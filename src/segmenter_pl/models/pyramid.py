"""Encoder of the models that Segmenter is compared with: any timm network with features at 1/4 … 1/32 of the picture.

Shapes: B batch, H W pixels, C channels of a map, s its stride in pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models.depth import use_stochastic_depth
from segmenter_pl.models.pixels import pixel_statistics
from segmenter_pl.models.tracing import is_traced, take
from segmenter_pl.weights.fitting import open_containers
from segmenter_pl.weights.hub import hub_weights
from segmenter_pl.weights.reading import read_file

ONE_PICTURE = (
    "this model normalises over the batch, also what it has pooled to one cell: give dataset.batch_size=2 or more for "
    "each device"
)
HEADS = ("fc.", "head.", "classifier.")  # of classification


class Pyramid(NamedTuple):
    """What decoders must know of the maps: their `channels`, from the picture's on, and the `stride` of the last."""

    channels: tuple[int, ...]
    stride: int


class PyramidEncoder(nn.Module):
    """A timm network whose maps segmentation_models_pytorch hands out (extra `baselines`).

    Args:
        model_name: timm name, such as ``resnest101e.in1k``; pixel statistics are those of its tag.
        image_size: side in pixels of the pictures it is trained on, for networks that ask for one (Swin). Pictures of
            any size work: they are padded to whole cells of the coarsest map.
        output_stride: of the coarsest map; 16 or 8 dilates the last stages of convolutional networks.
        drop_path_rate: stochastic depth of the last block, where the network has it.
        mean, std: pixel statistics (R, G, B) in 0…1; None: those of the tag.
        freeze: no gradients, and evaluation mode also while training.
        pretrained: take the weights of ``model_name`` from the Hugging Face hub or its cache.
        weights: a file of them instead, with timm's names.

    Attributes:
        width: the `Pyramid`. patch_size: 4, pixels per cell of the finest map that decoders use; buffers pixel_mean,
            pixel_std (1, 3, 1, 1) in 0…255.

    Raises:
        ValueError: segmentation_models_pytorch is missing, timm has no such pyramid, or the weights do not fit.
        FileNotFoundError: the weights are neither at the path nor to be had from the hub.
    """

    patch_size = 4
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        model_name: str,
        *,
        image_size: int = 512,
        output_stride: int = 32,
        drop_path_rate: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        freeze: bool = False,
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(model_name):
            raise ValueError(f"backbone.model_name={model_name} is unknown to timm; timm.list_models() lists names")
        tag = timm.get_pretrained_cfg(model_name)
        assert tag is not None
        statistics = tag.to_dict()
        if weights is None and pretrained:
            weights = str(hub_weights(model_name, statistics.get("hf_hub_id"), statistics.get("hf_hub_filename")))
        settings: dict[str, Any] = {"drop_path_rate": drop_path_rate, **_sizes(model_name, image_size)}
        if weights is not None:
            settings["pretrained_cfg_overlay"] = {"state_dict": _read(weights, model_name, settings)}
        self.features = _build(model_name, output_stride, weights is not None, settings)
        use_stochastic_depth(self.features)
        self.width = Pyramid(tuple(self.features.out_channels), output_stride)
        self.freeze = freeze
        for name, values in zip(("mean", "std"), pixel_statistics(statistics, mean, std), strict=True):
            self.register_buffer(f"pixel_{name}", values, persistent=False)
        if freeze:
            self.requires_grad_(False)
            self.eval()

    def train(self, mode: bool = True) -> "PyramidEncoder":
        """Set training mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells of 4 by 4 pixels that cover a picture of ``height`` by ``width`` pixels."""
        # Not -(-height // P): ONNX rounds a negative quotient towards zero.
        return (height + self.patch_size - 1) // self.patch_size, (width + self.patch_size - 1) // self.patch_size

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map RGB pictures (B, 3, H, W), 0…255 (uint8 or float), to maps (B, C, ~H/s, ~W/s), s = 1, 2, 4, …

        The first is the normalised picture itself; one that the network lacks has no channels.

        Raises: ValueError for a single picture in training.
        """
        if self.training and len(images) == 1:
            raise ValueError(ONE_PICTURE)
        x = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        stride = self.width.stride
        height, width = ((side + stride - 1) // stride * stride for side in x.shape[-2:])
        if is_traced():
            x = take(take(x, 2, height), 3, width)
        else:
            x = F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))  # zero: the mean colour
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            return self.features(x)


def require_baselines() -> Any:
    """segmentation_models_pytorch. Raises ValueError where it is missing."""
    try:
        import segmentation_models_pytorch
    except ModuleNotFoundError as error:
        raise ValueError(
            "this model needs segmentation_models_pytorch, which is not installed: "
            'pip install "segmenter-pl[baselines]"'
        ) from error
    return segmentation_models_pytorch


def _sizes(model_name: str, image_size: int) -> dict[str, Any]:
    """What Swin must be told, whose windows are laid out for one size: that any other is welcome too."""
    return {"img_size": image_size, "strict_img_size": False} if model_name.startswith("swin") else {}


def _build(model_name: str, output_stride: int, pretrained: bool, settings: Mapping[str, Any]) -> Any:
    encoders = require_baselines().encoders
    try:
        return encoders.get_encoder(
            f"tu-{model_name}", weights=pretrained or None, output_stride=output_stride, **settings
        )
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"backbone.model_name={model_name} gives no pyramid of features: {error}") from error


def _read(path: str, model_name: str, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file, all of timm's names among them: timm itself passes over those that are missing."""
    try:
        found = open_containers(read_file(path).data)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"backbone.weights={error}") from error
    with torch.device("meta"):
        wanted = timm.create_model(model_name, pretrained=False, **settings).state_dict()
    lacking = [
        name
        for name, value in wanted.items()
        if not name.startswith(HEADS) and (name not in found or found[name].shape != value.shape)
    ]
    if lacking:
        shown = ", ".join(lacking[:8])
        raise ValueError(f"backbone.weights={path} is no {model_name}: {len(lacking)} tensors lack or differ: {shown}")
    return {name: value for name, value in found.items() if name in wanted}
