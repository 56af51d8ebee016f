"""`segmenter attention` and `attention-distance`: which files they write, what is in them, and what they refuse."""

import csv
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from matplotlib.image import imsave
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Segmenter, load_segmenter
from segmenter_pl.analysis.attention import Layer, read_attention
from segmenter_pl.analysis.attention_measures import mean_distances, rollout_maps
from segmenter_pl.cli import app
from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.video import VideoSink
from tests.test_predict_command import names, pixels, save
from tests.test_predictor import COLORS, CONFIG, NAMES, VIEW, blocks

GRID = (6, 9)  # of a picture of 70 by 45 pixels
MASK = {"_target_": "segmenter_pl.models.MaskDecoder", "num_heads": 2}


def save_checkpoint(path: Path, **backbone: Any) -> Path:
    """An untrained model of two layers and heads in both parts; enlarged queries and keys make its weights differ."""
    torch.manual_seed(0)
    config = {**CONFIG, "backbone": {**CONFIG["backbone"], "depth": 2, "num_heads": 2, **backbone}, "decoder": MASK}
    model = segmenter_from_config(config, num_classes=len(NAMES))
    state = {f"model.{key}": 9 * value if "qkv.w" in key else value for key, value in model.state_dict().items()}
    about = {"config": config, "classes": list(NAMES), "palette": [list(c) for c in COLORS], "ignore_index": 255}
    torch.save({"segmenter": {**about, "dataset": VIEW}, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Segmenter:
    return load_segmenter(checkpoint)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save(tmp_path / "in/photo.png")


def run(*words: object, command: str = "attention") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [command, *map(str, words), "--device", "cpu"], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def image_of(photo: Path) -> torch.Tensor:
    return torch.from_numpy(pixels(photo)).permute(2, 0, 1)[None]


def maps_of(model: Segmenter, photo: Path, layer: Layer, row: int) -> np.ndarray:
    """(heads, h, w)."""
    (maps,) = read_attention(model, image_of(photo), [layer], lambda attention: attention.maps([row]))
    return maps[0, :, 0].numpy()


def as_matplotlib_saves(values: np.ndarray, folder: Path, cmap: str) -> np.ndarray:
    imsave(folder / "reference.png", values, cmap=cmap)
    return pixels(folder / "reference.png")[..., :3]


def enlarged(values: np.ndarray) -> np.ndarray:
    """Each patch as 8 by 8 pixels, cut to the picture."""
    return np.kron(values, np.ones((8, 8), values.dtype))[:45, :70]


def test_each_head_is_laid_over_the_picture(checkpoint: Path, model: Segmenter, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, told = run(
        checkpoint, photo, out, "--layer", -1, "--cls", "--alpha", 0.6, "--clip", 100, "--save-weights"
    )
    assert (code, told) == (0, "")
    assert said == f"enc_layer1, class token, 2 heads, 9x6 patches → {out / 'photo/enc_layer1'}\n"
    folder = out / "photo/enc_layer1/cls"
    assert names(folder) == {"all.png", "head0.png", "head1.png", "weights.npz"}
    maps = maps_of(model, photo, ("enc", 1), 0)
    with np.load(folder / "weights.npz") as file:
        np.testing.assert_array_equal(file["weights"], maps)
        assert (list(file["heads"]), str(file["query"])) == (["head0", "head1"], "class token")
    for head in (0, 1):
        colors = as_matplotlib_saves(enlarged(maps[head]), tmp_path, "viridis")
        blend = 0.4 * blocks() + 0.6 * colors.astype(float)
        assert np.abs(pixels(folder / f"head{head}.png") - blend).max() <= 0.5 + 1e-4
    shown = pixels(folder / "all.png")
    assert (shown[30:75, 8:78] == blocks()).all()  # the picture, below its title
    assert (shown[30:75, 86:156] == pixels(folder / "head0.png")).all()


def test_clipped_colours_end_at_the_percentile(checkpoint: Path, model: Segmenter, photo: Path, tmp_path: Path) -> None:
    assert run(checkpoint, photo, tmp_path, "--cls", "--head", "mean", "--alpha", 1, "--clip", 80)[0] == 0
    values = maps_of(model, photo, ("enc", 0), 0).mean(0)
    colors = as_matplotlib_saves(enlarged(np.minimum(values, np.percentile(values, 80))), tmp_path, "viridis").astype(
        int
    )
    assert np.abs(colors - pixels(tmp_path / "photo/enc_layer0/cls/mean.png")).max() <= 2  # a colour's rounding


def test_the_official_files(checkpoint: Path, model: Segmenter, photo: Path, tmp_path: Path) -> None:
    """Names as in the official script; its maps are not cut to a square here."""
    out = tmp_path / "out"
    words = (checkpoint, photo, out, "--layout", "official", "--cmap", "inferno")
    assert run(*words, "--layer-id", 1, "--x-patch", 4, "--y-patch", 3, "--enc", "--patch")[0] == 0
    assert run(*words, "--cls")[0] == 0
    assert run(*words, "--dec", "--cls", "--head", 1)[0] == 0
    assert run(*words, "--dec", "--y-patch", 2, "--head", 0)[0] == 0
    assert names(out) == {
        *(f"enc_layer1/patch_4_3/{name}.png" for name in ("enc_layer1_attn-head0", "enc_layer1_attn-head1")),
        "enc_layer1/patch_4_3/input_img.png",
        *(f"enc_layer0/cls/enc_layer0_attn-head{head}_cls.png" for head in (0, 1)),
        *(f"dec_layer0/cls_{k}/dec_layer0_attn-head1_{k}.png" for k in range(5)),
        *(f"dec_layer0/patch_0_2/{name}.png" for name in ("dec_layer0_attn-head0", "input_img")),
    }
    for path, layer, row, head in (
        ("enc_layer1/patch_4_3/enc_layer1_attn-head1.png", ("enc", 1), 1 + 3 * 9 + 4, 1),
        ("dec_layer0/cls_3/dec_layer0_attn-head1_3.png", ("dec", 0), 54 + 3, 1),
        ("dec_layer0/patch_0_2/dec_layer0_attn-head0.png", ("dec", 0), 2 * 9, 0),
    ):
        values = enlarged(maps_of(model, photo, layer, row)[head])
        colors = as_matplotlib_saves(values, tmp_path, "inferno").astype(int)
        assert np.abs(pixels(out / path) - colors).max() <= 4  # one colour further, where rounding decides
    shown = pixels(out / "enc_layer1/patch_4_3/input_img.png")
    expected = blocks().astype(float)
    expected = 255 * (expected - expected.min()) / (expected.max() - expected.min())
    expected[24:32, 32:40] = (255, 0, 0)
    assert np.abs(shown - expected).max() <= 0.51


def test_a_patch_by_its_pixel(checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    """The pixel is one of the file, whatever size the model sees."""
    assert run(checkpoint, photo, tmp_path / "a", "--pixel", 69, 44, "--head", 0)[0] == 0
    assert run(checkpoint, photo, tmp_path / "b", "--x-patch", 8, "--y-patch", 5, "--head", 0)[0] == 0
    found = [pixels(tmp_path / name / "photo/enc_layer0/patch_8_5/head0.png") for name in "ab"]
    assert np.array_equal(*found)
    code, said, _ = run(checkpoint, photo, tmp_path / "c", "--pixel", 69, 44, "--short-side", 90)
    assert (code, "patch 17, 11, 2 heads, 18x12 patches" in said) == (0, True)


def test_the_patch_is_framed(checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    assert run(checkpoint, photo, tmp_path, "--x-patch", 2, "--y-patch", 1, "--alpha", 0, "--head", 0)[0] == 0
    shown = pixels(tmp_path / "photo/enc_layer0/patch_2_1/head0.png")
    framed = np.zeros((45, 70), bool)
    framed[7:17, 15:25], framed[8:16, 16:24] = True, False
    assert (shown[framed] == (255, 0, 0)).all()
    assert (shown[~framed] == blocks()[~framed]).all()


def test_classes_by_name_and_number(checkpoint: Path, model: Segmenter, photo: Path, tmp_path: Path) -> None:
    words = ("--dec", "--layer", 1, "--class", "CAR", "--class", 1, "--class", "car", "--save-weights")
    code, said, _ = run(checkpoint, photo, tmp_path, *words)
    assert (code, "dec_layer1, 2 classes, 2 heads" in said) == (0, True)
    folder = tmp_path / "photo/dec_layer1"
    assert {path.name for path in folder.iterdir()} == {"cls_2_car", "cls_1_road"}
    for name, number in (("cls_2_car", 2), ("cls_1_road", 1)):
        with np.load(folder / name / "weights.npz") as file:
            expected = maps_of(model, photo, ("dec", 1), 54 + number)
            np.testing.assert_allclose(file["weights"], expected, rtol=1e-5)
    assert run(checkpoint, photo, tmp_path, "--dec", "--class", NAMES[3], "--head", 0)[0] == 0
    assert (tmp_path / "photo/dec_layer0/cls_3_a-class-with-a-name-that-is-too-long-for-it/head0.png").exists()


def test_layers_and_classes_come_together(checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    words = ("--layer", 1, "--layer", 0, "--layer", -1, "--x-patch", 2, "--y-patch", 1, "--head", "mean")
    code, said, _ = run(checkpoint, photo, tmp_path / "a", *words)
    assert (code, said.count("1 head, 9x6 patches"), "photo/overview.png" in said) == (0, 2, True)
    together = pixels(tmp_path / "a/photo/overview.png")
    tiles = [pixels(tmp_path / f"a/photo/enc_layer{layer}/patch_2_1/mean.png") for layer in (1, 0)]
    framed = pixels(tmp_path / "a/photo/enc_layer1/patch_2_1/all.png")[30:75, 8:78]
    for i, tile in enumerate([framed, *tiles]):
        assert (together[30:75, 8 + 78 * i :][:, :70] == tile).all()
    assert run(checkpoint, photo, tmp_path / "b", "--dec", "--cls", "--rollout")[0] == 0
    assert pixels(tmp_path / "b/photo/overview.png").shape == (2 * 75 + 8, 4 * 78 + 8, 3)  # the picture and 5 classes
    assert run(checkpoint, photo, tmp_path / "c", "--cls")[0] == 0
    assert not (tmp_path / "c/photo/overview.png").exists()


def test_rollout_of_a_class(checkpoint: Path, model: Segmenter, photo: Path, tmp_path: Path) -> None:
    words = ("--dec", "--layer", -1, "--class", "car", "--rollout", "--save-weights")
    assert run(checkpoint, photo, tmp_path, *words)[0] == 0
    folder = tmp_path / "photo/dec_rollout1/cls_2_car"
    assert names(folder) == {"all.png", "rollout.png", "weights.npz"}
    with np.load(folder / "weights.npz") as file:
        expected = rollout_maps(model, image_of(photo), ("dec", 1), [56])[0, :, 0]
        np.testing.assert_allclose(file["weights"], expected.numpy(), rtol=1e-5)


def test_a_video_of_frames(checkpoint: Path, tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"in/{i}.png", seed=i)
    out = tmp_path / "out"
    words = (checkpoint, tmp_path / "in", out, "--video", "--fps", 5)
    assert run(*words, "--dec", "--class", "car", "--class", "sky")[0] == 0
    code, said, _ = run(*words, "--pixel", 30, 20, "--head", "mean")
    assert (code, said.startswith("3 frames: enc_layer0, patch 3, 2, 1 head")) == (0, True)
    assert names(out) == {
        "in/dec_layer0/cls_2_car.mp4",
        "in/dec_layer0/cls_0_sky.mp4",
        "in/enc_layer0/patch_3_2.mp4",
    }
    for name, size in (("dec_layer0/cls_2_car.mp4", (3 * 78 + 8, 83)), ("enc_layer0/patch_3_2.mp4", (70, 45))):
        capture = cv2.VideoCapture(str(out / "in" / name))
        found = [int(capture.get(one)) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        assert found == [side + side % 2 for side in size]
        assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (3, 5)
        capture.release()
    assert run(*words[:2], tmp_path / "gif", *words[3:], "--cls", "--head", 1, "--gif")[0] == 0
    assert names(tmp_path / "gif") == {"in/enc_layer0/cls.gif"}
    with Image.open(tmp_path / "gif/in/enc_layer0/cls.gif") as animation:
        assert (animation.format, animation.n_frames, animation.size) == ("GIF", 3, (70, 45))
    (tmp_path / "in/1.png").write_bytes(b"no picture")
    code, said, told = run(checkpoint, tmp_path / "in", tmp_path / "less", "--video", "--cls")
    assert (code, "2 frames" in said, "frame left out" in told) == (1, True, True)


def test_an_interrupted_video_keeps_its_frames(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        save(tmp_path / f"in/{i}.png", seed=i)
    write, left = VideoSink.write, [2]

    def stopped(sink: VideoSink, frame: np.ndarray) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(sink, frame)

    monkeypatch.setattr(VideoSink, "write", stopped)
    code, said, told = run(checkpoint, tmp_path / "in", tmp_path / "out", "--video", "--cls", "--head", 0)
    assert (code, "2 frames" in said, "interrupted after 2 frames" in told) == (1, True, True)
    assert names(tmp_path / "out") == {"in/enc_layer0/cls.mp4"}


REFUSED = {
    "--layer-id 2": "--layer-id 2: the encoder has 2 layers: give 0 to 1, or -1 for the last",
    "--dec --layer -3": "--layer-id -3: the decoder has 2 layers",
    "--head 2": "--head 2: the layer has 2 heads: give 0 to 1, or mean",
    "--x-patch 9": "--x-patch 9: the picture has 9x6 patches .* give 0 to 8",
    "--y-patch -1": "--y-patch -1: .* give 0 to 5",
    "--pixel 70 0": "--pixel 70 0: the picture has 70x45 pixels: give X in 0…69, Y in 0…44",
    "--dec --class ship": "--class 'ship': there is no such class: give sky, road, car, .*, or a number from 0 to 4",
    "--dec --class 5": "--class '5': there is no such class",
    "--class car": "--class: class embeddings are in the mask decoder: add --dec",
    "--cls --pixel 1 1": "--cls and --pixel both say who looks",
    "--dec --class car --x-patch 1": "--class and --x-patch and --y-patch both",
    "--rollout --head 0": "--rollout takes the mean over the heads",
    "--rollout --layout official": "--layout official has no files for --rollout",
    "--head mean --layout official": "--layout official has no file for --head mean",
    "--cmap virids": "--cmap virids: matplotlib has no such colour map: give e.g. viridis",
    "--short-side 0": "--short-side 0: give a number of pixels above 0, none or auto",
    "--device nothing": "device=nothing cannot be used",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_told_before_anything_is_written(
    words: str, checkpoint: Path, photo: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["attention", str(checkpoint), str(photo), str(tmp_path / "out"), *words.split()])
    assert done.exit_code == 1
    assert re.search(REFUSED[words], done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_no_picture_are_told(checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for image, words, message in (
        (tmp_path / "none.png", (), "none.png: does not exist"),
        (photo.parent, (), "is a folder: give one picture, or --video"),
        (photo.parent, ("--video", "--layout", "official"), "is a video: leave out --layout official"),
        (photo.parent, ("--video", "--save-weights"), "is a video: leave out --save-weights"),
        (photo.parent, ("--video", "--layer", 0, "--layer", 1), "is a video: give one --layer, not 2"),
        (photo, ("--gif",), "is a picture, and --gif is for videos"),
    ):
        code, _, told = run(checkpoint, image, out, *words)
        assert code == 1
        assert message in told
    assert "is a file: give a folder" in run(checkpoint, photo, photo)[2]
    assert not out.exists()


def test_a_missing_matplotlib_is_told(
    checkpoint: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, told = run(checkpoint, photo, tmp_path / "out")
    assert (code, 'pip install "segmenter-pl[plots]"' in told) == (1, True)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"])
def test_encoders_with_registers(name: str, photo: Path, tmp_path: Path) -> None:
    """A class token and four registers stand before the patches."""
    file = save_checkpoint(tmp_path / "best.ckpt", model_name=name, embed_dim=64)
    model = load_segmenter(file)
    assert model.encoder.vit.num_prefix_tokens == 5
    for words, row, folder in ((("--cls",), 0, "cls"), (("--x-patch", 3, "--y-patch", 2), 5 + 2 * 9 + 3, "patch_3_2")):
        assert run(file, photo, tmp_path / "out", *words, "--layer", 1, "--save-weights")[0] == 0
        with np.load(tmp_path / "out/photo/enc_layer1" / folder / "weights.npz") as found:
            np.testing.assert_allclose(found["weights"], maps_of(model, photo, ("enc", 1), row), rtol=1e-5)
    assert run(file, photo, tmp_path / "out", "--rollout", "--layer", 1)[0] == 0


def test_merging_is_told(photo: Path, tmp_path: Path) -> None:
    merging = save_checkpoint(tmp_path / "merging.ckpt", token_merging={"keep": 0.5, "after": 1})
    code, said, _ = run(merging, photo, tmp_path / "out", "--layer", 1)
    assert (code, "9x6 patches, token merging off" in said) == (0, True)


def test_distances_of_several_pictures(checkpoint: Path, model: Segmenter, tmp_path: Path) -> None:
    photos = [save(tmp_path / f"in/{i}.png", seed=i) for i in range(2)]
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    out = tmp_path / "out/distance.png"
    code, said, told = run(checkpoint, tmp_path / "in", "-o", out, command="attention-distance")
    assert (code, said) == (1, f"2 layers of 2 heads, 2 pictures → {out}, {out.with_suffix('.csv')}\n")
    assert "Left out (1):" in told
    assert "bad.png is no picture" in told
    expected = sum(mean_distances(model, image_of(path))[0] for path in photos) / 2
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["layer"]), int(row["head"])) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = [float(row["mean_distance_pixels"]) for row in rows]
    np.testing.assert_allclose(found, expected.flatten(), atol=1e-4)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
    for words, message in (
        ((tmp_path / "in/bad.png", "-o", out), "none of the 1 pictures can be read"),
        ((photos[0], "-o", tmp_path / "x.gif"), "x.gif: give the name of a picture, ending in .png"),
        ((tmp_path / "no.png", "-o", out), "no.png: does not exist"),
    ):
        code, _, told = run(checkpoint, *words, command="attention-distance")
        assert (code, message in told) == (1, True), told
