"""Schedules against their formulas, parameter groups against their rule."""

import math

import pytest
import torch

from segmenter_pl import create_segmenter
from segmenter_pl.optim import cosine, parameter_groups, polynomial


def rates(schedule_of, steps: int, lr: float = 0.1, **settings: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = schedule_of(optimizer, steps, **settings)
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_polynomial_is_the_papers_with_the_official_floor() -> None:
    floor, steps = 1e-5, 400
    expected = [(1e-3 - floor) * (1 - t / steps) ** 0.9 + floor for t in range(steps + 1)]
    assert rates(polynomial, steps, lr=1e-3, power=0.9, floor=floor) == pytest.approx(expected, rel=1e-12)


def test_cosine() -> None:
    expected = [0.01 + 0.09 * 0.5 * (1 + math.cos(math.pi * t / 50)) for t in range(51)]
    assert rates(cosine, 50, floor=0.01) == pytest.approx(expected, rel=1e-12)


def test_warmup_rises_linearly_to_the_decays_own_value() -> None:
    seen = rates(polynomial, 100, power=0.9, floor=0.0, warmup_steps=10)
    target = 0.1 * 0.9**0.9
    assert seen[:10] == pytest.approx([target * (t + 1) / 11 for t in range(10)])
    assert seen[10] == pytest.approx(target)
    assert seen[60] == pytest.approx(0.1 * 0.4**0.9)


def test_warmup_must_end_before_training_does() -> None:
    with pytest.raises(ValueError, match=r"schedule.warmup_steps=30.*trainer.max_steps=20"):
        rates(cosine, 20, warmup_steps=30)


def test_groups_keep_their_ratio_down_to_the_floor() -> None:
    """PaddleViT: Paddle multiplies a parameter's coefficient into the scheduled rate, 1e-3 down to 1e-4."""
    model = create_segmenter("vit_micro", "mask", num_classes=5, image_size=64)
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.0, decoder_lr_scale=10)
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    schedule = polynomial(optimizer, 10, floor=1e-4)
    for step in range(11):
        scheduled = (1e-3 - 1e-4) * (1 - step / 10) ** 0.9 + 1e-4
        found = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert found == pytest.approx({"encoder": scheduled, "decoder": 10 * scheduled}, rel=1e-12)
        optimizer.step()
        schedule.step()


def test_groups_hold_every_parameter_once_and_decay_matrices_only() -> None:
    model = create_segmenter("vit_micro", "mask", num_classes=5, image_size=64)
    groups = {group["name"]: group for group in parameter_groups(model, lr=1.0, weight_decay=0.1, decoder_lr_scale=10)}
    assert set(groups) == {"encoder", "encoder_no_decay", "decoder", "decoder_no_decay"}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [names[id(p)] for group in groups.values() for p in group["params"]]
    assert sorted(held) == sorted(names.values())
    undecayed = {names[id(p)] for key in ("encoder_no_decay", "decoder_no_decay") for p in groups[key]["params"]}
    vectors = {name for name, p in model.named_parameters() if p.ndim < 2}
    assert undecayed == vectors | {"encoder.vit.cls_token", "encoder.vit.pos_embed", "decoder.cls_emb"}
    assert (groups["encoder"]["weight_decay"], groups["encoder_no_decay"]["weight_decay"]) == (0.1, 0.0)
    assert (groups["encoder"]["lr"], groups["decoder"]["lr"]) == (1.0, 10.0)


def test_frozen_parameters_are_left_out() -> None:
    model = create_segmenter("vit_micro", "linear", num_classes=5, image_size=64)
    model.encoder.requires_grad_(False)
    assert {g["name"] for g in parameter_groups(model, lr=1.0, weight_decay=0.1)} == {"decoder", "decoder_no_decay"}


def test_layer_decay_falls_from_the_last_block_to_the_embedding() -> None:
    model = create_segmenter("vit_micro", "mask", num_classes=5, image_size=64)
    depth = len(model.encoder.vit.blocks)
    settings = {"lr": 0.1, "weight_decay": 0.05, "decoder_lr_scale": 2.0, "layer_decay": 0.5}
    groups = parameter_groups(model, **settings)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    expected = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if parts[0] == "decoder":
            expected[id(parameter)] = 0.2
        elif "blocks" in parts:
            expected[id(parameter)] = 0.1 * 0.5 ** (depth - 1 - int(parts[parts.index("blocks") + 1]))
        else:
            expected[id(parameter)] = 0.1 if "norm" in parts else 0.1 * 0.5**depth
    assert rate == pytest.approx(expected)
    assert len({group["name"] for group in groups}) == len(groups)
    same = parameter_groups(model, lr=0.1, weight_decay=0.05, layer_decay=1.0)
    assert [group["name"] for group in same] == ["encoder_no_decay", "encoder", "decoder_no_decay", "decoder"]


@pytest.mark.parametrize("layer_decay", [0, -0.5, 1.01])
def test_senseless_layer_decay_is_named(layer_decay: float) -> None:
    model = create_segmenter("vit_micro", "linear", num_classes=2, image_size=64)
    with pytest.raises(ValueError, match=rf"layer_decay={layer_decay}: give a number above 0 and up to 1"):
        parameter_groups(model, lr=0.1, weight_decay=0.0, layer_decay=layer_decay)
