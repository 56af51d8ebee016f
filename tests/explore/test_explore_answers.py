"""The numbers on the page are those of the model: labels, probabilities, attention, frames."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from torch import Tensor, nn

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.analysis.attention import read_attention
from segmenter_pl.explore import attending
from segmenter_pl.explore.looker import Looker
from segmenter_pl.models import EncoderDecoder, ModelSpec
from segmenter_pl.visualize import class_shares, save_label_png
from tests.exploring import FRAMES, framed, get, labels, looker, put, samples, sentence, serving
from tests.test_attention_command import save_checkpoint
from tests.test_predictor import COLORS, NAMES, blocks
from tests.test_predictor import save_checkpoint as save_linear
from tests.test_video import load_video


class Tiles(nn.Module):
    """An encoder without attention: the mean colours of 8 by 8 pixels, as a map."""

    patch_size = 8
    pixel_mean = torch.zeros(1, 3, 1, 1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 8), -(-width // 8)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images.float(), 8, ceil_mode=True)


class Brightest(nn.Module):
    """A decoder of three classes: the strongest of red, green and blue."""

    num_classes, scale = 3, 1

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens


def without_attention() -> Looker:
    model = EncoderDecoder(Tiles(), Brightest())
    model.spec = ModelSpec(None, None, 255, 32, 24, None)
    return Looker("tiles.ckpt", Path("tiles.ckpt"), Predictor(model, device="cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return save_checkpoint(folder / "best.ckpt")


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor(load_segmenter(checkpoint), device="cpu")


@pytest.fixture(scope="module")
def site(folder: Path, checkpoint: Path) -> Iterator[str]:
    lookers = [looker(checkpoint), looker(save_linear(folder / "linear.ckpt"), "linear.ckpt"), without_attention()]
    with serving(lookers, samples(folder / "pictures")) as address:
        yield address


def test_the_models_are_described(site: str) -> None:
    about = get(f"{site}about").json()
    mask, linear, tiles = about["models"]
    assert (mask["classes"], mask["palette"]) == (list(NAMES), [list(color) for color in COLORS])
    assert [(one["part"], one["number"], one["heads"]) for one in mask["layers"]] == [
        ("enc", 0, 2), ("enc", 1, 2), ("dec", 0, 2), ("dec", 1, 2),
    ]  # fmt: skip
    assert mask["seen"] == {"window": 32, "stride": 24, "short_side": None}
    assert {one["part"] for one in linear["layers"]} == {"enc"}
    assert tiles["classes"] == ["class 0", "class 1", "class 2"]
    assert len(tiles["palette"]) == 3
    assert (tiles["layers"], mask["why_no_attention"]) == ([], None)
    assert "no attention" in tiles["why_no_attention"]
    assert not about["same_classes"]


def test_labels_are_the_predictors(site: str, predictor: Predictor, tmp_path: Path) -> None:
    for number in (0, 1):
        expected = predictor.segment(blocks(seed=number))
        assert len(np.unique(expected)) >= 3
        about, _ = framed(f"{site}pictures/{number}/labels")
        assert np.array_equal(labels(f"{site}pictures/{number}/labels"), expected)
        assert about["shares"] == [list(one) for one in class_shares(expected, len(NAMES))]
        response = get(f"{site}pictures/{number}/labels.png")
        stem = ("first", "second")[number]
        assert response.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{stem}_labels.png"
        save_label_png(expected, tmp_path / "expected.png", COLORS)
        assert response.content == (tmp_path / "expected.png").read_bytes()
    strongest = blocks().reshape(-1, 3).argmax(-1)
    assert (labels(f"{site}pictures/0/labels?model=2").ravel() == strongest).mean() > 0.5


def test_probabilities_are_the_predictors(site: str, predictor: Predictor) -> None:
    expected = predictor.probabilities(blocks())
    for x, y in ((0, 0), (69, 44), (31, 7), (24, 33)):
        found = get(f"{site}pictures/0/probabilities?x={x}&y={y}").json()
        np.testing.assert_allclose(found, expected[:, y, x], atol=1e-6)
    for x, y in ((70, 0), (0, 45)):
        response = requests.get(f"{site}pictures/0/probabilities?x={x}&y={y}", timeout=60)
        assert sentence(response, 400) == f"there is no pixel {x}, {y}: the picture has 70x45"


@pytest.mark.parametrize("kept", [2**30, 0])
def test_attention_is_what_the_layers_give(
    kept: int, site: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a picture that is too large for its queries and keys to be kept."""
    monkeypatch.setattr(attending, "KEPT_BYTES", kept)
    image = torch.from_numpy(blocks(seed=kept == 0)).permute(2, 0, 1)[None]
    for x, y, patch in ((0, 0, (0, 0)), (69, 44, (8, 5)), (20, 30, (2, 3))):
        about, numbers = framed(f"{site}pictures/{int(kept == 0)}/attention?x={x}&y={y}")
        assert (about["grid"], tuple(about["patch"])) == ([6, 9], patch)
        assert about["covers"] == [48 / 45, 72 / 70]
        left, right, top, bottom = about["box"]
        assert (left, top) == (8 * patch[0], 8 * patch[1])
        assert (right, bottom) == (min(left + 7, 69), min(top + 7, 44))
        row = 9 * patch[1] + patch[0]
        layers = [("enc", 0), ("enc", 1), ("dec", 0), ("dec", 1)]
        read = read_attention(predictor.model, image, layers, lambda one: one.maps(range(one.tokens)))
        expected = [
            one[0, :, row + (layer[0] == "enc")] for one, layer in zip(read, layers, strict=True)
        ]  # the encoder's class token comes first
        found = np.frombuffer(numbers, np.float32).reshape(4, 2, 6, 9)
        np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)


