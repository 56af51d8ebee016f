"""Pictures of every kind to labels: the pixels that the model gets, the settings it is used with, what comes out."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from segmenter_pl import Predictor, Segmenter, create_segmenter, load_segmenter, predict_labels
from segmenter_pl.data.pairs import read_picture
from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.inference import SCALES, predict_probabilities
from segmenter_pl.pictures import PictureError, read_rgb

NAMES = ("sky", "road", "car", "a class with a name that is too long for it", "tree")
COLORS = ((10, 20, 200), (128, 64, 128), (220, 20, 60), (255, 255, 0), (0, 130, 0))
VIEW = {"window": 32, "stride": 24, "short_side": None}
CONFIG = {
    "backbone": {
        "_target_": "segmenter_pl.models.ViTEncoder",
        "model_name": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "image_size": 32,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 1,
    },
    "decoder": {"_target_": "segmenter_pl.models.LinearDecoder"},
    "dataset": VIEW,
}


def save_checkpoint(path: Path, **view: Any) -> Path:
    """An untrained five-class model as a training leaves it; its weights are enlarged, so that its labels vary."""
    torch.manual_seed(0)
    config = {**CONFIG, "dataset": {**VIEW, **view}}
    model = segmenter_from_config(config, num_classes=len(NAMES))
    state = {f"model.{key}": 6 * value if "head" in key else value for key, value in model.state_dict().items()}
    about = {"config": config, "classes": list(NAMES), "palette": [list(c) for c in COLORS], "ignore_index": 255}
    torch.save({"segmenter": about, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Segmenter:
    return load_segmenter(checkpoint)


def blocks(height: int = 45, width: int = 70, seed: int = 0) -> np.ndarray:
    """A picture of coloured blocks, (height, width, 3) uint8."""
    colors = np.random.default_rng(seed).integers(0, 256, (-(-height // 10), -(-width // 10), 3), dtype=np.uint8)
    return colors.repeat(10, 0).repeat(10, 1)[:height, :width]


def plainly(model: Segmenter, rgb: np.ndarray, **settings: Any) -> np.ndarray:
    """Labels (H, W) straight from `predict_labels`."""
    image = torch.from_numpy(rgb).permute(2, 0, 1)
    return predict_labels(model, image, **{"window": 32, "stride": 24, **settings}).numpy()


def test_labels_equal_those_of_the_decoded_picture(model: Segmenter, tmp_path: Path) -> None:
    rgb = blocks()
    Image.fromarray(rgb).save(tmp_path / "a.png")
    predictor = Predictor(model, device="cpu")
    labels = predictor.segment(tmp_path / "a.png")
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) >= 3
    assert np.array_equal(labels, plainly(model, rgb))
    for picture in (rgb, Image.fromarray(rgb), str(tmp_path / "a.png")):
        assert np.array_equal(predictor.segment(picture), labels)


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"window": 24}, {"window": 24, "stride": 24}),
        ({"window": 40}, {"window": 40, "stride": 24}),
        ({"stride": 8}, {"stride": 8}),
        ({"short_side": 60}, {"short_side": 60}),
        ({"flip": True}, {"flip": True}),
        ({"multiscale": True, "flip": True}, {"scales": SCALES, "flip": True}),
    ],
)
def test_settings_reach_the_windows(model: Segmenter, given: dict[str, Any], settings: dict[str, Any]) -> None:
    rgb = blocks()
    assert np.array_equal(Predictor(model, device="cpu", **given).segment(rgb), plainly(model, rgb, **settings))


def test_settings_of_the_checkpoint_are_the_default_and_can_be_undone(tmp_path: Path) -> None:
    model, rgb = load_segmenter(save_checkpoint(tmp_path / "best.ckpt", short_side=64, stride=32)), blocks()
    assert np.array_equal(Predictor(model).segment(rgb), plainly(model, rgb, short_side=64, stride=32))
    assert np.array_equal(Predictor(model, short_side=None).segment(rgb), plainly(model, rgb, stride=32))


@pytest.mark.parametrize("several", [False, True])
def test_probabilities(model: Segmenter, several: bool) -> None:
    rgb = blocks()
    probabilities = Predictor(model, multiscale=several, device="cpu").probabilities(rgb)
    scales = SCALES if several else (1.0,)
    expected = predict_probabilities(model, torch.from_numpy(rgb).permute(2, 0, 1), window=32, stride=24, scales=scales)
    assert probabilities.shape == (5, 45, 70)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_close(model: Segmenter, precision: str) -> None:
    rgb = blocks()
    half = Predictor(model, precision=precision, device="cpu").probabilities(rgb)
    full = Predictor(model, device="cpu").probabilities(rgb)
    assert 0 < np.abs(half - full).max() < 0.05


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_of_files_and_pillow_pictures(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind.lower()}"
    Image.fromarray(blocks()).save(path, kind, exif=exif)
    with Image.open(path) as picture:
        upright = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    with Image.open(path) as picture:  # a fresh one: Pillow turns a TIFF when it reads the pixels
        assert np.array_equal(read_rgb(picture), upright)
        assert np.array_equal(read_rgb(picture), upright)
    assert np.array_equal(read_rgb(path), upright)
    assert upright.shape[:2] == ((45, 70) if orientation < 5 else (70, 45))


def test_labels_have_the_upright_size(model: Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blocks()).save(tmp_path / "a.png", exif=exif)
    labels = Predictor(model, device="cpu").segment(tmp_path / "a.png")
    assert np.array_equal(labels, plainly(model, np.rot90(blocks(), -1).copy()))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_modes_become_rgb_as_pillow_converts_them(mode: str) -> None:
    picture = Image.fromarray(blocks()).convert(mode)
    assert np.array_equal(read_rgb(picture), np.array(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tif"), ("P", "gif"), ("LA", "png"), ("RGBA", "webp"), ("1", "tif")]
)
def test_modes_of_files(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(blocks()).convert(mode).save(path)
    with Image.open(path) as picture:
        assert np.array_equal(read_rgb(path), np.array(picture.convert("RGB")))


def test_transparency_is_dropped(tmp_path: Path) -> None:
    rgb = blocks()
    rgba = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), rgb)
    assert np.array_equal(read_rgb(rgba), rgb)
    palette = Image.fromarray(rgb).quantize(7)
    shown = np.array(palette.convert("RGB"))
    palette.info["transparency"] = bytes([0, 128, 255])
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_rgb(tmp_path / "p.png"), shown)
    assert np.array_equal(read_rgb(palette), shown)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_as_in_training(tmp_path: Path, suffix: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    expected = np.repeat((values // 256).astype(np.uint8)[..., None], 3, axis=-1)
    assert np.array_equal(read_rgb(path), expected)
    assert np.array_equal(read_rgb(values), expected)
    assert np.array_equal(read_picture(path), expected)  # what training reads
    wide = Image.fromarray(values.astype(np.int32))
    assert wide.mode == "I"
    assert np.array_equal(read_rgb(wide), expected)


def test_arrays(model: Segmenter) -> None:
    grey = blocks()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=-1)
    for array in (grey, grey[..., None], np.dstack([grey, grey // 2]), expected, np.asfortranarray(expected)):
        assert np.array_equal(read_rgb(array), expected)
    mirrored = expected[:1, ::-1][::-1]  # of one row: contiguous for numpy, a negative stride for torch
    assert np.array_equal(Predictor(model, device="cpu").segment(mirrored), plainly(model, mirrored.copy()))
    assert np.array_equal(read_rgb(grey > 128), np.where(expected > 128, 255, 0))
    assert Predictor(model, device="cpu").segment(expected[::-1]).shape == grey.shape


def test_read_only_arrays_are_segmented_without_a_warning(model: Segmenter) -> None:
    array = np.asarray(Image.fromarray(blocks()))
    assert not array.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = Predictor(model, device="cpu").segment(array)
    assert np.array_equal(labels, plainly(model, blocks()))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((3, 40, 50), np.uint8), "channels last"),
        (np.zeros((0, 40, 3), np.uint8), "no picture"),
        (np.zeros((2, 40, 50, 3), np.uint8), "no picture"),
        (np.zeros((40, 50, 3), np.float32), "uint8 values 0…255"),
        (np.zeros((40, 50), np.int64), "uint8 values 0…255"),
        (torch.zeros(3, 40, 50), "predict_labels"),
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "70000"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Any, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        read_rgb(picture)


def damaged_files(folder: Path) -> dict[str, str]:
    """Writes files that are no sound pictures; their names and words of what is said about them."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    whole = buffer.getvalue()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bits.png").write_bytes(whole[:60] + bytes(8) + whole[68:])
    (folder / "head.png").write_bytes(whole[:20])
    Image.fromarray(blocks()).save(folder / "cut.jpg", quality=95)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-300])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a picture")
    return {
        "cut.png": "damaged", "bits.png": "damaged", "head.png": "", "cut.jpg": "damaged",
        "empty.jpg": "is empty", "text.jpg": "no picture",
    }  # fmt: skip


