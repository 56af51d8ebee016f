"""Configurations are code: every option composes and instantiates, and every leaf is read by something."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import segmenter_pl.conf
import segmenter_pl.experiments
from segmenter_pl import build, searchpath
from tests import layouts

CONF = Path(segmenter_pl.conf.__path__[0])
EXPERIMENTS = Path(segmenter_pl.experiments.__path__[0])
SOURCE = Path(build.__file__).parent
PYRAMIDS = ("pyramid", "resnest101", "swin_l")  # backbones that are no plain ViT
SCALES = {"setr_pup": 8, "setr_mla": 4}
PUBLISHED = ("ade20k", "pascal_context", "cityscapes", "rgbt_glass")


def options(group: str, root: Path = CONF) -> list[str]:
    return sorted(path.stem for path in (root / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides: str, tmp: Path | None = None) -> DictConfig:
    where = [] if tmp is None else [f"run_dir={tmp}"]
    return compose("train", overrides=[*overrides, *where])


@pytest.mark.parametrize("backbone", options("backbone"))
def test_backbones_build_with_every_key(backbone: str) -> None:
    pyramid = backbone in PYRAMIDS
    named = {"vit": ["backbone.model_name=vit_tiny_patch16_224"], "pyramid": ["backbone.model_name=resnet10t"]}
    # One block is enough to see that every key is accepted; tests/models checks the architectures themselves.
    small = ["decoder=upernet", "backbone.output_stride=32"] if pyramid else ["++backbone.depth=1"]
    config = composed(f"backbone={backbone}", *named.get(backbone, ()), "backbone.pretrained=false", *small)
    with torch.device("meta"):
        model = build.build_model(config, num_classes=7)
    assert model.num_classes == 7
    assert model.stride == (4 if pyramid else model.encoder.patch_size)


@pytest.mark.parametrize(("decoder", "scale"), [(name, SCALES.get(name, 1)) for name in options("decoder")])
def test_decoders_build(decoder: str, scale: int) -> None:
    backbone = {"deeplabv3plus": "resnest101", "upernet": "swin_l"}.get(decoder, "vit_micro")
    config = composed(f"decoder={decoder}", f"backbone={backbone}", "backbone.pretrained=false")
    with torch.device("meta"):
        built = build.build_model(config, num_classes=3)
    assert type(built.decoder).__name__.lower().startswith(decoder.replace("_", ""))
    assert built.stride * scale == built.encoder.patch_size


# Of 150 classes; smp's own builds of these have as many (and the paper's UPerNet 234 M).
@pytest.mark.parametrize(
    ("model", "kind", "parameters"),
    [
        ("segmenter", "Segmenter", 757_164 + 96 * (64**2 - 16**2)),
        ("deeplabv3plus_resnest101", "EncoderDecoder", 49_433_862),
        ("upernet_swin_l", "EncoderDecoder", 232_154_442),
    ],
)
def test_models_build(model: str, kind: str, parameters: int) -> None:
    config = composed(f"model={model}", "backbone.pretrained=false", "backbone.image_size=512")
    with torch.device("meta"):
        built = build.build_model(config, num_classes=150)
    assert type(built).__name__ == kind
    assert sum(p.numel() for p in built.parameters()) == parameters
    assert model in options("model")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoder=deeplabv3plus"], "needs a backbone with maps of several sizes"),
        (["decoder=upernet", "backbone=resnest101"], r"backbone.output_stride=16: decoder=upernet needs 32"),
        (["model=upernet_swin_l", "decoder=deeplabv3plus"], r"output_stride=32: decoder=deeplabv3plus needs 16 or 8"),
        (["backbone=resnest101"], "needs tokens of a plain ViT"),
        (["backbone=pyramid", "backbone.model_name=vit_tiny_patch16_224", "decoder=upernet"], "no pyramid"),
        (["backbone=pyramid", "backbone.model_name=rezneszt", "decoder=upernet"], "unknown to timm"),
    ],
)
def test_backbones_and_decoders_that_do_not_fit_are_told(overrides: list[str], message: str) -> None:
    config = composed(*overrides, "backbone.pretrained=false")
    with torch.device("meta"), pytest.raises(Exception, match=message):
        build.build_model(config, num_classes=3)


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_optimizers_and_schedules_build(optimizer: str) -> None:
    config = composed(f"optimizer={optimizer}", "decoder_lr_scale=10")
    datamodule = build.build_datamodule(config)
    model = build.build_model(config, len(datamodule.classes))
    task = build.build_task(config, model, datamodule)
    assert task.make_optimizer is not None
    assert task.make_schedule is not None
    made = task.make_optimizer(model)
    task.make_schedule(made, 300)
    held = {id(p) for group in made.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    rates = {group["name"].split("_")[0]: group["initial_lr"] for group in made.param_groups}
    assert rates["decoder"] == pytest.approx(10 * rates["encoder"])


@pytest.mark.parametrize("trainer", options("trainer"))
def test_trainers_build(trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    monkeypatch.setenv("SLURM_NNODES", "1")
    config = composed(f"trainer={trainer}", tmp=tmp_path)
    if config.trainer.accelerator == "gpu":  # the option itself asks for hardware that a test cannot count on
        config.trainer.accelerator, config.trainer.devices = "cpu", 1
    built = build.build_trainer(config)
    assert (built.max_steps, built.val_check_interval) == (300, 100)


@pytest.mark.parametrize("callbacks", options("callbacks"))
def test_callbacks_build(callbacks: str, tmp_path: Path) -> None:
    config = composed(f"callbacks={callbacks}", "logger=csv", tmp=tmp_path)
    names = {type(callback).__name__ for callback in build.build_trainer(config).callbacks}  # type: ignore[attr-defined]
    wanted = {c["_target_"].rsplit(".", 1)[-1] for c in OmegaConf.to_container(config.callbacks).values()}
    assert wanted <= names


@pytest.mark.parametrize(
    ("logger", "classes"),
    [
        ("csv", ["MetricsCSV"]),
        ("wandb", ["MetricsCSV", "Wandb"]),
        ("tensorboard", ["MetricsCSV", "TensorBoard"]),
        ("none", []),
    ],
)
def test_loggers_build(logger: str, classes: list[str], tmp_path: Path) -> None:
    assert logger in options("logger")
    built = build.build_trainer(composed(f"logger={logger}", tmp=tmp_path))
    assert [type(one).__name__ for one in built.loggers] == classes


def test_every_logger_option_is_tested() -> None:
    assert set(options("logger")) == {"csv", "wandb", "tensorboard", "none"}


@pytest.mark.parametrize("dataset", options("dataset"))
def test_datasets_build(dataset: str, tmp_path: Path) -> None:
    if dataset in PUBLISHED:
        getattr(layouts, dataset)(tmp_path)
    (tmp_path / "classes.csv").write_text("id,name\n0,sky\n1,road\n")
    root = [] if dataset == "shapes" else [f"dataset.root={tmp_path}"]
    config = composed(f"dataset={dataset}", *root, "seed=3")
    datamodule = build.build_datamodule(config)
    classes = {"shapes": 6, "folder": 2, "rgbt_glass": 2, "ade20k": 150, "pascal_context": 60, "cityscapes": 19}
    assert len(datamodule.classes) == classes[dataset]
    found = (datamodule.seed, datamodule.crop, datamodule.batch_size)
    assert found == (3, config.dataset.crop, config.dataset.batch_size)
    assert set(build.RECIPE_KEYS) <= set(config.dataset)


def test_numbers_of_the_paper() -> None:
    """Paper, §4.1 and §4.2; window, stride and base sizes as the official code has them."""
    keys = ("crop", "window", "stride", "short_side", "max_ratio", "batch_size", "max_steps", "sgd_lr")
    expected = {
        "ade20k": (512, 512, 512, 512, 4.0, 8, 160_000, 1e-3),
        "pascal_context": (480, 480, 320, 520, 8.0, 16, 80_000, 1e-3),
        "cityscapes": (768, 768, 512, 1024, 2.0, 8, 80_000, 1e-2),
    }
    for name, numbers in expected.items():
        dataset = composed(f"dataset={name}").dataset
        assert tuple(dataset[key] for key in keys) == numbers
        assert (list(dataset.scale), dataset.cat_max_ratio, dataset.photometric) == ([0.5, 2.0], 0.75, True)
        assert (dataset.sampling, dataset.train_images) == ("uniform", None)


@pytest.mark.parametrize("experiment", options("experiment", EXPERIMENTS))
def test_experiments_compose_and_say_what_they_are(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    assert config.name == experiment
    OmegaConf.to_container(config, resolve=True)
    text = (EXPERIMENTS / "experiment" / f"{experiment}.yaml").read_text()
    for heading in ("# Source:", f"# Command: python train.py experiment={experiment}", "# Cost:", "# Expected:"):
        assert heading in text


def test_camvid_recipe_is_the_one_described() -> None:
    config = composed("experiment=camvid_seg_t16_mask", "dataset.root=x")
    dataset, optimizer, schedule = config.dataset, config.optimizer, config.schedule
    assert (dataset.short_side, list(dataset.scale), dataset.crop, dataset.batch_size) == (360, [0.5, 2.0], 256, 8)
    assert (dataset.window, dataset.stride, dataset.cat_max_ratio, dataset.photometric) == (256, 192, 0.75, True)
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (1e-3, 0.9, True)
    assert (config.trainer.max_steps, schedule.power, schedule.floor) == (400, 0.9, 1e-5)
    backbone = config.backbone
    assert (backbone.drop_path_rate, backbone.norm_eps, backbone.final_norm_eps) == (0.1, 1e-5, 1e-5)
    assert (config.decoder.dropout, config.decoder.norm_eps) == (0.1, 1e-5)
    adamw = composed("experiment=camvid_seg_t16_mask_adamw", "dataset.root=x")
    assert (adamw.optimizer.lr, adamw.optimizer.weight_decay) == (3e-4, 0.01)
    assert adamw.schedule == schedule
    different = ("optimizer", "name")
    assert {k: v for k, v in adamw.items() if k not in different} == {
        k: v for k, v in config.items() if k not in different
    }


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict) and "_target_" not in node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(node, dict):
        return  # its constructor refuses keys it does not know
    else:
        yield prefix


def test_every_leaf_outside_constructors_is_read() -> None:
    shared = [SOURCE / "build.py", SOURCE / "report.py", SOURCE / "resume.py"]
    for entry in ("train", "eval"):
        config = OmegaConf.to_container(compose(entry), resolve=False)
        interpolations = OmegaConf.to_yaml(compose(entry, return_hydra_config=True), resolve=False)
        interpolations += "".join(path.read_text() for path in (CONF / "dataset").glob("*.yaml"))
        if entry == "train":
            interpolations += "".join(path.read_text() for path in EXPERIMENTS.rglob("*.yaml"))
        text = "".join(path.read_text() for path in [SOURCE / f"{entry}.py", *shared])
        plain = set(leaves(config)) | {f"dataset.{key}" for key in build.RECIPE_KEYS if entry == "train"}
        read = {
            key
            for key in plain
            if re.search(rf'config\.{key}\b|config\["{key}"\]|"{key}"', text) or f"${{{key}}}" in interpolations
        }
        unread = plain - read
        assert unread == set()


def test_misspelt_keys_and_options_are_refused() -> None:
    with pytest.raises(Exception, match="learning_rate"):
        composed("optimizer.learning_rate=1")
    with pytest.raises(Exception, match=r"(?s)vit_b17.*vit_b16"):
        composed("backbone=vit_b17")
    with pytest.raises(Exception, match="depht"):
        build.build_model(composed("+backbone.depht=1"), num_classes=2)


def run_id(*overrides: str) -> str:
    config = compose("train", overrides=list(overrides), return_hydra_config=True)
    return str(OmegaConf.select(config, "hydra.run.dir"))


def test_run_directory_is_a_function_of_what_changes_numbers() -> None:
    base = run_id()
    assert base == run_id()
    same = ("logger=none", "dataset.num_workers=7", "trainer=cpu", "trainer.enable_progress_bar=false", "logger=wandb")
    assert all(run_id(override) == base for override in same)
    different = (
        "optimizer.lr=0.5",
        "decoder=linear",
        "seed=1",
        "tag=again",
        "trainer.precision=bf16-mixed",
        "compile=true",
    )
    assert len({base, *map(run_id, different)}) == len(different) + 1
    assert run_id("seed=0", "decoder=linear") == run_id("decoder=linear")
    camvid = ("experiment=camvid_seg_t16_mask", "backbone.weights=/here/vit.npz")
    assert run_id(*camvid, "data_root=/a") == run_id(*camvid, "data_root=/b")
    assert run_id(*camvid, "dataset.root=/a/x").split("/")[2] != run_id(*camvid, "dataset.root=/a/y").split("/")[2]
    assert run_id("optimizer.lr=0.5", "decoder=linear") == run_id("decoder=linear", "optimizer.lr=0.5")


def test_overrides_that_spell_out_a_default_find_the_run_under_its_first_name(tmp_path: Path) -> None:
    first = run_id(f"run_root={tmp_path}", "optimizer.lr=0.5")
    Path(first).mkdir(parents=True)
    assert run_id(f"run_root={tmp_path}", "optimizer.lr=0.5", "decoder=mask", "trainer.max_steps=300") == first
    assert run_id(f"run_root={tmp_path}", "optimizer.lr=0.25") != first


def test_run_directory_is_readable_and_fit_for_every_file_system() -> None:
    path = run_id(
        "experiment=camvid_seg_t16_mask", "optimizer.lr=0.5", "dataset.root=/some/where", "+decoder.x='a b=c/d'"
    )
    assert re.fullmatch(r"runs/camvid_seg_t16_mask/[A-Za-z0-9.+_-]+-[0-9a-f]{8}/seed-0", path)
    assert "lr-0.5" in path
    assert len(run_id(f"tag={'long' * 100}").split("/")[2]) <= 120


def test_roots_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTER_RUNS", "/elsewhere")
    monkeypatch.setenv("SEGMENTER_DATA", "/pictures")
    monkeypatch.delenv("CAMVID", raising=False)
    assert run_id().startswith("/elsewhere/shapes/")
    assert composed("experiment=camvid_seg_t16_mask").dataset.root == "/pictures/camvid"
