"""Each ablation is the paper's table, in a directory of its own; an interrupted one trains only what is missing."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import segmenter_pl.experiments
from segmenter_pl import searchpath
from tests.test_commands import ROOT, TINY, run
from tests.test_recipes import BACKBONES, published

FILES = Path(segmenter_pl.experiments.__path__[0], "ablation")
RATES = (0.0, 0.1, 0.2)
# The settings of every job, in the paper's order.
JOBS: dict[str, list[dict[str, Any]]] = {
    "regularization": [{"backbone.dropout": a, "backbone.drop_path_rate": b} for a in RATES for b in RATES],
    "patch_size": [{"backbone": name} for name in ("vit_s32", "vit_s16", "vit_b32", "vit_b16", "vit_b8")],
    "model_size": [{"backbone": name} for name in ("vit_t16", "vit_s16", "deit_b16", "vit_b16", "vit_l16")],
    "decoder": [
        {"backbone": backbone, "decoder": decoder}
        for backbone in ("vit_b32", "deit_b16", "vit_b16", "vit_l16")
        for decoder in ("linear", "mask")
    ],
    "dataset_size": [{"dataset.train_images": number} for number in (4000, 8000, 12000, 16000, 20000)],
    "pretraining": [
        {"backbone.pretrained": pretrained, "backbone.weights": None, "optimizer": optimizer}
        for pretrained in (False, True)
        for optimizer in ("sgd", "adamw_scratch")
    ],
    "imagenet_weights": [{"backbone": name} for name in ("vit_b16_orig", "vit_b16")],
}
LAUNCHER = "hydra_plugins.hydra_submitit_launcher"
MISSING = "hydra-submitit-launcher is missing: pip install segmenter-pl[slurm]"


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def composed(*overrides: str) -> DictConfig:
    """As in a run: with Hydra's own settings at hand."""
    config = compose("train", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def jobs_of(ablation: str) -> list[dict[str, Any]]:
    params = composed(f"ablation={ablation}").hydra.sweeper.params
    values = [[yaml.safe_load(value) for value in str(text).split(",")] for text in params.values()]
    return [dict(zip(params, job, strict=True)) for job in itertools.product(*values)]


def job(ablation: str, settings: dict[str, Any], *overrides: str) -> DictConfig:
    words = [f"{key}={'null' if value is None else value}" for key, value in settings.items()]
    return composed(*words, f"ablation={ablation}", *overrides)


def directory(config: DictConfig) -> Path:
    return Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)


def test_every_file_is_in_the_table_above() -> None:
    assert {path.stem for path in FILES.glob("*.yaml")} == set(JOBS)


@pytest.mark.parametrize("ablation", JOBS)
def test_jobs_are_those_of_the_paper(ablation: str) -> None:
    assert jobs_of(ablation) == JOBS[ablation]
    assert composed(f"ablation={ablation}").hydra.mode.name == "MULTIRUN"
    directories = set()
    for settings in JOBS[ablation]:
        config = job(ablation, settings)
        for key, value in settings.items():
            if key in ("backbone", "decoder", "optimizer"):
                assert OmegaConf.to_container(config.hydra.runtime.choices)[key] == value
            else:
                assert OmegaConf.select(config, key) == value
        assert (config.dataset.name, config.dataset.crop, config.trainer.max_steps) == ("ade20k", 512, 160_000)
        assert config.backbone.norm_eps == 1e-5
        directories.add(directory(config))
    assert len(directories) == len(JOBS[ablation])
    (sweep,) = {path.parents[1] for path in directories}
    assert sweep == Path(composed(f"ablation={ablation}").hydra.sweep.dir)
    assert sweep.parent.name == ablation
    text = (FILES / f"{ablation}.yaml").read_text()
    for heading in ("# Source:", f"# Command: python train.py ablation={ablation}", "# Elsewhere:", "# Expected:"):
        assert heading in text


