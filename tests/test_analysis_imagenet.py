"""ImageNet accuracy of a backbone, against a direct computation on a made-up ImageNet of a few pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.analysis.imagenet import (
    ImageNetVal,
    classifier,
    evaluation_transform,
    pictures_of_imagenet,
    timm_name,
)
from segmenter_pl.cli import app

NPZ = "data/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.npz"
NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WNIDS = [f"n{1000000 + 37 * i:08d}" for i in range(1000)]
FILLED = (0, 3, 42, 999)


def accuracy(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["accuracy", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 folders, of which four hold two pictures each: of other sizes, grey, with a palette."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for name in WNIDS:
        (root / "val" / name).mkdir(parents=True)
    for number in FILLED:
        for i, mode in enumerate(("RGB", "L")):
            noise = rng.integers(0, 256, (7, 11, 3), dtype=np.uint8).repeat(40, 0).repeat(30, 1)
            folder = root / "val" / WNIDS[number]
            Image.fromarray(noise).convert(mode).save(folder / f"ILSVRC2012_val_{number:05d}{i}.JPEG")
    (root / "val" / "notes.txt").touch()
    return root


def direct(root: Path, model: torch.nn.Module, side: int) -> list[tuple[int, list[int]]]:
    """Class and the five first guesses of each picture, by Pillow and numpy alone."""
    found = []
    for number in FILLED:
        for path in sorted((root / "val" / WNIDS[number]).iterdir()):
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            scale = side / min(picture.size)
            width, height = (int(edge * scale) if edge > min(picture.size) else side for edge in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
            left, top = round((width - 224) / 2), round((height - 224) / 2)
            pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32)
            image = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
            with torch.inference_mode():
                found.append((number, model(image)[0].argsort(descending=True)[:5].tolist()))
    return found


def test_counts_equal_a_direct_computation(assets: Path, imagenet: Path, tmp_path: Path) -> None:
    """The head is set so that some pictures are right: class means of what the real head answers."""
    model = classifier(NAME, assets / NPZ)
    guesses = direct(imagenet, model, 248)  # 224 / 0.9
    first = sum(five[0] == number for number, five in guesses)
    fifth = sum(number in five for number, five in guesses)
    out = tmp_path / "imagenet" / "tiny.json"
    code, said, _ = accuracy(NAME, "--weights", assets / NPZ, "--imagenet", imagenet, "--workers", 0, "-o", out,
                             "--batch-size", 3, "--device", "cpu")  # fmt: skip
    assert code == 0
    assert said.startswith(
        f"{NAME} ({NAME}): top-1 {first / 8:.4f} ({first} of 8), top-5 {fifth / 8:.4f} ({fifth} of 8)"
    )
    record = json.loads(out.read_text())
    assert (record["correct1"], record["correct5"], record["pictures"]) == (first, fifth, 8)


def test_some_right_some_wrong(assets: Path, imagenet: Path, tmp_path: Path) -> None:
    """With the outputs of a picture's guesses moved to other classes, the counts are those that were arranged."""
    arrays = dict(np.load(assets / NPZ))
    model = classifier(NAME, assets / NPZ)
    guesses = direct(imagenet, model, 256)
    order = np.arange(1000)
    # The second class's second picture becomes right, and the last class's first one fourth.
    for number, guess in ((FILLED[1], guesses[3][1][0]), (FILLED[3], guesses[6][1][3])):
        order[[number, guess]] = order[[guess, number]]
    arrays["head/kernel"], arrays["head/bias"] = arrays["head/kernel"][:, order], arrays["head/bias"][order]
    np.savez(tmp_path / "moved.npz", **arrays)
    moved = direct(imagenet, classifier(NAME, tmp_path / "moved.npz"), 256)
    first = sum(five[0] == number for number, five in moved)
    fifth = sum(number in five for number, five in moved)
    assert 0 < first < 8
    assert first < fifth < 8
    code, said, _ = accuracy(NAME, "--weights", tmp_path / "moved.npz", "--imagenet", imagenet / "val", "--resize", 256,
                             "--workers", 0, "--device", "cpu")  # fmt: skip
    assert code == 0
    assert f"({first} of 8), top-5 {fifth / 8:.4f} ({fifth} of 8)" in said


