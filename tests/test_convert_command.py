"""`segmenter convert`, as it is typed."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from segmenter_pl import load_segmenter
from segmenter_pl.cli import app
from tests.foreign import Shape, jax_arrays, write_mmseg, write_official, write_paddle
from tests.test_imports import loaded_by


def convert(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["convert", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_there_and_back(tmp_path: Path) -> None:
    source = write_official(tmp_path / "theirs", Shape())
    code, said, told = convert(source / "checkpoint.pth", tmp_path / "model.ckpt", "--to", "ours")
    assert (code, told) == (0, "")
    assert said.splitlines()[0] == f"Written: {tmp_path}/model.ckpt"
    assert said.splitlines()[1].startswith("Read back, its logits differ by at most 0 ")
    code, said, told = convert(tmp_path / "model.ckpt", tmp_path / "official", "--to", "official")
    assert (code, told) == (0, "")
    written = f"{tmp_path}/official/checkpoint.pth, {tmp_path}/official/variant.yml"
    assert said.splitlines()[0] == f"Written: {written}"
    assert "differ by at most 0 " in said


def test_how_much_the_output_moves_is_told(tmp_path: Path) -> None:
    """MMSegmentation's encoder has an epsilon of 1e-6 where the official code has 1e-5."""
    source = write_official(tmp_path / "theirs", Shape())
    _, said, _ = convert(source, tmp_path / "m.pth", "--to", "mmseg")
    told = float(said.partition("differ by at most ")[2].split()[0])
    before, after = load_segmenter(source), load_segmenter(tmp_path / "m.pth")
    picture = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert told == pytest.approx(float((before(picture) - after(picture)).abs().max()), rel=0.01)
    assert 0 < told < 1e-2


def test_pixel_statistics_that_a_file_does_not_tell(tmp_path: Path) -> None:
    source = write_paddle(tmp_path / "m.pdparams", Shape(distilled=True))
    words = ("--to", "official", "--mean", 0.485, 0.456, 0.406, "--std", 0.229, 0.224, 0.225)
    code, said, told = convert(source, tmp_path / "official", *words)
    assert (code, told) == (0, "")
    assert load_segmenter(tmp_path / "official").pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert float(said.partition("differ by at most ")[2].split()[0]) < 1e-2
    code, _, told = convert(source, tmp_path / "other", "--to", "official", "--mean", 0.4, 0.4, 0.4)
    assert code == 1
    assert "the official code knows the pixel statistics" in told


def test_an_encoder_alone_is_written_without_more_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "vit.npz", **jax_arrays(Shape()))  # type: ignore[arg-type]
    for to, name in (("mmseg", "m.pth"), ("timm", "t.safetensors"), ("timm", "t.pth")):
        code, said, told = convert(tmp_path / "vit.npz", tmp_path / name, "--to", to)
        assert (code, said, told) == (0, f"Written: {tmp_path}/{name}\n", "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("m.pth", "o", "--to", "official"), "cannot leave the bias of the patch embedding out: convert to mmseg"),
        (("d.pdparams", "m2.pth", "--to", "mmseg"), "MMSegmentation has no place for encoder.vit.dist_token"),
        (("m.pth", "m.pth", "--to", "ours"), "m.pth is there already"),
        (("none.pth", "o", "--to", "ours"), "none.pth does not exist"),
        (("page.html", "o", "--to", "ours"), "page.html cannot be read as a checkpoint"),
        (("vit.npz", "o", "--to", "ours"), "vit.npz is an encoder alone: --to timm or --to mmseg"),
    ],
)
def test_refusals_are_one_sentence(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    write_mmseg(tmp_path / "m.pth", Shape(patch_bias=False))
    write_paddle(tmp_path / "d.pdparams", Shape(distilled=True))
    (tmp_path / "page.html").write_text("<html>")
    np.savez(tmp_path / "vit.npz", **jax_arrays(Shape()))  # type: ignore[arg-type]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    code, said, told = convert(*(tmp_path / word if word[0] != "-" and k < 2 else word for k, word in enumerate(words)))
    assert (code, said) == (1, "")
    assert told.startswith("Error: ")
    assert len(told.splitlines()) == 2  # the second says how to see the trace
    assert reason in told
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_wrong_words(tmp_path: Path) -> None:
    code, _, told = convert(tmp_path / "a", tmp_path / "b", "--to", "tensorflow")
    assert code == 2
    assert "tensorflow" in told
    assert convert(tmp_path / "a", tmp_path / "b")[0] == 2


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_official(tmp_path / "theirs", Shape())
    (tmp_path / "file").touch()
    code, _, told = convert(source, tmp_path / "file/model.ckpt", "--to", "ours")
    assert code == 1
    assert told.startswith("Error: ")
    assert "file/model.ckpt" in told


@pytest.mark.parametrize("to", ["ours", "official", "mmseg", "timm"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, to: str) -> None:
    source, folder = write_official(tmp_path / "theirs", Shape()), tmp_path / "to"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # files may not grow beyond that
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        code, said, told = convert(source, folder / "model.safetensors", "--to", to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, said) == (1, "")
    assert "model.safetensors" in told
    assert "cannot be written" in told
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["convert", "export", "zoo", "eval-zoo"])
def test_help_is_quick_and_teaches(command: str) -> None:
    statement = (
        f"from typer.testing import CliRunner; from segmenter_pl.cli import app; CliRunner().invoke(app, "
        f"['{command}', '--help'])"
    )
    assert not loaded_by(statement) & {"torch", "numpy", "lightning", "hydra", "timm", "wandb", "requests"}
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert command == "zoo" or f"segmenter {command} " in done.stdout.partition("Examples")[2]
