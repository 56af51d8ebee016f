"""The commands as a person types them, in processes of their own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TINY = ("backbone.embed_dim=32", "backbone.depth=1", "backbone.num_heads=1", "backbone.patch_size=16")
SHORT = ("trainer.max_steps=1", "dataset.batch_size=2", "trainer.enable_progress_bar=false", "trainer=cpu")


# Imported by Python at its start: every look-up of a host is written down and refused.
NO_NETWORK = """
import socket
def refuse(*arguments, **keywords):
    open({log!r}, "a").write(repr(arguments) + chr(10))
    raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = refuse
"""


def run(*command: str, runs: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command in the project's folder, with one thread and its runs below `runs`."""
    settings = {"SEGMENTER_RUNS": str(runs), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_train_learns_the_shapes(tmp_path: Path) -> None:
    """The README's first command: high mIoU, nothing on stderr, no connection tried."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(NO_NETWORK.format(log=str(tmp_path / "connections")))
    watched = {"PYTHONPATH": str(tmp_path / "watch")}
    done = run("train.py", "trainer.enable_progress_bar=false", runs=tmp_path, environment=watched)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not (tmp_path / "connections").exists()
    (results_file,) = tmp_path.glob("shapes/*/seed-0/results.json")
    results = json.loads(results_file.read_text())
    assert results["val"]["miou"] >= 0.85
    assert f"val mIoU {results['val']['miou']:.4f} (last weights, step 300)" in done.stdout
    assert results["command"] == "python train.py trainer.enable_progress_bar=false"


def test_sweep_makes_one_directory_per_job(tmp_path: Path) -> None:
    done = run("train.py", "-m", "decoder=linear,mask", "seed=0,1", *TINY, *SHORT, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    results = sorted(tmp_path.glob("shapes/*/seed-*/results.json"))
    assert len(results) == 4
    configs = [json.loads(path.read_text())["config"] for path in results]
    seen = {(config["decoder"]["_target_"].rsplit(".", 1)[-1], config["seed"]) for config in configs}
    assert seen == {(decoder, seed) for decoder in ("LinearDecoder", "MaskDecoder") for seed in (0, 1)}
    assert len({path.parents[1] for path in results}) == 2


@pytest.mark.slow
def test_large_backbone_runs_without_weights(tmp_path: Path) -> None:
    options = ("backbone=vit_b16", "decoder=mask", "backbone.pretrained=false", "dataset.val_every=2")
    done = run("train.py", *options, *SHORT, "trainer.max_steps=2", "trainer.limit_val_batches=2", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "M parameters" in done.stdout
    assert len(list(tmp_path.glob("shapes/*/seed-0/results.json"))) == 1


def test_missing_weights_are_named_with_the_ways_out(tmp_path: Path) -> None:
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = run("train.py", "backbone=vit_b16", "decoder=mask", runs=tmp_path / "runs", environment=offline)
    assert done.returncode == 1
    for way_out in ("backbone.weights=", "backbone.pretrained=false", str(tmp_path / "cache")):
        assert way_out in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("script", "words"), [("train.py", ("vit_b16", "camvid_seg_t16_mask")), ("eval.py", ("ckpt",))]
)
def test_help_teaches(script: str, words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(script, "--help", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python {script} " in done.stdout
    for word in words:
        assert word in done.stdout
    assert not list(tmp_path.iterdir())


def test_configuration_can_be_printed_without_running(tmp_path: Path) -> None:
    done = run("train.py", "optimizer=adamw", "--cfg", "job", "--resolve", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"_target_: torch.optim.AdamW", done.stdout)
    assert not list(tmp_path.iterdir())


def test_unknown_option_lists_what_there_is(tmp_path: Path) -> None:
    done = run("train.py", "backbone=vit_b17", runs=tmp_path)
    assert done.returncode == 1
    assert "vit_b16" in done.stderr


def test_wandb_offline_holds_each_job_of_a_sweep_apart(tmp_path: Path) -> None:
    options = ("logger=wandb", "logger.offline=true", "seed=0,1")
    done = run("train.py", "-m", *options, *TINY, *SHORT, runs=tmp_path, environment={"WANDB_SILENT": "true"})
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        files = {path.resolve() for path in tmp_path.glob(f"shapes/*/seed-{seed}/wandb/offline-run-*/run-*.wandb")}
        assert len(files) == 1


def test_training_on_a_folder_and_evaluating_it(tmp_path: Path) -> None:
    """What a person with pictures of their own does: a folder, train.py, eval.py with label files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = (rng.random((6, 9)) > 0.5).astype(np.uint8).repeat(10, 0).repeat(10, 1)  # (60, 90)
            image = (mask[..., None] * 100 + rng.integers(0, 50, (60, 90, 3))).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / "images" / split / f"{i}.jpg")
            Image.fromarray(mask).save(tmp_path / "data" / "labels" / split / f"{i}.png")
    (tmp_path / "data" / "classes.csv").write_text("id,name,R,G,B\n0,dark,0,0,0\n1,light,255,255,0\n")
    sizes = (
        "dataset.crop=48",
        "dataset.window=48",
        "dataset.stride=32",
        "dataset.short_side=60",
        "dataset.num_workers=2",
    )
    trained = run(
        "train.py", "dataset=folder", f"dataset.root={tmp_path / 'data'}", *sizes, *TINY, *SHORT, runs=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    (checkpoint,) = tmp_path.glob("folder/*/seed-0/checkpoints/last.ckpt")
    evaluated = run("eval.py", f"ckpt={checkpoint}", "save_predictions=true", "trainer.accelerator=cpu", runs=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    folder = checkpoint.parents[1] / "eval" / "last" / "folder-val-none"
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == ["0.png", "1.png"]
    with Image.open(folder / "predictions" / "0.png") as image:
        assert image.size == (90, 60)
    trained_miou = json.loads((checkpoint.parents[1] / "results.json").read_text())["val"]["miou"]
    assert json.loads((folder / "results.json").read_text())["val"]["miou"] == trained_miou