def setting(row: dict[str, str]) -> dict[str, Any]:
    """The setting of a published row in our keys."""
    weights = {"none": False, "imagenet21k": True}
    first = "original ViT (random cropping only)"
    found: dict[str, Any] = {}
    for key, _, value in (part.partition("=") for part in row["setting"].split(";")):
        match key:
            case "dropout":
                found["backbone.dropout"] = float(value)
            case "stochastic_depth":
                found["backbone.drop_path_rate"] = float(value)
            case "train_images":
                found["dataset.train_images"] = int(value)
            case "pretraining":
                found |= {"backbone.pretrained": weights[value], "backbone.weights": None}
            case "optimizer":
                found["optimizer"] = {"sgd": "sgd", "adamw": "adamw_scratch"}[value]
            case "weights":
                found["backbone"] = "vit_b16_orig" if value == first else "vit_b16"
    return found


def test_every_row_of_a_swept_table_is_a_job() -> None:
    tables = {
        "table2_regularization": "regularization",
        "table5_dataset_size": "dataset_size",
        "table9_pretraining": "pretraining",
        "section4_2": "imagenet_weights",
    }
    rows = [row for row in published() if row["table"] in tables]
    assert len(rows) == 9 + 5 + 4 + 2
    for row in rows:
        ablation, found = tables[row["table"]], setting(row)
        assert JOBS[ablation].count(found) == 1
        config = job(ablation, found)
        if "backbone" not in found:
            assert config.backbone.model_name == BACKBONES[row["backbone"]]
        assert config.decoder._target_.endswith("LinearDecoder")
        assert f" {float(row['value']):.2f}" in " ".join((FILES / f"{ablation}.yaml").read_text().split())


def test_tables_of_models_are_swept_whole() -> None:
    """Table 3 by two ablations; Table 4 by one, but for B/8, which has no mask decoder there."""
    found = {"table3_backbones": set(), "table4_object_size": set()}
    for row in published():
        if row["table"] in found:
            found[row["table"]].add((row["backbone"], row["decoder"]))
    swept = {(one["backbone"], "linear") for name in ("patch_size", "model_size") for one in JOBS[name]}
    assert swept == found["table3_backbones"]
    assert {(one["backbone"], one["decoder"]) for one in JOBS["decoder"]} | {("vit_b8", "linear")} == (
        found["table4_object_size"]
    )


def test_warm_up_is_a_tenth_of_any_budget() -> None:
    found = {"backbone.pretrained": False, "optimizer": "adamw_scratch"}
    paper = job("pretraining", found)
    assert (paper.schedule.warmup_steps, paper.optimizer.lr) == (16_000, 1e-3)
    assert paper.schedule._target_ == "segmenter_pl.optim.cosine"
    assert job("pretraining", found, "trainer.max_steps=55").schedule.warmup_steps == 6


@pytest.mark.parametrize("ablation", JOBS)
def test_any_dataset_and_budget(ablation: str) -> None:
    over = ("dataset=folder", "dataset.root=/x/toys", "trainer.max_steps=10")
    configs = [job(ablation, settings, *over) for settings in (JOBS[ablation][0], JOBS[ablation][-1])]
    assert all((config.dataset.name, config.trainer.max_steps) == ("folder", 10) for config in configs)
    (sweep,) = {directory(config).parents[1] for config in configs}
    assert sweep.parent.name == ablation
    assert sweep.name.startswith("dataset-folder_root-toys_max-steps-10-")


def test_two_sweeps_share_no_directory() -> None:
    def sweep(*overrides: str) -> str:
        return str(composed("ablation=regularization", *overrides).hydra.sweep.dir)

    shapes = ("dataset=shapes", "trainer.max_steps=10")
    different = [
        sweep(*words)
        for words in ((), shapes, (*shapes, "tag=again"), ("dataset=shapes",), ("experiment=camvid_seg_t16_linear",))
    ]
    assert len(set(different)) == len(different)
    same = [(*reversed(shapes),), (*shapes, "logger=none", "trainer=cpu", "seed=3", "backbone.dropout=0.1")]
    assert {sweep(*words) for words in same} == {sweep(*shapes)}
    folder = ("dataset=folder", "dataset.root=/a/toys")
    assert sweep(*folder) == sweep("dataset=folder", "dataset.root=/b/toys")
    swept = {"backbone.dropout": 0.1, "backbone.drop_path_rate": 0.2}
    assert directory(job("regularization", swept, *shapes)).parent.name.startswith("drop-path-rate-0.2_dropout-0.1-")


