"""For graphs that serve pictures of any size (torch.export, ONNX, TorchScript)."""

import torch
from torch import Tensor


def is_traced() -> bool:
    """Whether a graph for all sizes is being made of the calls (torch.export, ONNX, TorchScript)."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def take(x: Tensor, dim: int, length: int) -> Tensor:
    """The first `length` entries along a dimension, zeros where there are no more.

    As one look-up, for `is_traced`: slicing and padding ask whether there is anything to do, and the answer for the
    example's size would become part of the graph.
    """
    places = torch.arange(length, device=x.device)
    there = (places < x.shape[dim]).view(-1, *[1] * (x.ndim - dim - 1))
    return x.index_select(dim, places.clamp(max=x.shape[dim] - 1)) * there
