"""Graphs of models, read back by the runtimes themselves and compared with plain PyTorch at many sizes."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from segmenter_pl import create_segmenter, load_segmenter
from segmenter_pl.export import graphs
from segmenter_pl.export.graphs import Format, export_graph
from segmenter_pl.export.portable import Portable
from segmenter_pl.models import Segmenter
from tests.foreign import Shape, write_mmseg, write_official, write_paddle

Run = Callable[[np.ndarray], np.ndarray]
SIZES = [(1, 48, 48), (3, 23, 41), (2, 17, 90), (1, 63, 33), (2, 9, 9), (1, 100, 24)]
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "torchscript": ".pt"}


def onnx_run(path: Path) -> Run:
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(None, {"images": pictures})[0]


def export_run(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda pictures: module(torch.from_numpy(pictures)).numpy()


def script_run(path: Path) -> Run:
    with pytest.warns(FutureWarning, match="is deprecated"):
        module = torch.jit.load(path)
    return lambda pictures: module(torch.from_numpy(pictures)).numpy()


RUNNERS = {"onnx": onnx_run, "torch-export": export_run, "torchscript": script_run}


@pytest.fixture
def mask_model(tmp_path: Path) -> Segmenter:
    return load_segmenter(write_official(tmp_path / "mask", Shape(depth=1)))


def pictures(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (batch, 3, height, width), dtype=np.uint8)


def assert_equal(model: Segmenter, run: Run, sizes: list[tuple[int, int, int]] = SIZES) -> None:
    for size in sizes:
        with torch.no_grad():
            expected = model(torch.from_numpy(pictures(*size)))
        found = run(pictures(*size))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def assert_labels(model: Segmenter, run: Run) -> None:
    for size in SIZES:
        with torch.no_grad():
            logits = model(torch.from_numpy(pictures(*size)))
        found = run(pictures(*size))
        assert (found.dtype, found.shape) == (np.uint8, (size[0], *size[1:]))
        first, second = logits.topk(2, dim=1).values.unbind(1)
        clear = (first - second > 1e-4).numpy()  # where rounding cannot choose another
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(found[clear], logits.argmax(1).numpy()[clear])


slow = pytest.mark.slow
OUTPUTS = [
    ("onnx", "logits"),
    pytest.param("onnx", "labels", marks=slow),
    pytest.param("onnx", "probabilities", marks=slow),
    ("torch-export", "logits"),
    pytest.param("torch-export", "labels", marks=slow),
    pytest.param("torch-export", "probabilities", marks=slow),
    ("torchscript", "logits"),
    ("torchscript", "labels"),
    ("torchscript", "probabilities"),
]


@pytest.mark.parametrize(("format", "output"), OUTPUTS)
def test_outputs_of_a_mask_model(mask_model: Segmenter, tmp_path: Path, format: str, output: str) -> None:
    path = tmp_path / f"model{SUFFIXES[format]}"
    trained = [value.requires_grad for value in mask_model.parameters()]
    assert 0 <= export_graph(mask_model, path, format, output) < 1e-4
    assert [value.requires_grad for value in mask_model.parameters()] == trained
    assert list(path.parent.glob(".*")) == []
    run = RUNNERS[format](path)
    if output == "logits":
        assert_equal(mask_model, run)
    elif output == "labels":
        assert_labels(mask_model, run)
    else:
        for size in SIZES:
            with torch.no_grad():
                expected = mask_model(torch.from_numpy(pictures(*size))).softmax(1)
            np.testing.assert_allclose(run(pictures(*size)), expected, rtol=0, atol=1e-5)


def linear(folder: Path) -> Segmenter:
    return load_segmenter(write_official(folder, Shape(decoder_depth=0)))


def distilled(folder: Path) -> Segmenter:
    return load_segmenter(write_official(folder, Shape(distilled=True, patch=16, grid=2)))


def bicubic_without_bias(folder: Path) -> Segmenter:
    return load_segmenter(write_mmseg(folder / "m.pth", Shape(patch_bias=False, depth=1)))


def paddle(folder: Path) -> Segmenter:
    shape = Shape(distilled=True, depth=1)
    return load_segmenter(write_paddle(folder / "m.pdparams", shape), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def rectangular(folder: Path) -> Segmenter:
    torch.manual_seed(0)
    return create_segmenter("vit_micro", "mask", num_classes=2, image_size=(24, 40)).eval()  # type: ignore[arg-type]


KINDS = (linear, distilled, bicubic_without_bias, paddle, rectangular)
QUICK = {("onnx", bicubic_without_bias), *(("torchscript", make) for make in KINDS)}


@pytest.mark.parametrize(
    ("format", "make"),
    [
        pytest.param(format, make, marks=() if (format, make) in QUICK else slow)
        for format in SUFFIXES
        for make in KINDS
    ],
)
def test_logits_of_other_models(tmp_path: Path, make: Callable[[Path], Segmenter], format: str) -> None:
    model, path = make(tmp_path), tmp_path / f"model{SUFFIXES[format]}"
    export_graph(model, path, format)
    sizes = [size for size in SIZES if min(size[1:]) > model.stride]
    assert_equal(model, RUNNERS[format](path), sizes)


def backbone(name: str, size: int) -> Segmenter:
    model = create_segmenter(name, "linear", num_classes=4, image_size=size).eval()
    model.encoder.vit.blocks = model.encoder.vit.blocks[:2]
    model.encoder.depth = 2
    return model


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("dinov3_s16", "torchscript"),
        ("dinov2_s14", "torchscript"),
        pytest.param("dinov2_s14", "onnx", marks=slow),
        pytest.param("dinov2_s14", "torch-export", marks=slow),
    ],
)
def test_rotations_and_registers(tmp_path: Path, name: str, format: str) -> None:
    model, path = backbone(name, 42 if name == "dinov2_s14" else 48), tmp_path / f"model{SUFFIXES[format]}"
    export_graph(model, path, format)
    assert_equal(model, RUNNERS[format](path), [size for size in SIZES if min(size[1:]) > model.stride])


@pytest.mark.parametrize("format", ["torch-export", pytest.param("onnx", marks=slow)])
def test_what_an_exporter_cannot_is_refused(tmp_path: Path, format: str) -> None:
    """timm's rotary positions become constants of the graph, of the example's size."""
    with pytest.raises(ValueError, match=f"cannot be written as {format} for pictures of all sizes: try another"):
        export_graph(backbone("dinov3_s16", 48), tmp_path / "to/model", format)
    assert list((tmp_path / "to").iterdir()) == []


def told(path: Path, format: str) -> dict:
    if format == "onnx":
        (entry,) = (one for one in onnx.load(str(path)).metadata_props if one.key == "segmenter")
        return json.loads(entry.value)
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("segmenter.json"))
        return json.loads(archive.read(name))


@pytest.mark.parametrize("format", list(SUFFIXES))
def test_what_a_graph_says_of_itself(tmp_path: Path, format: str) -> None:
    meta = {"dataset_meta": {"classes": list("abcde"), "palette": [[k, k, k] for k in range(5)]}}
    model = load_segmenter(write_mmseg(tmp_path / "m.pth", Shape(decoder_depth=0, depth=1), meta=meta))
    path = tmp_path / f"model{SUFFIXES[format]}"
    export_graph(model, path, format, "labels")
    assert_labels(model, RUNNERS[format](path))
    assert told(path, format) == {
        "input": "uint8 RGB pictures (B, 3, H, W), 0…255",
        "output": "labels",
        "num_classes": 5,
        "patch_size": 8,
        "classes": list("abcde"),
        "palette": [[k, k, k] for k in range(5)],
        "ignore_index": 255,
        "window": 24,
        "stride": 8,
        "short_side": 24,
    }


def test_many_classes_have_wider_labels(tmp_path: Path) -> None:
    model = create_segmenter("vit_micro", "linear", num_classes=300, image_size=24).eval()
    torch.nn.init.constant_(model.decoder.head.bias[280:281], 9)
    export_graph(model, tmp_path / "m.pt", "torchscript", "labels")
    found = script_run(tmp_path / "m.pt")(pictures(1, 20, 30))
    assert (found.dtype, found.shape) == (np.int16, (1, 20, 30))
    assert (found == 280).all()


def spoilt_weights(format: Format) -> Format:
    def write(portable: Portable, example: Tensor, path: Path, said: str) -> None:
        weight = portable.model.decoder.proj_dec.weight
        kept = weight.detach().clone()
        weight.mul_(1.5)
        format.write(portable, example, path, said)
        weight.copy_(kept)

    return Format(write, format.read)


def another_output(format: Format) -> Format:
    def write(portable: Portable, example: Tensor, path: Path, said: str) -> None:
        format.write(Portable(portable.model, "probabilities"), example, path, said)

    return Format(write, format.read)


def not_a_number(format: Format) -> Format:
    """Right for pictures of the model's own size only."""

    def read(path: Path) -> Callable[[Tensor], Tensor]:
        run = format.read(path)
        return lambda images: run(images) * (1.0 if images.shape[-2:] == (24, 24) else torch.nan)

    return Format(format.write, read)


