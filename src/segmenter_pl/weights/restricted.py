"""Pickles from strangers: tensors, arrays and plain containers come out, and no code of theirs runs."""

import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What training frameworks put beside the weights (histories, settings): nothing of it is built.
HARMLESS = ("argparse", "mmcv", "mmengine", "mmseg", "numpy", "omegaconf", "pathlib", "yacs")
# What such objects are pickled with (HistoryBuffer of MMEngine holds arrays and its own methods): never called.
PICKLED_WITH = {
    ("__builtin__", "getattr"),
    ("_codecs", "encode"),
    ("builtins", "getattr"),
    ("collections", "deque"),
}
TENSORS = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
}
PIECES = "UnpackBigParamInfor@@"  # Paddle's own spelling
NAMES = "StructuredToParameterName@@"


class Inert:
    """Stands for an object that nobody needs: takes whatever a pickle does with it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Nothing."""

    def extend(self, values: Any) -> None:
        """Nothing."""


# Both in Python: the one in C allocates what a spoilt file claims, gigabytes for the number of an entry (LONG_BINPUT).
class _TorchUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in TENSORS or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        if module.partition(".")[0] in HARMLESS or (module, name) in PICKLED_WITH:
            return Inert
        raise pickle.UnpicklingError(f"refused global {module}.{name}")


_SAFE_PICKLE = SimpleNamespace(
    Unpickler=_TorchUnpickler,
    load=lambda file, **options: _TorchUnpickler(file, **options).load(),
    __name__="restricted",
)


def load_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; objects of training frameworks that lie beside the tensors become `Inert`.

    Raises: pickle.UnpicklingError for a file that names anything else, and whatever torch raises for damaged ones.
    """
    mapped = zipfile.is_zipfile(path)  # read from the disk as it is needed: optimizer states often are not
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:  # torch refuses such objects as a whole
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_SAFE_PICKLE, mmap=mapped)


class _PaddleUnpickler(pickle._Unpickler):
    """NumPy arrays only, and each of its callables is one of ours."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy._core.multiarray", "_reconstruct"): _empty,
            ("numpy.core.multiarray", "_reconstruct"): _empty,
            ("numpy", "ndarray"): "numpy.ndarray",  # only handed to _reconstruct
            ("numpy", "dtype"): _number_type,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"refused global {module}.{name}")
        return known[module, name]


def _empty(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return np.empty(0, np.uint8)  # its real type, shape and content come as its state


def _number_type(name: Any, *flags: Any) -> np.dtype[Any]:
    kind = np.dtype(str(name))
    if kind.kind not in "fiu":
        raise pickle.UnpicklingError(f"refused an array of {kind}")
    return kind


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin-1")


def load_paddle(path: Path) -> dict[str, Tensor]:
    """Tensors by name from what `paddle.save(state_dict)` wrote, without Paddle.

    Raises: pickle.UnpicklingError for a file that holds anything but arrays.
    """
    data = _PaddleUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    if not isinstance(data, dict):
        raise pickle.UnpicklingError(f"it holds a {type(data).__name__}, not tensors by name")
    pieces, _ = data.pop(PIECES, {}), data.pop(NAMES, None)
    for name, parts in pieces.items():  # arrays above 1 GB, of old protocols
        flat = np.concatenate([data.pop(part).ravel() for part in parts["slices"]])
        data[name] = flat.reshape(parts["OriginShape"])
    arrays = {name: value[1] if isinstance(value, tuple) else value for name, value in data.items()}
    return {
        str(name): torch.from_numpy(np.array(value, np.float32))
        for name, value in arrays.items()
        if isinstance(value, np.ndarray)
    }
