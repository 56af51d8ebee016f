"""Bilinear resizing (align_corners=False): as matrices, one per axis, and of parts of a picture."""

import torch
from torch import Tensor


def interpolation_matrix(
    size_out: int,
    size_in: int,
    *,
    crop: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Weights of `F.interpolate(mode="bilinear", align_corners=False)` from `size_in` to `size_out` along one axis.

    Row y holds the weights of output y over the inputs: at most two neighbours, summing to 1.
    `crop` keeps the first `crop` outputs. Returns (crop or size_out, size_in).
    """
    # Output y lies at ((2y + 1) * size_in - size_out) / (2 * size_out); in integers nothing is lost to rounding.
    denominator = 2 * size_out
    outputs = torch.arange(size_out if crop is None else crop, device=device)
    numerator = ((2 * outputs + 1) * size_in - size_out).clamp(min=0)[:, None]
    low = numerator // denominator
    fraction = (numerator % denominator).to(dtype) / denominator
    inputs = torch.arange(size_in, device=device)
    return (inputs == low) * (1 - fraction) + (inputs == (low + 1).clamp(max=size_in - 1)) * fraction


def source_span(start: int, stop: int, size_out: int, size_in: int) -> tuple[int, int]:
    """Half-open range of the inputs that outputs `start` to `stop - 1` are interpolated from."""
    first = max((2 * start + 1) * size_in - size_out, 0) // (2 * size_out)
    last = max((2 * stop - 1) * size_in - size_out, 0) // (2 * size_out) + 1
    return first, min(last + 1, size_in)


def neighbours(length: int, size: int, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Which of `length` inputs the outputs `start` to `stop - 1` of `size` lie between, and how far from the first.

    Returns: first, second (int64) and the second one's weight (float32), one number per output each, on the CPU.
    """
    centers = torch.arange(start, size if stop is None else stop, dtype=torch.float64) + 0.5
    position = (centers * length / size - 0.5).clamp(min=0)
    first = position.long()
    return first, (first + 1).clamp(max=length - 1), (position - first).float()


def resized_part(x: Tensor, dim: int, size: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Elements `start` to `stop - 1` along one axis of `x` resized to `size` there, as `F.interpolate` resizes.

    Takes any dtype; returns float32, without looking at more of `x` than the part needs.
    """
    first, second, weight = (index.to(x.device) for index in neighbours(x.shape[dim], size, start, stop))
    weight = weight.view([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    return x.index_select(dim, first).float().lerp_(x.index_select(dim, second).float(), weight)