def test_damaged_files_are_told_by_name(tmp_path: Path) -> None:
    for name, words in {**damaged_files(tmp_path), "missing.jpg": "does not exist", ".": "cannot be read"}.items():
        with pytest.raises(PictureError) as caught:
            read_rgb(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert words in str(caught.value)


def test_the_limit_says_how_to_lift_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(blocks()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow only warns up to twice that
    assert read_rgb(tmp_path / "a.png").shape == (45, 70, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PictureError, match=r"a\.png has 0\.00315 megapixels, and 0\.002 are the limit.*--any-size"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 7), (3, 200)])
def test_tiny_and_narrow_pictures(model: Segmenter, size: tuple[int, int]) -> None:
    rgb = blocks(*size)
    labels = Predictor(model, device="cpu").segment(rgb)
    assert labels.shape == size
    assert np.array_equal(labels, plainly(model, rgb))


def test_a_picture_too_long_for_its_width_is_refused_before_it_fills_the_memory(model: Segmenter) -> None:
    with pytest.raises(PictureError, match="1x9000 pixels is too long"):
        Predictor(model, device="cpu").segment(np.zeros((9000, 1, 3), np.uint8))


def test_models_without_a_spec_need_a_window() -> None:
    fresh = create_segmenter("vit_micro", "linear", num_classes=300, image_size=32)
    with pytest.raises(ValueError, match="give window="):
        Predictor(fresh)
    predictor = Predictor(fresh, window=32, device="cpu")
    assert not fresh.training
    assert predictor.settings["stride"] == 32
    labels = predictor.segment(blocks())
    assert labels.dtype == np.int16
    assert np.array_equal(labels, plainly(fresh, blocks(), stride=32))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stride": 33}, "stride=33 is larger than window=32"),
        ({"window": 0}, "window=0"),
        ({"short_side": -5}, "short_side=-5"),
        ({"device": "toaster"}, "device=toaster"),
        ({"device": "cuda:99"}, "device=cuda:99"),
        ({"precision": "int8"}, "precision=int8"),
    ],
)
def test_settings_that_do_not_fit_are_named(model: Segmenter, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Predictor(model, **settings)


def test_official_checkpoint(assets: Path) -> None:
    model = load_segmenter(assets / "golden" / "official" / "vit_p16_mask")
    labels = Predictor(model, device="cpu").segment(blocks(60, 80))
    assert np.array_equal(
        labels, plainly(model, blocks(60, 80), window=48, stride=48, short_side=model.spec.short_side)
    )
