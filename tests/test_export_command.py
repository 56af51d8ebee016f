"""`segmenter export`, as it is typed; and checkpoints of others in the other commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import load_segmenter
from segmenter_pl.cli import app
from segmenter_pl.eval import evaluate
from tests.foreign import Shape, write_mmseg, write_official, write_paddle
from tests.test_train import QUIET, configured

S = Shape(depth=1)


def segmenter(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_a_graph_is_written_and_the_difference_told(tmp_path: Path) -> None:
    source, target = write_paddle(tmp_path / "m.pdparams", S), tmp_path / "model.pt"
    code, said, told = segmenter("export", source, target, "--format", "torchscript", "--output", "labels")
    assert (code, told) == (0, "")
    assert said.startswith(f"Written: {target}. Run on four other sizes, it differs from the model by at most 0")
    with pytest.warns(FutureWarning, match="is deprecated"):
        graph = torch.jit.load(target)
    picture = torch.randint(0, 256, (2, 3, 21, 50), dtype=torch.uint8)
    with torch.no_grad():
        expected = load_segmenter(source)(picture).argmax(1)
    assert (graph(picture) == expected).float().mean() > 0.999


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--format", "onnx", "--push", "me/model"), "--push me/model: only --format safetensors"),
        (("--format", "onnx", "--results", "r.json"), "--results r.json: only --format safetensors"),
        (("--format", "safetensors", "--output", "labels"), "--output labels: --format safetensors holds a model"),
        (("--format", "safetensors", "--results", "r.json"), "--results r.json cannot be read"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    code, said, told = segmenter("export", write_mmseg(tmp_path / "m.pth", S), tmp_path / "out", *words)
    assert (code, said) == (1, "")
    assert told.startswith(f"Error: {reason}")
    assert len(told.splitlines()) == 2
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>")
    for name, reason in (("page.pth", "cannot be read as a checkpoint"), ("none.pth", "does not exist")):
        code, _, told = segmenter("export", tmp_path / name, tmp_path / "out", "--format", "onnx")
        assert code == 1
        assert reason in told
        assert len(told.splitlines()) == 2
    (tmp_path / "there").mkdir()
    (tmp_path / "there/other").touch()
    source = write_mmseg(tmp_path / "m.pth", S)
    assert "holds other things" in segmenter("export", source, tmp_path / "there", "--format", "safetensors")[2]
    assert "is there already" in segmenter("export", source, tmp_path / "there", "--format", "onnx")[2]


def others(folder: Path) -> list[Path]:
    """A checkpoint of each kind, of 6 classes as the drawn shapes have."""
    shape = Shape(depth=1, classes=6)
    mmseg, paddle = write_mmseg(folder / "m.pth", shape), write_paddle(folder / "p.pdparams", shape)
    export = folder / "export"
    assert segmenter("export", mmseg, export, "--format", "safetensors")[0] == 0
    return [write_official(folder / "official", shape), mmseg, paddle, export]


def test_checkpoints_of_others_predict_and_evaluate(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(picture)
    for path in others(tmp_path):
        out = tmp_path / f"out-{path.stem}"
        code, _, told = segmenter("predict", path, picture, "-o", out, "--device", "cpu", "--legend")
        assert (code, told) == (0, ""), path
        with Image.open(out / "labels/a.png") as file:
            labels = np.array(file)
        assert labels.shape == (40, 60)
        assert labels.max() < 6
        settings = (f"ckpt={path}", "dataset=shapes", "dataset.num_workers=0", "fraction=0.05", *QUIET)
        miou = evaluate(configured("eval", *settings))
        assert 0 <= miou < 0.6
        with pytest.raises(ValueError, match="tells no dataset: give dataset=NAME"):
            evaluate(configured("eval", f"ckpt={path}", *QUIET))


def test_other_class_names_than_the_datasets_are_refused(tmp_path: Path) -> None:
    names = {"dataset_meta": {"classes": list("abcdef"), "palette": None}}
    path = write_mmseg(tmp_path / "m.pth", Shape(depth=1, classes=6), meta=names)
    with pytest.raises(ValueError, match="was trained with other classes than dataset shapes has: 'a' stands where"):
        evaluate(configured("eval", f"ckpt={path}", "dataset=shapes", *QUIET))


def test_training_starts_from_any_of_them(tmp_path: Path) -> None:
    from segmenter_pl.train import train

    encoder = ("backbone.embed_dim=64", "backbone.depth=1", "backbone.num_heads=1", "backbone.patch_size=8")
    steps = ("trainer.max_steps=1", "dataset.batch_size=2", "logger=none", "callbacks=none", "dataset.crop=24")
    for path in others(tmp_path)[:3]:
        file = path / "checkpoint.pth" if path.is_dir() else path
        weights = (f"backbone.weights={file}", f"run_dir={tmp_path}/run-{path.stem}")
        train(configured("train", *encoder, *steps, *weights, *QUIET))
    with pytest.raises(Exception, match=r"backbone\.weights=.*m\.pth does not fit the model"):
        train(configured("train", *encoder[1:], *steps, weights[1] + "2", f"backbone.weights={tmp_path}/m.pth", *QUIET))


def test_a_converted_checkpoint_keeps_its_training(tmp_path: Path) -> None:
    info = json.loads((others(tmp_path)[3] / "config.json").read_text())
    assert info["num_classes"] == 6
    code, _, told = segmenter("convert", tmp_path / "export", tmp_path / "best.ckpt", "--to", "ours")
    assert (code, told) == (0, "")
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["segmenter"] == info
