from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segmenter_pl.models import LinearDecoder, MaskDecoder, Segmenter, ViTEncoder

DECODERS = {
    "linear": lambda: LinearDecoder(32, 5),
    "mask_layer": lambda: MaskDecoder(32, 5, mask_norm="layer", num_heads=2),
    "mask_scale": lambda: MaskDecoder(32, 5, mask_norm="scale", num_heads=2),
}


@pytest.fixture(params=DECODERS.values(), ids=DECODERS.keys())
def model(request: pytest.FixtureRequest) -> Segmenter:
    decoder: Callable[[], nn.Module] = request.param
    torch.manual_seed(0)
    encoder = ViTEncoder("deit_tiny_distilled_patch16_224", image_size=48, embed_dim=32, depth=2, num_heads=2)
    return Segmenter(encoder, decoder())


def pictures(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(48, 48), (32, 96), (61, 83), (7, 5)])
def test_shapes(model: Segmenter, size: tuple[int, int]) -> None:
    coarse = model.coarse_logits(pictures(*size))
    assert (model.num_classes, model.stride) == (5, 16)
    assert coarse.shape == (2, 5, *model.encoder.grid(*size))
    assert model(pictures(*size)).shape == (2, 5, *size)


def test_full_logits_are_the_coarse_ones_upsampled_and_cropped(model: Segmenter) -> None:
    model.eval()
    coarse = model.coarse_logits(pictures(41, 59))  # 3 by 4 patches
    expected = F.interpolate(coarse, scale_factor=16, mode="bilinear", align_corners=False)[:, :, :41, :59]
    torch.testing.assert_close(model(pictures(41, 59)), expected, atol=1e-6, rtol=0)


def test_every_parameter_gets_a_gradient(model: Segmenter) -> None:
    target = torch.randint(0, 5, (2, 40, 60))
    F.cross_entropy(model(pictures(40, 60)), target).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pictures_of_a_batch_do_not_touch_each_other(model: Segmenter) -> None:
    model.eval()
    images = pictures(48, 48, batch=3)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), atol=1e-5, rtol=0)


def test_compiles_as_one_graph(model: Segmenter) -> None:
    model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    images = pictures(40, 56)
    torch.testing.assert_close(compiled(images), model(images), atol=1e-5, rtol=0)


def test_pixel_mean_is_that_of_the_weights_and_not_in_the_state_dict(model: Segmenter) -> None:
    assert model.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert not any("pixel" in name for name in model.state_dict())


def test_exports_with_any_batch_and_number_of_patches(model: Segmenter) -> None:
    model.eval()
    auto = torch.export.Dim.AUTO
    program = torch.export.export(model, (pictures(64, 80),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    images = pictures(96, 32, batch=3)
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=0)