def test_a_model_without_attention_says_so(site: str) -> None:
    response = requests.get(f"{site}pictures/0/attention?model=2&x=1&y=1", timeout=60)
    assert "no attention" in sentence(response, 400)
    (_, linear) = framed(f"{site}pictures/0/attention?model=1&x=1&y=1")
    assert len(linear) == 4 * 6 * 9  # one layer with one head


def test_frames_forwards_and_backwards(site: str, folder: Path, predictor: Predictor) -> None:
    frames, rate = load_video(folder / "pictures/drive.mp4")
    assert get(f"{site}pictures/2/length").json() == {"frames": FRAMES, "rate": rate}
    assert get(f"{site}pictures/3/length").json() == {"frames": FRAMES, "rate": 12}
    for number in (0, 1, 4, 2, 2, 5):
        expected = predictor.segment(np.ascontiguousarray(frames[number]))
        assert np.array_equal(labels(f"{site}pictures/2/labels?frame={number}"), expected)
        assert np.array_equal(labels(f"{site}pictures/3/labels?frame={number}"), predictor.segment(blocks(seed=number)))
    for number in (2, 3):
        response = requests.get(f"{site}pictures/{number}/labels?frame={FRAMES}", timeout=60)
        assert f"ends after {FRAMES} frames" in sentence(response, 400)
    named = get(f"{site}pictures/2/labels.png?frame=4").headers["Content-Disposition"]
    assert named.endswith("drive_000004_labels.png")


def test_pictures_are_shown_as_they_are(site: str) -> None:
    with Image.open(io.BytesIO(get(f"{site}pictures/0/picture").content)) as picture:
        assert np.abs(np.asarray(picture).astype(int) - blocks()).mean() < 4  # JPEG
    for number in range(4):
        with Image.open(io.BytesIO(get(f"{site}pictures/{number}/thumbnail").content)) as small:
            assert max(small.size) <= 192


def test_an_upload_is_turned_as_its_tag_says(site: str, predictor: Predictor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(blocks()).save(buffer, "PNG", exif=exif)
    item = put(site, "turned.png", buffer.getvalue()).json()
    assert item in get(f"{site}pictures").json()
    assert np.array_equal(
        labels(f"{site}pictures/{item['id']}/labels"), predictor.segment(np.rot90(blocks(), -1).copy())
    )


def test_one_model_works_at_a_time(checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lookers = [looker(checkpoint), looker(checkpoint)]
    segment, inside, most = Looker._segment, [], []

    def watched(self: Looker, rgb: np.ndarray) -> object:
        inside.append(self)
        most.append(len(inside))
        try:
            return segment(self, rgb)
        finally:
            inside.remove(self)

    monkeypatch.setattr(Looker, "_segment", watched)
    with serving(lookers, samples(folder / "again")) as site:
        asked = [f"{site}pictures/{n}/labels?model={m}" for n in (0, 1) for m in (0, 1)]
        threads = [threading.Thread(target=get, args=(url,)) for url in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        get(asked[0])  # kept: not made again
    assert most == [1, 1, 1, 1]
