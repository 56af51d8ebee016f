from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segmenter_pl.models import (
    SETRMLA,
    SETRPUP,
    DeepLabV3PlusDecoder,
    EncoderDecoder,
    LinearDecoder,
    MaskDecoder,
    PyramidEncoder,
    Segmenter,
    SETRNaive,
    UPerNetDecoder,
    ViTEncoder,
)

DECODERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: LinearDecoder(32, 5),
    "mask_layer": lambda: MaskDecoder(32, 5, mask_norm="layer", num_heads=2),
    "mask_scale": lambda: MaskDecoder(32, 5, mask_norm="scale", num_heads=2),
    "setr_naive": lambda: SETRNaive(32, 5, channels=16),
    "setr_pup": lambda: SETRPUP(32, 5, channels=16),
    "setr_mla": lambda: SETRMLA(32, 5, channels=16),
}
PYRAMIDS = {
    "deeplabv3plus": lambda encoder: DeepLabV3PlusDecoder(encoder.width, 5, channels=16),
    "upernet": lambda encoder: UPerNetDecoder(encoder.width, 5, channels=16),
}


def built(name: str) -> EncoderDecoder:
    torch.manual_seed(0)
    if name in PYRAMIDS:
        pytest.importorskip("segmentation_models_pytorch", reason="the extra `baselines` is not installed")
        encoder = PyramidEncoder("resnet10t", output_stride=16 if name == "deeplabv3plus" else 32)
        for module in encoder.modules():  # timm begins with blocks that do nothing, and so have no gradients
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        return EncoderDecoder(encoder, PYRAMIDS[name](encoder))
    vit = ViTEncoder("deit_tiny_distilled_patch16_224", image_size=48, embed_dim=32, depth=4, num_heads=2)
    return Segmenter(vit, DECODERS[name]())


@pytest.fixture(params=[*DECODERS, *PYRAMIDS])
def model(request: pytest.FixtureRequest) -> EncoderDecoder:
    return built(request.param)


graphs = pytest.mark.parametrize(
    "model", [*DECODERS, *(pytest.param(name, marks=pytest.mark.slow) for name in PYRAMIDS)], indirect=True
)


def pictures(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(48, 48), (32, 96), (61, 83), (7, 5)])
def test_shapes(model: EncoderDecoder, size: tuple[int, int]) -> None:
    coarse = model.coarse_logits(pictures(*size))
    assert model.num_classes == 5
    assert coarse.shape == (2, 5, *(-(-side // model.stride) for side in size))
    assert model(pictures(*size)).shape == (2, 5, *size)


@pytest.mark.parametrize(
    ("name", "stride"),
    [("linear", 16), ("setr_naive", 16), ("setr_pup", 2), ("setr_mla", 4), ("deeplabv3plus", 4), ("upernet", 4)],
)
def test_strides(name: str, stride: int) -> None:
    assert built(name).stride == stride


def test_full_logits_are_the_coarse_ones_upsampled_and_cropped(model: EncoderDecoder) -> None:
    model.eval()
    coarse = model.coarse_logits(pictures(41, 59))  # 3 by 4 patches of 16 pixels
    expected = F.interpolate(coarse, scale_factor=model.stride, mode="bilinear", align_corners=False)[:, :, :41, :59]
    torch.testing.assert_close(model(pictures(41, 59)), expected, atol=1e-6, rtol=0)


def test_every_parameter_gets_a_gradient(model: EncoderDecoder) -> None:
    target = torch.randint(0, 5, (2, 40, 60))
    F.cross_entropy(model(pictures(40, 60)), target).backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None or not p.grad.any()] == []


def test_pictures_of_a_batch_do_not_touch_each_other(model: EncoderDecoder) -> None:
    model.eval()
    images = pictures(48, 48, batch=3)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), atol=1e-5, rtol=0)


@graphs
def test_compiles_as_one_graph(model: EncoderDecoder) -> None:
    model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    images = pictures(40, 56)
    torch.testing.assert_close(compiled(images), model(images), atol=1e-5, rtol=0)


def test_pixel_mean_is_that_of_the_weights_and_not_in_the_state_dict(model: EncoderDecoder) -> None:
    assert model.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert not any("pixel" in name for name in model.state_dict())


@graphs
def test_exports_with_any_batch_and_number_of_patches(model: EncoderDecoder) -> None:
    model.eval()
    auto = torch.export.Dim.AUTO
    program = torch.export.export(model, (pictures(64, 80),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    images = pictures(96, 64, batch=3)
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=0)
