"""ONNX, torch.export and TorchScript files for pictures of any size, each compared with the model once written."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segmenter_pl.export.portable import Portable, description
from segmenter_pl.files import fresh
from segmenter_pl.models import EncoderDecoder, Segmenter

Run = Callable[[Tensor], Tensor]  # pictures to outputs
ONNX_INSTALL = 'ONNX needs more packages: pip install "segmenter-pl[export]"'
EXPECTED_WARNINGS = (
    # TorchScript has a successor: https://docs.pytorch.org/docs/stable/jit.html
    r"`torch\.jit\.\w+` is deprecated",
    # Sizes that become numbers might be constants of the graph; the file is run at others to see that none is:
    # https://docs.pytorch.org/docs/stable/generated/torch.jit.trace.html
    r"Converting a tensor to a Python \w+ might cause the trace to be incorrect",
)
LARGEST = 1 << 15  # pixels of a side, for torch.export, which wants a bound


@dataclass(frozen=True)
class Format:
    """How a graph is written, and read back into something that runs."""

    write: Callable[[Portable, Tensor, Path, str], None]
    read: Callable[[Path], Run]


def export_graph(
    model: EncoderDecoder, target: Path, format: str, output: str = "logits", tolerance: float = 1e-4
) -> float:
    """Write a graph of the model; pixel normalisation, padding and upsampling are inside.

    Args:
        format: one of GRAPHS. output: one of portable.OUTPUTS. tolerance: of `difference`.

    Returns: the largest difference between the file and the model, over sizes that the graph was not made with.
    Raises: ValueError where the exporter cannot, or the file computes something else (it is removed then);
        ModuleNotFoundError for ONNX without its packages; FileExistsError.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already: give another name, or move it away")
    portable = Portable(model, output)
    patch = _cell(model)
    example = _pictures(2, 2 * patch + 1, 3 * patch + patch // 2)
    own = (8 * patch, 8 * patch)
    if isinstance(model, Segmenter):  # the size that its position table is stored for
        own = tuple(patch * side for side in model.encoder.vit.patch_embed.grid_size)
    sizes = [own, (own[0] + patch // 2 + 1, own[1] - 1), (patch + 1, 4 * patch), (3 * patch - 1, 2 * patch)]
    with fresh(target) as temporary, torch.no_grad(), _without_gradients(model):
        try:
            with _quiet():
                GRAPHS[format].write(portable, example, temporary, description(model, output))
                run = GRAPHS[format].read(temporary)
            found = [difference(portable, run, _pictures(1 + k % 2, *size)) for k, size in enumerate(sizes)]
        except (ImportError, MemoryError, OSError):
            raise
        except Exception as error:  # each exporter and runtime has its own
            raise ValueError(
                f"the model cannot be written as {format} for pictures of all sizes: try another --format "
                f"({type(error).__name__}: {str(error).splitlines()[0]})"
            ) from error
        worst = max(value if value == value else float("inf") for value in found)  # NaN is larger than nothing
        if not worst <= tolerance:
            raise ValueError(
                f"the {format} file differs from the model by {worst:.2g} (allowed: {tolerance:.2g}): refused"
            )
    return worst


def difference(portable: Portable, run: Run, images: Tensor) -> float:
    """How far a graph is from the model on some pictures: the largest difference of outputs, relative to the largest
    output where that is above 1; for labels, by how much the model prefers its own to the graph's (logits likewise)."""
    expected, found = portable(images), run(images)
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if portable.output == "labels":
        logits = portable.model(images)
        best = logits.amax(1)
        other = logits.gather(1, found.long()[:, None])[:, 0]
        return float((best - other).max() / best.abs().max().clamp(min=1))
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1))


def _pictures(count: int, height: int, width: int) -> Tensor:
    values = np.random.default_rng(height * width).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def _cell(model: EncoderDecoder) -> int:
    """Pixels to whose multiples the model pads pictures."""
    return model.encoder.patch_size if isinstance(model, Segmenter) else model.encoder.width.stride


@contextmanager
def _without_gradients(model: EncoderDecoder) -> Iterator[None]:
    """Whoever runs the graph shall not have to switch them off."""
    trained = [value for value in model.parameters() if value.requires_grad]
    try:
        for value in trained:
            value.requires_grad_(False)
        yield
    finally:
        for value in trained:
            value.requires_grad_(True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves on every call, of which a user can change nothing."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        optimizer = logging.getLogger("onnxscript.optimizer")
        level = optimizer.level
        optimizer.setLevel(logging.ERROR)  # it tells which operations it leaves as they are
        try:
            yield
        finally:
            optimizer.setLevel(level)


def _dynamic(patch: int) -> Any:
    dim = torch.export.Dim
    sides = {axis: dim(name, min=patch + 1, max=LARGEST) for axis, name in ((2, "height"), (3, "width"))}
    return ({0: dim("batch", min=1, max=LARGEST), **sides},)


def _write_export(portable: Portable, example: Tensor, path: Path, said: str) -> None:
    program = torch.export.export(
        portable,
        (example,),
        dynamic_shapes=_dynamic(_cell(portable.model)),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    with path.open("wb") as file:  # by its name, it wants to be called .pt2
        torch.export.save(program, file, extra_files={"segmenter.json": said})


def _read_export(path: Path) -> Run:
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_script(portable: Portable, example: Tensor, path: Path, said: str) -> None:
    torch.jit.save(torch.jit.trace(portable, example, check_trace=False), path, _extra_files={"segmenter.json": said})


def _read_script(path: Path) -> Run:
    return torch.jit.load(path)


def _write_onnx(portable: Portable, example: Tensor, path: Path, said: str) -> None:
    try:
        import onnxruntime  # noqa: F401 # it is what the file is checked with: missed now, not after the work
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}. {ONNX_INSTALL}") from error
    program = torch.onnx.export(
        portable,
        (example,),
        dynamo=True,
        verbose=False,
        dynamic_shapes=_dynamic(_cell(portable.model)),
        input_names=["images"],
        output_names=[portable.output],
    )
    assert program is not None
    program.model.metadata_props["segmenter"] = said
    program.save(str(path), external_data=False)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (found,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(found)

    return run


GRAPHS = {
    "onnx": Format(_write_onnx, _read_onnx),
    "torch-export": Format(_write_export, _read_export),
    "torchscript": Format(_write_script, _read_script),
}