@pytest.mark.parametrize("sabotage", [spoilt_weights, another_output, not_a_number])
@pytest.mark.parametrize("format", ["torchscript", pytest.param("onnx", marks=slow)])
def test_a_graph_that_computes_something_else_is_refused(
    mask_model: Segmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[Format], Format],
    format: str,
) -> None:
    folder = tmp_path / "to"
    monkeypatch.setitem(graphs.GRAPHS, format, sabotage(graphs.GRAPHS[format]))
    with pytest.raises(ValueError, match=f"the {format} file differs from the model by .*: refused"):
        export_graph(mask_model, folder / "model", format)
    assert list(folder.iterdir()) == []


def test_labels_of_another_model_are_refused(
    mask_model: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(graphs.GRAPHS, "torchscript", spoilt_weights(graphs.GRAPHS["torchscript"]))
    with pytest.raises(ValueError, match="differs from the model"):
        export_graph(mask_model, tmp_path / "to/model", "torchscript", "labels")


def test_settings_are_checked_first(mask_model: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(FileExistsError, match="there is there already"):
        export_graph(mask_model, tmp_path / "there", "onnx")
    with pytest.raises(ValueError, match="--output masks: choose logits, probabilities, labels"):
        export_graph(mask_model, tmp_path / "new", "onnx", "masks")
    assert not (tmp_path / "new").exists()
