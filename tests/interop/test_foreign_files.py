"""Files of MMSegmentation and PaddleViT as their writers leave them: what is read, what is not looked at."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from segmenter_pl import load_segmenter
from tests.foreign import Shape, mmseg_state, official_state, write_mmseg, write_official, write_paddle

S = Shape()
NAMES = ["wall ", "sky", "tree", "road", "car"]
COLORS = [[k, 2 * k, 255 - k] for k in range(5)]


def same_tensors(path: Path, shape: Shape) -> None:
    """The model holds exactly the tensors that the official code has for these values."""
    model = load_segmenter(path)
    expected = {k.replace("encoder.", "encoder.vit."): v for k, v in official_state(shape, heads=False).items()}
    assert model.state_dict().keys() == expected.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("decoder_depth", [0, 1, 3])
@pytest.mark.parametrize("patch_bias", [True, False])
@pytest.mark.parametrize(("depth", "patch", "width"), [(2, 8, 64), (3, 16, 128), (12, 4, 64)])
def test_mmsegmentation_tensors(
    tmp_path: Path, decoder_depth: int, patch_bias: bool, depth: int, patch: int, width: int
) -> None:
    shape = Shape(width, depth, patch, decoder_depth=decoder_depth, patch_bias=patch_bias)
    same_tensors(write_mmseg(tmp_path / "epoch.pth", shape), shape)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("largest", [None, 1000])
@pytest.mark.parametrize("shape", [S, Shape(decoder_depth=0), Shape(distilled=True), Shape(distilled=True, depth=3)])
def test_paddlevit_tensors(tmp_path: Path, protocol: int, largest: int | None, shape: Shape) -> None:
    same_tensors(write_paddle(tmp_path / "any.name", shape, protocol=protocol, largest=largest), shape)


@pytest.mark.parametrize("shape", [S, Shape(decoder_depth=0, patch=32), Shape(distilled=True, decoder_depth=2)])
@pytest.mark.parametrize("zipped", [True, False])
def test_official_tensors_in_new_and_old_files(tmp_path: Path, shape: Shape, zipped: bool) -> None:
    file = write_official(tmp_path, shape) / "checkpoint.pth"
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=zipped)
    same_tensors(file, shape)


def test_official_tables_need_not_be_square(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "m", S, variant={"image_size": [24, 40]})
    content = torch.load(folder / "checkpoint.pth", weights_only=True)
    content["model"]["encoder.pos_embed"] = torch.randn(1, 1 + 3 * 5, 64)
    torch.save(content, folder / "checkpoint.pth")
    model = load_segmenter(folder)
    assert model.encoder.vit.patch_embed.grid_size == (3, 5)
    assert torch.equal(model.encoder.position_table((3, 5)), content["model"]["encoder.pos_embed"])


@pytest.fixture
def mmengine_object() -> object:
    """As `message_hub` holds them: a class of a package that is not here, with NumPy numbers in it."""
    module = ModuleType("mmengine.logging.history_buffer")

    def current(self: object) -> None: ...

    current.__module__, current.__qualname__ = module.__name__, "HistoryBuffer.current"
    kind = type("HistoryBuffer", (), {"__module__": module.__name__, "current": current})
    module.HistoryBuffer = kind  # type: ignore[attr-defined]
    modules = {"mmengine": ModuleType("mmengine"), "mmengine.logging": ModuleType("mmengine.logging")}
    sys.modules.update({**modules, module.__name__: module})
    one = kind()
    one.__dict__ |= {"_log_history": np.arange(3.0), "last": np.float64(0.5), "max_length": np.int64(4)}
    one.__dict__["statistics_methods"] = OrderedDict(current=kind.current)  # type: ignore[attr-defined]
    yield one
    for name in (*modules, module.__name__):
        del sys.modules[name]


@pytest.mark.parametrize("zipped", [True, False])
def test_optimizer_history_and_settings_are_not_looked_at(
    tmp_path: Path, mmengine_object: object, zipped: bool
) -> None:
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(9)}}, "param_groups": [{"lr": np.float64(0.1)}]}
    hub = {"log_scalars": {"train/loss": mmengine_object}, "runtime_info": {"iter": np.int64(9), "seed": 1}}
    meta = {"cfg": "model = dict(type='EncoderDecoder')\n", "seed": np.int64(3), "time": "20220105"}
    content = {"meta": meta, "state_dict": mmseg_state(S), "optimizer": optimizer, "message_hub": hub}
    torch.save(content, tmp_path / "iter.pth", _use_new_zipfile_serialization=zipped)
    for name in [name for name in sys.modules if name.startswith("mmengine")]:
        sys.modules[name] = None  # type: ignore[assignment] # an import would fail
    same_tensors(tmp_path / "iter.pth", S)


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": {"classes": NAMES, "palette": COLORS}},
        {"dataset_meta": {"classes": tuple(NAMES), "palette": tuple(map(tuple, COLORS))}},
        {"CLASSES": tuple(NAMES), "PALETTE": COLORS, "mmseg_version": "0.20.0"},
    ],
)
def test_class_names_and_colours_of_mmsegmentation(tmp_path: Path, meta: dict) -> None:
    spec = load_segmenter(write_mmseg(tmp_path / "m.pth", S, meta=meta)).spec
    assert spec is not None
    assert spec.classes == ("wall", "sky", "tree", "road", "car")
    assert spec.palette == tuple(map(tuple, COLORS))


@pytest.mark.parametrize("meta", [{}, None, {"CLASSES": None}, {"dataset_meta": {"classes": NAMES[:3]}}])
def test_without_fitting_names_there_are_none(tmp_path: Path, meta: object) -> None:
    spec = load_segmenter(write_mmseg(tmp_path / "m.pth", S, meta=meta)).spec
    assert spec is not None
    assert (spec.classes, spec.palette) == (None, None)


def test_names_that_are_no_segmenters_are_listed(tmp_path: Path) -> None:
    state = mmseg_state(S) | {
        "auxiliary_head.conv_seg.weight": torch.zeros(5, 64, 1, 1),
        "backbone.extra": torch.ones(1),
    }
    file = write_mmseg(tmp_path / "m.pth", S, state_dict=state)
    with pytest.raises(ValueError, match=r"m\.pth: .*auxiliary_head\.conv_seg\.weight, backbone\.extra"):
        load_segmenter(file)
    del state["auxiliary_head.conv_seg.weight"], state["backbone.extra"], state["decode_head.layers.0.ln2.bias"]
    with pytest.raises(ValueError, match=r"missing: decoder\.blocks\.0\.norm2\.bias"):
        load_segmenter(write_mmseg(file, S, state_dict=state))
    state["decode_head.layers.0.ln2.bias"] = torch.zeros(63)
    with pytest.raises(ValueError, match=r"wrong shape: decoder\.blocks\.0\.norm2\.bias \(63,\), .* \(64,\)"):
        load_segmenter(write_mmseg(file, S, state_dict=state))


def test_wrong_numbers_of_classes_and_positions(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "m", S, variant={"n_cls": 6})
    with pytest.raises(ValueError, match=r"decoder\.cls_emb \(1, 5, 64\), the model has \(1, 6, 64\)"):
        load_segmenter(folder)
    state = mmseg_state(S) | {"backbone.pos_embed": torch.zeros(1, 12, 64)}
    with pytest.raises(ValueError, match="positions for 11 patches, which is no square grid"):
        load_segmenter(write_mmseg(tmp_path / "m.pth", S, state_dict=state))
