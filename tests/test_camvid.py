"""Real pictures and real weights: the CamVid recipe, which needs the shared assets."""

import json
from pathlib import Path

import pytest
import torch

from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.train import train
from tests.test_train import configured


def camvid_run(
    assets: Path, run_dir: Path, *overrides: str, experiment: str = "camvid_seg_t16_mask"
) -> dict[str, object]:
    weights = assets / "data/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    where = (f"dataset.root={assets / 'data/camvid'}", f"backbone.weights={weights}", f"run_dir={run_dir}")
    quiet = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu")
    train(configured("train", f"experiment={experiment}", *where, *quiet, *overrides))
    return json.loads((run_dir / "results.json").read_text())


def test_workers_do_not_change_a_bit(assets: Path, tmp_path: Path) -> None:
    """The whole augmentation, dropout and stochastic depth, with 0 and with 2 loader processes."""
    states = []
    for workers in (0, 2):
        run_dir = tmp_path / str(workers)
        options = ("trainer.max_steps=2", "trainer.limit_val_batches=1", "dataset.val_every=2", "dataset.batch_size=4")
        camvid_run(assets, run_dir, f"dataset.num_workers={workers}", *options)
        states.append(read_checkpoint(run_dir / "checkpoints/last.ckpt")["state_dict"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "low", "high"),  # the README's figures, with room for what a seed changes in 400 steps
    [
        ("camvid_seg_t16_mask", 0.37, 0.46),
        ("camvid_seg_t16_mask_adamw", 0.45, 0.53),
        ("camvid_seg_t16_linear", 0.46, 0.52),
    ],
)
def test_recipe_reaches_its_miou(experiment: str, low: float, high: float, assets: Path, tmp_path: Path) -> None:
    results = camvid_run(assets, tmp_path, experiment=experiment)
    assert low <= results["val"]["miou"] <= high  # type: ignore[index]