def test_logits_equal_timms_own_reading_of_the_file(assets: Path) -> None:
    theirs = timm.create_model(NAME, pretrained=False)
    theirs.load_pretrained(str(assets / NPZ))  # type: ignore[operator]
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(classifier(NAME, assets / NPZ)(image), theirs.eval()(image))


@pytest.mark.parametrize(("resize", "short"), [(None, 248), (256, 256), (300, 300), (224, 224)])
def test_the_short_side_is_exact(assets: Path, resize: int | None, short: int) -> None:
    model = classifier(NAME, assets / NPZ)
    steps = evaluation_transform(model, resize).transforms
    assert steps[0].size == short
    assert steps[0](Image.new("RGB", (640, 480))).size[1] == short
    assert tuple(steps[1].size) == (224, 224)


def test_names_of_backbones() -> None:
    assert timm_name("vit_t16") == "vit_tiny_patch16_384.augreg_in21k_ft_in1k"
    assert timm_name("deit_b16") == "deit_base_distilled_patch16_384.fb_in1k"
    with pytest.raises(ValueError, match="vit_micro has no ImageNet weights"):
        timm_name("vit_micro")
    with pytest.raises(ValueError, match="vit_q16 is neither an option of backbone= nor a name of timm's"):
        timm_name("vit_q16")
    with pytest.raises(ValueError, match="has no head for ImageNet's 1000 classes"):
        classifier("dinov2_s14")


def test_weights_without_a_head_or_of_another_model_are_refused(assets: Path, imagenet: Path) -> None:
    headless = assets / NPZ.replace(".npz", ".safetensors")
    code, _, told = accuracy(NAME, "--weights", headless, "--imagenet", imagenet)
    assert code == 1
    assert "holds no classification head" in told
    code, _, told = accuracy("vit_t16", "--weights", assets / NPZ, "--imagenet", imagenet)
    assert code == 1
    assert "does not fit the model" in told
    assert "pos_embed" in told


def test_the_folder_is_looked_at_before_weights_are(tmp_path: Path) -> None:
    """Which may have to come from far away: here they would be missed, had they been asked for."""
    code, _, told = accuracy("vit_t16", "--weights", tmp_path / "none.npz", "--imagenet", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere is no folder: give the one that holds val/" in told


def test_missing_weights_name_the_way_out(imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> Path:
        raise FileNotFoundError("backbone.pretrained=true")

    monkeypatch.setattr("segmenter_pl.analysis.imagenet.hub_weights", none)
    with pytest.raises(FileNotFoundError, match="with --weights"):
        classifier(NAME)


def test_wrong_folders_are_told(tmp_path: Path, imagenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder: give the one that holds val/"):
        pictures_of_imagenet(tmp_path / "none")
    (tmp_path / "val" / WNIDS[0]).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has 1 folders named like n01440764, and the 1000 classes"):
        pictures_of_imagenet(tmp_path)
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(ValueError, match="the pictures lie there unsorted"):
        pictures_of_imagenet(tmp_path)
    for name in WNIDS[1:]:
        (tmp_path / "val" / name).mkdir()
    with pytest.raises(ValueError, match="there is no picture"):
        pictures_of_imagenet(tmp_path)
    damaged = tmp_path / "val" / WNIDS[7] / "a.JPEG"
    damaged.write_bytes(b"\xff\xd8\xff nothing")
    data = ImageNetVal(pictures_of_imagenet(tmp_path), lambda picture: torch.zeros(1))
    assert [number for _, number in data.samples] == [7]
    with pytest.raises(ValueError, match=r"a.JPEG cannot be read as a picture"):
        data[0]
    Image.new("RGB", (20, 60)).save(damaged)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back behind the test
    monkeypatch.setenv("SEGMENTER_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(ValueError, match=r"a.JPEG has 0.0012 megapixels, and 0.001 are the limit"):
        data[0]
