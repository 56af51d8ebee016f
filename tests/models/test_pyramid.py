"""Models of the paper's comparison against segmentation_models_pytorch's own, and their weights against timm's."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from segmenter_pl.factory import create_segmenter
from segmenter_pl.models import DeepLabV3PlusDecoder, EncoderDecoder, PyramidEncoder, UPerNetDecoder

smp = pytest.importorskip("segmentation_models_pytorch", reason="the extra `baselines` is not installed")
NETWORK = "resnet10t.c3_in1k"


def pictures(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("stride", [8, 16])
def test_deeplabv3plus_is_the_librarys(stride: int) -> None:
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus(f"tu-{NETWORK}", encoder_weights=None, classes=5, encoder_output_stride=stride)
    encoder = PyramidEncoder(NETWORK, output_stride=stride)
    require_equal(EncoderDecoder(encoder, DeepLabV3PlusDecoder(encoder.width, 5)), theirs)


def test_upernet_is_the_librarys_with_swin_at_any_size() -> None:
    torch.manual_seed(0)
    small = {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}
    name = "swin_tiny_patch4_window7_224"
    theirs = smp.UPerNet(
        f"tu-{name}", encoder_weights=None, classes=5, decoder_channels=16, strict_img_size=False, **small
    )
    encoder = PyramidEncoder(name, image_size=64)
    encoder.features = theirs.encoder  # the whole network takes long to build and to run
    encoder.width = encoder.width._replace(channels=tuple(theirs.encoder.out_channels))
    require_equal(EncoderDecoder(encoder, UPerNetDecoder(encoder.width, 5, channels=16)), theirs)


def require_equal(ours: EncoderDecoder, theirs: torch.nn.Module) -> None:
    """Coarse logits: the library then upsamples with corners aligned, which is not the paper's way."""
    ours.encoder.features.load_state_dict(theirs.encoder.state_dict())
    ours.decoder.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.decoder.head.load_state_dict(theirs.segmentation_head[0].state_dict())
    ours.eval()
    theirs.eval()
    theirs.segmentation_head[1] = torch.nn.Identity()
    for height, width in ((64, 96), (51, 77)):
        images = pictures(height, width)
        whole = [-(-side // ours.encoder.width.stride) * ours.encoder.width.stride for side in (height, width)]
        padded = torch.zeros(2, 3, *whole)  # the mean colour on the right and below
        padded[:, :, :height, :width] = (images - ours.encoder.pixel_mean) / ours.encoder.pixel_std
        expected = theirs(padded)[..., : -(-height // 4), : -(-width // 4)]
        torch.testing.assert_close(ours.coarse_logits(images), expected, atol=1e-5, rtol=1e-5)


def test_a_name_is_enough() -> None:
    with torch.device("meta"):
        model = create_segmenter("resnest101", "deeplabv3plus", num_classes=19)
    assert type(model) is EncoderDecoder
    # The count of the library's own DeepLabV3Plus("tu-resnest101e", classes=19).
    assert sum(p.numel() for p in model.parameters()) == 49_400_195


def test_weights_from_a_file_are_timms_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(NETWORK, pretrained=False)
    for name, value in whole.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    encoder = PyramidEncoder(NETWORK, weights=str(tmp_path / "w.safetensors")).eval()
    images = pictures(64, 96)
    expected = whole.eval().forward_features((images - encoder.pixel_mean) / encoder.pixel_std)
    torch.testing.assert_close(encoder(images)[-1], expected, atol=1e-4, rtol=1e-4)


def test_swins_weights_fit_pictures_of_another_size(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    whole = timm.create_model(name, pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    encoder = PyramidEncoder(name, image_size=256, weights=str(tmp_path / "w.pth"))
    found = dict(encoder.features.model.named_parameters())
    for theirs, ours in (("layers.3.blocks.1.mlp.fc1.weight", "layers_3.blocks.1.mlp.fc1.weight"),):
        assert torch.equal(found[ours], whole.get_parameter(theirs))


def test_weights_that_do_not_fit_are_refused_with_names(tmp_path: Path) -> None:
    state = timm.create_model(NETWORK, pretrained=False).state_dict()
    lacking = {name: value for name, value in state.items() if name != "layer4.0.conv1.weight"}
    save_file(lacking, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"backbone.weights=.* is no resnet10t.*1 tensors .*: layer4.0.conv1.weight"):
        PyramidEncoder(NETWORK, weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"backbone\.weights=.*none\.pth"):
        PyramidEncoder(NETWORK, weights=str(tmp_path / "none.pth"))


def test_frozen_it_stays_as_it_is() -> None:
    encoder = PyramidEncoder(NETWORK, output_stride=16, freeze=True)
    model = EncoderDecoder(encoder, DeepLabV3PlusDecoder(encoder.width, 5, channels=16)).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model(pictures(64, 64)).sum().backward()
    assert not any(p.requires_grad for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_batch_of_one_cannot_be_normalised_in_training() -> None:
    encoder = PyramidEncoder(NETWORK, output_stride=16)
    model = EncoderDecoder(encoder, DeepLabV3PlusDecoder(encoder.width, 5, channels=16)).train()
    with pytest.raises(ValueError, match=r"dataset.batch_size=2"):
        model(pictures(64, 64)[:1])


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install \"segmenter-pl\[baselines\]\""):
        PyramidEncoder(NETWORK)
