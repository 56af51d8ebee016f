"""ONNX, torch.export and TorchScript files for pictures of any size, each compared with the model once written."""

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
from segmenter_pl.models import Segmenter

Run = Callable[[Tensor], Tensor]  # pictures to outputs
ONNX_INSTALL = 'ONNX needs more packages: pip install "segmenter-pl[export]"'
LARGEST = 1 << 15  # pixels of a side, for torch.export, which wants a bound


@dataclass(frozen=True)
class Format:
    """How a graph is written, and read back into something that runs."""

    write: Callable[[Portable, Tensor, Path, str], None]
    read: Callable[[Path], Run]


def export_graph(model: Segmenter, target: Path, format: str, output: str = "logits", tolerance: float = 1e-4) -> float:
    """Write a graph of the model; pixel normalisation, padding and upsampling are inside.

    Args:
        format: one of GRAPHS. output: one of portable.OUTPUTS. tolerance: of `difference`.

    Returns: the largest difference between the file and the model, over sizes that the graph was not made with.
    Raises: ValueError where the file computes something else (it is removed then); ModuleNotFoundError for ONNX
        without its packages; FileExistsError.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already: give another name, or move it away")
    portable = Portable(model, output)
    patch = model.stride
    example = _pictures(2, 2 * patch + 1, 3 * patch + patch // 2)
    with fresh(target) as temporary, torch.no_grad():
        with _quiet():
            GRAPHS[format].write(portable, example, temporary, description(model, output))
            run = GRAPHS[format].read(temporary)
        built = model.encoder.vit.patch_embed.grid_size
        own = tuple(patch * side for side in built)
        sizes = [own, (own[0] + patch // 2 + 1, own[1] - 1), (patch + 1, 4 * patch), (3 * patch - 1, 2 * patch)]
        worst = max(difference(portable, run, _pictures(1 + k % 2, *size)) for k, size in enumerate(sizes))
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecations and notes of exporters, of which a user can change nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _dynamic(patch: int) -> Any:
    dim = torch.export.Dim
    sides = {axis: dim(name, min=patch + 1, max=LARGEST) for axis, name in ((2, "height"), (3, "width"))}
    return ({0: dim("batch", min=1, max=LARGEST), **sides},)


def _write_export(portable: Portable, example: Tensor, path: Path, said: str) -> None:
    program = torch.export.export(
        portable,
        (example,),
        dynamic_shapes=_dynamic(portable.model.stride),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    torch.export.save(program, path, extra_files={"segmenter.json": said})


def _read_export(path: Path) -> Run:
    return torch.export.load(path).module()


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
        dynamic_shapes=_dynamic(portable.model.stride),
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