def test_wandb_knows_the_sweep() -> None:
    config = composed("ablation=regularization", "logger=wandb", "backbone.dropout=0.1")
    assert config.logger.wandb.group == config.name
    assert list(config.logger.wandb.tags) == ["ade20k", "vit_s16", "linear", "ade20k_seg_s16_linear", "regularization"]


SMALL = (
    "ablation=regularization",
    *("dataset=shapes", "backbone=vit_micro", *TINY, "trainer.max_steps=2", "dataset.val_every=1"),
    *("dataset.batch_size=2", "trainer.limit_val_batches=2", "trainer.enable_progress_bar=false", "trainer=cpu"),
    "backbone.drop_path_rate=0.0",
)


def finished(runs: Path) -> dict[float, bytes]:
    """The results that are there, by dropout."""
    texts = [path.read_bytes() for path in runs.glob("regularization/*/*/seed-0/results.json")]
    return {json.loads(text)["config"]["backbone"]["dropout"]: text for text in texts}


def test_a_killed_sweep_trains_only_what_is_missing(tmp_path: Path) -> None:
    command = ("train.py", *SMALL, "backbone.dropout=0.0,0.1")
    settings = {**os.environ, "SEGMENTER_RUNS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=settings, stdout=subprocess.DEVNULL)
    while first.poll() is None and not finished(tmp_path):
        time.sleep(0.005)
    first.kill()
    first.wait()
    before = finished(tmp_path)
    assert set(before) == {0.0}
    done = run(*command, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Finished before") == 1
    assert done.stdout.count("Training regularization/") == 1
    after = finished(tmp_path)
    assert set(after) == {0.0, 0.1}
    assert before.items() <= after.items()
    assert len(list(tmp_path.glob("regularization/*"))) == 1
    groups = {json.loads(text)["config"]["name"] for text in after.values()}
    assert groups == {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("regularization/*")}


@pytest.mark.slow
def test_submitit_runs_a_sweep_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip(LAUNCHER, reason=MISSING)
    done = run("train.py", *SMALL, "backbone.dropout=0.0,0.1", "hydra/launcher=submitit_local", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(finished(tmp_path)) == {0.0, 0.1}
    assert len(list(tmp_path.glob("regularization/*/.submitit/*/*_log.out"))) == 2


def test_slurm_is_asked_for_one_process_a_gpu(tmp_path: Path) -> None:
    """With commands of Slurm that keep what they are given."""
    pytest.importorskip(LAUNCHER, reason=MISSING)
    commands, script = tmp_path / "bin", tmp_path / "script"
    commands.mkdir()
    for name, text in (("srun", ""), ("sbatch", f'cp "${{@: -1}}" {script}; exit 1')):
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)
    options = ("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "trainer=ddp", "trainer.devices=4")
    environment = {"PATH": f"{commands}:{os.environ['PATH']}"}
    assert run("train.py", "ablation=regularization", *options, runs=tmp_path, environment=environment).returncode
    asked = set(script.read_text().splitlines())
    assert {f"#SBATCH --{word}" for word in ("array=0-8%9", "nodes=1", "partition=gpu", "time=1440")} <= asked
    assert {"#SBATCH --gpus-per-node=4", "#SBATCH --ntasks-per-node=4", "#SBATCH --cpus-per-task=8"} <= asked


def test_slurm_is_missed_in_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip(LAUNCHER, reason=MISSING)
    environment = {"PATH": str(tmp_path)}
    done = run("train.py", "ablation=regularization", "hydra/launcher=slurm", runs=tmp_path, environment=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        "Error: hydra/launcher=slurm: there is no srun on this machine; start it where Slurm is, or leave it out"
    )
