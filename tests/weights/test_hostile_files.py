"""Files that would run code, fill the memory, or are something else: refused with the reason, and nothing runs."""

import json
import os
import pickle
import resource
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from segmenter_pl import load_segmenter, save_pretrained
from segmenter_pl.export.convert import convert
from segmenter_pl.models import ViTEncoder
from tests.foreign import Shape, mmseg_state, official_state, paddle_arrays, write_mmseg, write_official

TINY = {"image_size": 8, "patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 1}
S = Shape(width=32, depth=1, patch=4, grid=2, classes=3)


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No file may make us touch gigabytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def refused(path: Path, reason: str, error: type[Exception] = ValueError) -> None:
    """Both ways in refuse it, in one short paragraph that names it."""

    def as_model() -> object:
        return load_segmenter(path)

    def as_encoder() -> object:
        return ViTEncoder("vit_tiny_patch16_224", **TINY, weights=str(path))

    for load in (as_model, as_encoder):
        with pytest.raises(error, match=reason) as caught:
            load()
        assert type(caught.value) is error
        assert path.name in str(caught.value)
        assert len(str(caught.value)) < 700 + len(str(path))


class Runs:
    """Unpickling it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def attacks(marker: Path) -> dict[str, Any]:
    return {
        "system": Runs(os.system, f"touch {marker}"),
        "eval": Runs(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Runs(exec, f"open({str(marker)!r}, 'w')"),
        "getattr": Runs(getattr, os.system, "__call__"),
        "popen": Runs(__import__("subprocess").Popen, ["touch", str(marker)]),
        "load": Runs(torch.load, str(marker)),
        "torch": Runs(torch.hub.load, "somebody/something", "model"),
        "numpy": Runs(np.load, str(marker)),
        "objects": np.array([Runs(os.system, f"touch {marker}")], dtype=object),
        "pathlib": Runs(Path.touch, marker),
    }


HARMLESS = {"numpy"}  # packages of which training frameworks leave objects: never called, so only no model


@pytest.mark.parametrize("name", list(attacks(Path())))
@pytest.mark.parametrize("container", ["torch", "old torch", "paddle"])
def test_pickles_that_run_code(tmp_path: Path, name: str, container: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    attack = attacks(marker)[name]
    if container == "paddle":
        path.write_bytes(pickle.dumps({**paddle_arrays(S), "extra": attack}))
        refused(path, "refused")
    else:
        content = {"state_dict": {"head": attack}, "meta": attack}
        torch.save(content, path, _use_new_zipfile_serialization=container == "torch")
        refused(
            path, "no checkpoint of a segmenter|does not fit" if name in HARMLESS else "refused global|not callable"
        )
    assert not marker.exists()


def test_objects_beside_good_weights(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name in ("system", "eval", "exec", "popen"):
        path = write_mmseg(tmp_path / f"{name}.pth", S, optimizer={"state": attacks(marker)[name]})
        refused(path, "refused global")
    for name in HARMLESS:  # not called, and not needed
        load_segmenter(write_mmseg(tmp_path / f"{name}.pth", S, optimizer={"state": attacks(marker)[name]}))
    assert not marker.exists()


def test_raw_pickles_and_build_instructions(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    programs = {
        "global": b"\x80\x04cos\nsystem\nX" + struct.pack("<I", 40) + f"touch {marker}".encode().ljust(40) + b"\x85R.",
        "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        "instance": b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
        "huge": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"abc",
    }
    for name, program in programs.items():
        path = tmp_path / f"{name}.pdparams"
        path.write_bytes(program)
        refused(path, "cannot be read as a checkpoint")
    assert not marker.exists()


def test_containers_that_hold_themselves(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": mmseg_state(S)}
    content["again"] = [content] * 100
    for _ in range(20):
        content["again"] = [content["again"]] * 100
    torch.save(content, tmp_path / "cyclic.pth")
    load_segmenter(tmp_path / "cyclic.pth")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch MARKER']",
        "net_kwargs: !!python/object/apply:os.system ['touch MARKER']",
        "net_kwargs: !!python/name:os.system",
        "net_kwargs: !!python/object/new:os.system ['touch MARKER']",
        "net_kwargs: !!python/tuple 3",
        "net_kwargs: [1",
        "- 1",
        "",
        "\x00",
        "[" * 20_000,
        "a: &a [1]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nnet_kwargs: {decoder: *c}",
    ],
)
def test_variant_files(tmp_path: Path, text: str) -> None:
    folder, marker = write_official(tmp_path / "m", S), tmp_path / "marker"
    (folder / "variant.yml").write_text(text.replace("MARKER", str(marker)))
    with pytest.raises(ValueError, match=r"variant\.yml does not describe a Segmenter") as caught:
        load_segmenter(folder)
    assert len(str(caught.value)) < 700
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"d_model": 10**9}, "claims width 1000000000"),
        ({"n_layers": 10**7}, "claims depth 10000000"),
        ({"patch_size": -1}, "claims patch -1"),
        ({"n_cls": 0}, "claims classes 0"),
        ({"image_size": [10**6, 10**6]}, "does not fit the model"),
        ({"image_size": [8]}, "one or two whole numbers"),
        ({"image_size": "88"}, "one or two whole numbers"),
        ({"n_heads": 5}, "cannot be built|make no model"),
        ({"n_heads": 0}, "cannot be built|make no model"),
        ({"drop_path_rate": "much"}, "cannot be built|make no model"),
        ({"dropout": 3}, "make no model|between 0 and 1"),
        (
            {"decoder": {"name": "mask_transformer", "n_layers": 99, "dropout": 0, "drop_path_rate": 0}},
            "claims decoder",
        ),
        ({"decoder": {"name": ["linear"] * 9}}, "neither linear nor"),
        ({"decoder": {"name": "linear"}}, "unexpected: decoder"),
    ],
)
def test_settings_that_make_no_model(tmp_path: Path, changes: dict, reason: str) -> None:
    folder = write_official(tmp_path / "m", S, variant=changes)
    with pytest.raises(ValueError, match=reason):
        load_segmenter(folder)


@pytest.mark.parametrize("value", [0, -1, 10**9, "48", None, 1.5, [8]])
def test_windows_that_cannot_be(tmp_path: Path, value: Any) -> None:
    folder = write_official(tmp_path / "m", S, window_size=value)
    with pytest.raises(ValueError, match="window, stride and short side cannot be"):
        load_segmenter(folder)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    save_pretrained(load_segmenter(write_official(tmp_path / "official", S)), tmp_path / "export")
    return tmp_path / "export"


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (("config", "backbone", "_target_"), "os.system", r"backbone\._target_='os\.system' is not one of"),
        (("config", "decoder", "_target_"), "segmenter_pl.export.convert.convert", r"decoder\._target_="),
        (("config", "decoder", "_target_"), ["os.system"], r"decoder\._target_="),
        (("config", "backbone", "model_name"), "hf-hub:somebody/something", "is unknown to timm"),
        (("config", "backbone", "model_name"), "local-dir:/somewhere", "is unknown to timm"),
        (("config", "backbone", "model_name"), "resnet18", "cannot be built as a plain ViT|is no plain ViT"),
        (("config", "backbone", "model_name"), "vit_giant_patch14_224", "does not fit the model"),
        (("config", "backbone", "depth"), 10**8, "claims depth"),
        (("config", "backbone", "embed_dim"), 10**12, "make no model|does not fit|cannot be built"),
        (("config", "backbone", "block_fn"), "os.system", "cannot be built|make no model"),
        (("config", "backbone", "nonsense"), 1, "nonsense"),
        (("config", "decoder", "nonsense"), 1, "nonsense"),
        (("config", "backbone"), [], "make no model|does not describe"),
        (("config",), None, "does not describe its model"),
        (("classes",), ["a"] * 4, "does not fit the model"),
        (("num_classes",), 10**30, "claims classes"),
        (("palette",), [[0, 0, 0]], "1 palette for 3 outputs"),
        (("palette",), [[0, 0, 300]] * 3, "no colours"),
        (("ignore_index",), "many", "no whole number"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "checkpoint"])
def test_descriptions_that_name_something_else(
    exported: Path, tmp_path: Path, keys: tuple[str, ...], value: Any, reason: str, kind: str
) -> None:
    info = json.loads((exported / "config.json").read_text())
    place = info
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (exported / "config.json").write_text(json.dumps(info))
    path = exported
    if kind == "checkpoint":
        path = tmp_path / "best.ckpt"
        state = {f"model.{name}": value for name, value in load_file(exported / "model.safetensors").items()}
        torch.save({"segmenter": info, "state_dict": state}, path)
    with pytest.raises(ValueError, match=reason) as caught:
        load_segmenter(path)
    assert path.name in str(caught.value)


def test_nothing_is_fetched_or_read_for_what_a_checkpoint_says(exported: Path, tmp_path: Path) -> None:
    info = json.loads((exported / "config.json").read_text())
    info["config"]["backbone"] |= {"pretrained": True, "weights": str(tmp_path / "nowhere.pth")}
    info["config"]["backbone"] |= {"checkpoint_path": str(tmp_path / "nowhere.pth")}
    (exported / "config.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="checkpoint_path"):
        load_segmenter(exported)
    del info["config"]["backbone"]["checkpoint_path"]
    (exported / "config.json").write_text(json.dumps(info))
    load_segmenter(exported)


def test_other_things_than_checkpoints(tmp_path: Path) -> None:
    contents = {
        "empty.pth": b"",
        "page.pth": b"<!DOCTYPE html><html><body>404</body></html>",
        "noise.pth": np.random.default_rng(0).bytes(10_000),
        "keras.h5": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "text.safetensors": b"hello",
        "list.pdparams": pickle.dumps([1, 2]),
        "number.pdparams": pickle.dumps(3),
        "pointer.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "cannot be read as a checkpoint")
    refused(tmp_path / "nowhere.pth", "does not exist", FileNotFoundError)
    resnet = {"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.bn1.num_batches_tracked": torch.tensor(0)}
    torch.save(resnet, tmp_path / "resnet.pth")
    refused(tmp_path / "resnet.pth", "no checkpoint of a segmenter|does not fit the model")
    segformer = {"state_dict": {"backbone.layers.0.0.projection.weight": torch.zeros(8, 3, 7, 7)}}
    torch.save(segformer, tmp_path / "segformer.pth")
    refused(tmp_path / "segformer.pth", "no checkpoint of a segmenter|does not fit the model")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "holds a list, not tensors by name")
    for kind in ({}, {"model": {}}, {"state_dict": {}}):
        torch.save(kind, tmp_path / "bare.pth")
        refused(tmp_path / "bare.pth", "no checkpoint of a segmenter|does not fit the model")


def test_files_that_are_cut_off(tmp_path: Path, exported: Path) -> None:
    convert(exported, tmp_path / "best.ckpt", "ours")
    files = {
        write_mmseg(tmp_path / "m.pth", S): None,
        tmp_path / "best.ckpt": None,
        exported / "model.safetensors": exported,
        tmp_path / "official/checkpoint.pth": tmp_path / "official",
    }
    for file, given in files.items():
        whole = file.read_bytes()
        for length in {*range(0, 64, 9), *np.linspace(64, len(whole) - 1, 25).astype(int).tolist()}:
            file.unlink()
            file.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
                load_segmenter(given or file)


def zeros_npz(path: Path, shape: tuple[int, ...], stored: int) -> None:
    """An array that claims a shape, deflated; `stored` zeros are there."""
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cls.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4 * stored))


def test_bombs(tmp_path: Path) -> None:
    zeros_npz(tmp_path / "deflated.npz", (50_000_000,), 50_000_000)
    refused(tmp_path / "deflated.npz", "more than a hundred times its size")
    for name, side in (("tera", 10**12), ("giga", 10**10)):
        zeros_npz(tmp_path / f"{name}.npz", (side,), 10)
        refused(tmp_path / f"{name}.npz", "cannot be read as a checkpoint")
    header = json.dumps({"cls_token": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(tmp_path / "huge.safetensors", "cannot be read as a checkpoint")
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    refused(tmp_path / "header.safetensors", "cannot be read as a checkpoint")
    claims = mmseg_state(S) | {"backbone.pos_embed": torch.zeros(1).expand(1, 1 << 40, 32)}
    refused(write_mmseg(tmp_path / "stride.pth", S, state_dict=claims), "its tensors claim")
    path = tmp_path / "wide.pth"
    wide = {**mmseg_state(S), "backbone.cls_token": torch.zeros(1, 1, 1).expand(1, 1, 9000)}
    refused(write_mmseg(path, S, state_dict=wide), "claims width 9000|does not fit")
    many = {f"backbone.layers.{k}.ln1.weight": torch.zeros(1) for k in range(400)}
    refused(write_mmseg(path, S, state_dict={**mmseg_state(S), **many}), "claims depth 400|does not fit")


def test_arrays_that_are_pickles(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    np.savez(tmp_path / "objects.npz", cls=np.array([Runs(os.system, f"touch {marker}")], dtype=object))
    refused(tmp_path / "objects.npz", "Object arrays cannot be loaded")
    assert not marker.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    state = mmseg_state(S)
    state["backbone.layers.0.ffn.layers.1.bias"][3] = value
    with pytest.raises(ValueError, match=r"not finite in 1 of \d+ tensors, the first is .*blocks\.0\.mlp\.fc2\.bias"):
        load_segmenter(write_mmseg(tmp_path / "m.pth", S, state_dict=state))
    encoder = {k.removeprefix("encoder."): v for k, v in official_state(S).items() if k.startswith("encoder.")}
    encoder["pos_embed"][0, 1] = value
    save_file(encoder, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*not finite .* pos_embed"):
        ViTEncoder(
            "vit_tiny_patch16_224", image_size=12, patch_size=4, embed_dim=32, depth=1, num_heads=1,
            weights=str(tmp_path / "m.safetensors"),
        )  # fmt: skip


def test_archives_that_were_packed_anew(tmp_path: Path) -> None:
    """Mapped as they are, compressed tensors would be noise, some of it finite."""
    write_mmseg(tmp_path / "m.pth", S)
    packed = zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "m.pth") as plain, packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    refused(tmp_path / "packed.pth", "its entries are compressed")
