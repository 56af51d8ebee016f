"""Models of the paper's comparison go the whole way: train, evaluate, predict, leave; and say what they lack."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.analysis.attention import require_attention
from segmenter_pl.analysis.embeddings import class_embeddings
from segmenter_pl.analysis.settings import overrides
from segmenter_pl.build import build_trainer, plain
from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.cli import app
from segmenter_pl.eval import evaluate
from segmenter_pl.export.convert import convert
from segmenter_pl.export.graphs import export_graph
from segmenter_pl.export.pretrained import save_pretrained
from segmenter_pl.models import EncoderDecoder, Segmenter
from segmenter_pl.train import train
from tests.test_train import QUIET, configured, rows_of

pytest.importorskip("segmentation_models_pytorch", reason="the extra `baselines` is not installed")
SMALL = ("backbone.model_name=resnet10t.c3_in1k", "backbone.pretrained=false", "decoder.channels=16")
SHORT = ("trainer.max_steps=4", "dataset.val_every=2", "dataset.batch_size=2", "dataset.train_images=8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    run_dir = tmp_path_factory.mktemp("run")
    model = ("model=deeplabv3plus_resnest101", *SMALL, "callbacks=ema")
    return run_dir, train(configured("train", *model, *SHORT, *QUIET, f"run_dir={run_dir}"))


def test_deeplabv3plus_is_evaluated_to_what_its_training_saw(finished: tuple[Path, float]) -> None:
    run_dir, returned = finished
    checkpoint = run_dir / "checkpoints/best.ckpt"
    assert evaluate(configured("eval", f"ckpt={checkpoint}", *QUIET)) == pytest.approx(returned, abs=1e-6)
    model = load_segmenter(checkpoint)
    assert isinstance(model, EncoderDecoder)
    assert not isinstance(model, Segmenter)
    assert (model.stride, model.num_classes, model.training) == (4, 6, False)


def test_it_predicts_any_size_and_leaves_as_a_folder(finished: tuple[Path, float], tmp_path: Path) -> None:
    model = load_segmenter(finished[0] / "checkpoints/best.ckpt")
    picture = np.random.default_rng(0).integers(0, 256, (77, 141, 3), dtype=np.uint8)
    labels = Predictor(model, stride=64).segment(picture)
    assert labels.shape == (77, 141)
    save_pretrained(model, tmp_path / "export")
    again = load_segmenter(tmp_path / "export")
    assert np.array_equal(Predictor(again, stride=64).segment(picture), labels)
    assert "# PyramidEncoder + DeepLabV3PlusDecoder" in (tmp_path / "export/README.md").read_text()


def test_what_only_a_segmenter_has_is_refused(finished: tuple[Path, float], tmp_path: Path) -> None:
    checkpoint = finished[0] / "checkpoints/best.ckpt"
    model = load_segmenter(checkpoint)
    with pytest.raises(ValueError, match="encoder is no plain ViT"):
        require_attention(model)
    for to, message in (("official", "the official code has no"), ("mmseg", "has no"), ("timm", "for plain ViTs")):
        with pytest.raises(ValueError, match=message):
            convert(checkpoint, tmp_path / to, to)
    assert class_embeddings(model).shape == (6, 16)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    result = CliRunner().invoke(
        app, ["attention-distance", str(checkpoint), str(picture), "-o", str(tmp_path / "d.png")]
    )
    assert result.exit_code == 1
    assert "encoder is no plain ViT" in result.stderr


def test_its_graph_serves_pictures_of_other_sizes(finished: tuple[Path, float], tmp_path: Path) -> None:
    model = load_segmenter(finished[0] / "checkpoints/best.ckpt")
    assert export_graph(model, tmp_path / "model.pt", "torchscript") < 1e-4  # over four sizes
    assert (tmp_path / "model.pt").is_file()


def test_one_picture_a_device_is_refused_before_training(tmp_path: Path) -> None:
    model = ("model=deeplabv3plus_resnest101", *SMALL, "dataset.batch_size=1")
    with pytest.raises(ValueError, match=r"dataset.batch_size=1: .*batch_size=2 or more for each device"):
        build_trainer(configured("train", *model, *QUIET, f"run_dir={tmp_path}"))


def test_a_run_is_called_by_its_options(finished: tuple[Path, float]) -> None:
    config = read_checkpoint(finished[0] / "checkpoints/last.ckpt")["segmenter"]["config"]
    told = overrides(config)
    assert (told["decoder"], told["decoder.channels"]) == ("deeplabv3plus", 16)
    whole = overrides(plain(configured("train", "model=upernet_swin_l")))
    assert (whole["backbone"], whole["decoder"]) == ("swin_l", "upernet")


@pytest.mark.parametrize("decoder", ["setr_naive", "setr_pup", "setr_mla"])
def test_setr_trains_and_is_read_back(decoder: str, tmp_path: Path) -> None:
    small = ("backbone.embed_dim=32", "backbone.num_heads=1", "backbone.patch_size=16", "decoder.channels=8")
    returned = train(configured("train", f"decoder={decoder}", *small, *SHORT, *QUIET, f"run_dir={tmp_path}"))
    assert evaluate(configured("eval", f"ckpt={tmp_path / 'checkpoints/best.ckpt'}", *QUIET)) == pytest.approx(returned)
    losses = [float(row["train/loss"]) for row in rows_of(tmp_path) if row["train/loss"]]
    assert all(np.isfinite(losses))
    model = load_segmenter(tmp_path / "checkpoints/best.ckpt")
    assert isinstance(model, Segmenter)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 50, 70)).shape == (1, 6, 50, 70)
