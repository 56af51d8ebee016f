"""Every published row of a Segmenter has a recipe that is that training, and every recipe has such a row."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch import nn

from segmenter_pl import build, searchpath
from segmenter_pl.data.transforms import CategoryCrop

EXPERIMENTS = files("segmenter_pl.experiments")
AUGREG, DEIT = "augreg_in21k_ft_in1k", "fb_in1k"
BACKBONES = {
    "vit_t16": f"vit_tiny_patch16_384.{AUGREG}",
    "vit_s16": f"vit_small_patch16_384.{AUGREG}",
    "vit_s32": f"vit_small_patch32_384.{AUGREG}",
    "vit_b16": f"vit_base_patch16_384.{AUGREG}",
    "vit_b32": f"vit_base_patch32_384.{AUGREG}",
    "vit_b8": f"vit_base_patch8_224.{AUGREG}",
    "vit_l16": f"vit_large_patch16_384.{AUGREG}",
    "deit_b16": f"deit_base_distilled_patch16_384.{DEIT}",
}
CLASSES = {"ade20k": 150, "pascal_context": 60, "cityscapes": 19, "rgbt_glass": 2}
PREFIXES = {"paper": "", "official_repository": "", "mmsegmentation": "mmseg_", "paddlevit": "paddlevit_"}
# Rows of a leaderboard name no model in the file's own terms; the first four repeat rows of the paper.
LEADERBOARD = {
    ("ade20k", "Seg-B-Mask/16 (MS, ViT-B)"): "ade20k_seg_b16_mask",
    ("ade20k", "Seg-B/8 (MS, ViT-B)"): "ade20k_seg_b8_linear",
    ("ade20k", "Seg-L-Mask/16 (MS, ViT-L)"): "ade20k_seg_l16_mask_640",
    ("pascal_context", "Seg-L-Mask/16"): "pascal_context_seg_l16_mask",
    ("rgbt_glass", "Segmenter"): "rgbt_glass_seg_b16_mask",
}
# Rows of the sweeps are in test_ablations.py, but for the one setting of each that other tables have too.
USUAL = {
    "table2_regularization": "dropout=0.0;stochastic_depth=0.1",
    "table5_dataset_size": "train_images=20000",
    "table9_pretraining": "pretraining=imagenet21k;optimizer=sgd",
    "section4_2": "weights=AugReg",
}
# Crop, window, stride, short side, longest aspect ratio, batch, steps, rate: paper §4.1, official config §2.
RECIPES = {
    "ade20k": (512, 512, 512, 512, 4.0, 8, 160_000, 1e-3),
    "pascal_context": (480, 480, 320, 520, 8.0, 16, 80_000, 1e-3),
    "cityscapes": (768, 768, 512, 1024, 2.0, 8, 80_000, 1e-2),
    "640": (640, 640, 640, 640, 4.0, 8, 160_000, 1e-3),
    "mmseg": (512, 512, 480, 512, 4.0, 8, 160_000, 1e-3),
    "mmseg_640": (640, 640, 608, 640, 4.0, 8, 160_000, 1e-3),
    "paddlevit": (512, 512, 512, 512, 4.0, 16, 160_000, 1e-3),
}


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@cache
def composed(*overrides: str) -> DictConfig:
    return compose("train", overrides=["backbone.pretrained=false", *overrides])


@cache
def model(*overrides: str) -> Any:
    config = composed(*overrides)
    with torch.device("meta"):
        return build.build_model(config, CLASSES[config.dataset.name])


def published() -> list[dict[str, str]]:
    """The rows of Segmenters; those of other methods have no decoder of ours."""
    rows = list(csv.DictReader((EXPERIMENTS / "published_results.csv").read_text(encoding="utf-8").splitlines()))
    ours = [row for row in rows if row["decoder"] in ("linear", "mask") or row["source"] == "benchmarks_page"]
    assert not any(row["method"].startswith("Seg") for row in rows if row not in ours)
    return ours


def recipe_of(row: dict[str, str]) -> str | None:
    if row["source"] == "benchmarks_page":
        return LEADERBOARD[row["dataset"], row["method"]]
    if row["table"] in USUAL and row["setting"] != USUAL[row["table"]]:
        return None
    prefix = PREFIXES[row["source"]]
    large = "_640" if "640x640" in row["setting"] and not prefix else ""
    return f"{prefix}{row['dataset']}_seg_{row['backbone'].removeprefix('vit_')}_{row['decoder']}{large}"


def names() -> list[str]:
    found = (path.name for path in (EXPERIMENTS / "experiment").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if not name.startswith("camvid"))


def test_the_packaged_numbers_are_the_published_ones(assets: Path) -> None:
    packaged = (EXPERIMENTS / "published_results.csv").read_text(encoding="utf-8")
    assert packaged == (assets / "docs/published_results.csv").read_text(encoding="utf-8")


def test_every_row_has_a_recipe_and_every_recipe_a_row() -> None:
    assert {recipe_of(row) for row in published()} - {None} == set(names())


@pytest.mark.parametrize("name", names())
def test_recipe_is_the_published_training(name: str) -> None:
    rows = [row for row in published() if recipe_of(row) == name]
    config, built = composed(f"experiment={name}"), model(f"experiment={name}")
    assert {row["dataset"] for row in rows} == {config.dataset.name}
    for row in rows:
        if row["backbone"]:
            assert config.backbone.model_name == BACKBONES[row["backbone"]]
            assert built.encoder.patch_size == int(row["patch_size"])
            assert type(built.decoder).__name__.lower() == f"{row['decoder']}decoder"
        assert set(re.findall(r"\d{3}x\d{3}", row["setting"])) <= {f"{config.dataset.crop}x{config.dataset.crop}"}
    large = any("640x640" in row["setting"] for row in rows)
    whose = [one for one in ("mmseg", "paddlevit") if name.startswith(one)] + ["640"] * large
    if config.dataset.name != "rgbt_glass":  # nothing is published about its training
        keys = ("crop", "window", "stride", "short_side", "max_ratio", "batch_size", "max_steps", "sgd_lr")
        expected = RECIPES["_".join(whose) or config.dataset.name]
        assert tuple(config.dataset[key] for key in keys) == expected
    assert (config.trainer.max_steps, config.optimizer.lr) == (config.dataset.max_steps, config.dataset.sgd_lr)
    assert (config.optimizer.momentum, config.optimizer.weight_decay, config.schedule.power) == (0.9, 0.0, 0.9)
    assert (config.schedule.warmup_steps, config.backbone.dropout) == (0, 0.0)
    if hasattr(built.decoder, "blocks"):
        assert len(built.decoder.blocks) == (1 if name == "cityscapes_seg_l16_mask" else 2)


def test_header_and_table_have_all_published_numbers() -> None:
    table = (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines()
    for name in names():
        text = (EXPERIMENTS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
        header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
        (line,) = (line for line in table if line.startswith(f"| `{name}` |"))
        for row in published():
            if recipe_of(row) == name:
                assert f" {row['value']}" in header, (name, row)
                if row["metric"] in ("miou_ss", "miou_ms", "mae", "params_millions"):
                    assert f" {row['value']}" in line, (name, row)


# Recipe, ImageNet classifiers that the official files carry along, counted in them, published (millions).
OFFICIAL_COUNTS = [
    ("ade20k_seg_t16_mask", 1, 6.91, "7"),
    ("ade20k_seg_s16_mask", 1, 26.42, "27"),
    ("ade20k_seg_b16_mask", 1, 103.27, "106"),
    ("ade20k_seg_deit_b16_linear", 2, 88.09, "87"),
    ("ade20k_seg_deit_b16_mask", 2, 104.04, "106"),
    ("ade20k_seg_b8_linear", 1, 89.24, "89"),
    ("ade20k_seg_l16_mask_640", 1, 334.26, "334"),
    ("pascal_context_seg_l16_mask", 1, 333.45, "334"),
    ("cityscapes_seg_l16_mask", 1, 322.25, "322"),
]


def parameters(name: str) -> int:
    return sum(p.numel() for p in model(f"experiment={name}").parameters())


@pytest.mark.parametrize(("name", "heads", "counted", "rounded"), OFFICIAL_COUNTS)
def test_parameters_are_those_of_the_official_files(name: str, heads: int, counted: float, rounded: str) -> None:
    unused = heads * 1000 * (model(f"experiment={name}").encoder.width + 1)
    assert round((parameters(name) + unused) / 1e6, 2) == counted
    rows = [row for row in published() if recipe_of(row) == name and row["metric"] == "params_millions"]
    assert [row["value"] for row in rows] == [rounded]


def test_the_table_above_has_every_published_count() -> None:
    rows = [row for row in published() if row["metric"] == "params_millions"]
    assert sorted(str(recipe_of(row)) for row in rows) == sorted(name for name, *_ in OFFICIAL_COUNTS)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("t16_mask", 6.713), ("s16_linear", 22.041), ("s16_mask", 26.034), ("b16_mask", 102.497), ("l16_mask", 333.233)],
)
def test_parameters_are_those_of_mmsegmentation(name: str, millions: float) -> None:
    """Counted in its version 1, which has lost the bias of the patch embedding."""
    built = model(f"experiment=mmseg_ade20k_seg_{name}", "backbone.patch_bias=false")
    assert round(sum(p.numel() for p in built.parameters()) / 1e6, 3) == millions
    assert parameters(f"mmseg_ade20k_seg_{name}") == sum(p.numel() for p in built.parameters()) + built.encoder.width


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("paddlevit_ade20k_seg_t16_mask", 6_713_388),
        ("paddlevit_ade20k_seg_s16_mask", 26_033_964),
        ("paddlevit_ade20k_seg_b16_mask", 102_497_580),
        ("paddlevit_ade20k_seg_deit_b16_mask", 102_499_116),
        ("paddlevit_ade20k_seg_deit_b16_linear", 86_551_446),
        ("ade20k_seg_l16_mask", 332_644_652),
        ("pascal_context_seg_l16_mask", 332_425_336),
    ],
)
def test_parameters_are_those_of_paddlevit(name: str, counted: int) -> None:
    assert parameters(name) == counted


def epsilons(module: nn.Module) -> set[float]:
    return {one.eps for one in module.modules() if isinstance(one, nn.LayerNorm)}


@pytest.mark.parametrize(
    ("name", "encoder_blocks", "encoder_norm", "decoder_blocks", "decoder_norms"),
    [
        ("ade20k_seg_t16_mask", 1e-5, 1e-5, 1e-5, 1e-5),
        ("mmseg_ade20k_seg_t16_mask", 1e-6, 1e-6, 1e-5, 1e-5),
        ("paddlevit_ade20k_seg_t16_mask", 1e-6, 1e-5, 1e-6, 1e-5),
    ],
)
def test_layer_norms_of_the_three_trainings(
    name: str, encoder_blocks: float, encoder_norm: float, decoder_blocks: float, decoder_norms: float
) -> None:
    built = model(f"experiment={name}")
    assert epsilons(built.encoder.vit.blocks) == {encoder_blocks}
    assert built.encoder.vit.norm.eps == encoder_norm
    assert epsilons(built.decoder.blocks) == {decoder_blocks}
    assert {built.decoder.decoder_norm.eps, built.decoder.mask_norm.eps} == {decoder_norms}


def test_what_the_three_trainings_differ_in() -> None:
    def facts(name: str) -> tuple[Any, ...]:
        config = composed(f"experiment={name}")
        backbone, decoder = config.backbone, config.decoder
        return (
            *(config.optimizer.nesterov, config.schedule.floor, config.decoder_lr_scale),
            *(config.trainer.gradient_clip_val, config.dataset.cat_max_ratio, config.dataset.photometric),
            *(backbone.position_mode, backbone.drop_path_rate, backbone.patch_bias),
            *(decoder.get("dropout"), decoder.get("drop_path_rate")),
        )

    official = (True, 1e-5, 1.0, None, 0.75, True, "bilinear", 0.1, True)
    mmseg = (False, 1e-4, 1.0, None, 0.75, True, "bicubic", 0.1, True)
    paddlevit = (False, 1e-4, 10.0, 1.0, 1.0, True, "bilinear", 0.0, True)
    for name in names():
        training = {"mmseg": (mmseg, 0.0, 0.1), "paddlevit": (paddlevit, 0.0, 0.0)}.get(name.split("_")[0])
        keys, *rates = training or (official, 0.1, 0.0)
        assert facts(name) == (*keys, *(rates if name.split("_mask")[0] != name else (None, None))), name


def test_a_training_can_be_put_to_any_other_model() -> None:
    config = composed("experiment=cityscapes_seg_l16_mask", "recipe=mmseg")
    assert (config.dataset.crop, config.optimizer.lr, config.schedule.floor) == (768, 1e-2, 1e-4)
    assert (config.decoder.depth, config.decoder.dropout, config.decoder.drop_path_rate) == (1, 0.0, 0.1)
    config = composed("recipe=paddlevit", "optimizer=adamw", "decoder=linear")
    assert (config.optimizer._target_, config.trainer.gradient_clip_val) == ("torch.optim.AdamW", 1.0)


@pytest.mark.parametrize(("ratio", "tries"), [(0.75, 11), (1.0, 1)])
def test_a_ratio_of_one_takes_crops_as_they_come(ratio: float, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = CategoryCrop._draw
    monkeypatch.setattr(CategoryCrop, "_draw", lambda *args: drawn.append(1) or draw(*args))
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)  # one class: no crop is good
    CategoryCrop(16, ratio)(image=image, mask=mask)
    assert len(drawn) == tries
