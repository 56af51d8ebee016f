"""Statistics of pixels, as buffers for pictures with values 0…255."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def pixel_statistics(
    tag: Mapping[str, Any], mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """Mean and deviation (1, 3, 1, 1) in 0…255: those that are given in 0…1, else those of the weights' tag.

    Raises: ValueError: what is given are not three numbers in 0…1.
    """
    given = (("mean", mean), ("std", std))
    first, second = (255 * _three_numbers(name, tag[name] if values is None else values) for name, values in given)
    return first, second


def _three_numbers(name: str, values: Sequence[float]) -> Tensor:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"backbone.{name}={values}: give three numbers, for red, green and blue") from error
    numbers = (red, green, blue)
    if not all(abs(number) <= 1 and (name == "mean" or number > 0) for number in numbers):  # False for NaN too
        raise ValueError(f"backbone.{name}={values}: give numbers in 0…1 (pixel values divided by 255)")
    return torch.tensor(numbers).view(1, 3, 1, 1)
