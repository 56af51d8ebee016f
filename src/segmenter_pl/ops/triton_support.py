"""Whether Triton's kernels can be used."""

import warnings
from functools import cache
from importlib.util import find_spec

import torch


@cache
def triton_works(device: torch.device) -> bool:
    """Whether kernels can run on a device: it is CUDA's, and Triton is installed and finds what it needs to build them.

    Tries one; where that fails a warning says why, and that plain torch takes over.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    from segmenter_pl.ops import triton_scores

    try:
        triton_scores.labels(torch.zeros(1, 1, 1, device=device), torch.ones(1, 1, device=device))
    except Exception as error:  # a missing compiler, an old driver, a card of another make: Triton has no class for it
        warnings.warn(f"Triton's kernels cannot be used here ({error}): plain torch is used, slower", stacklevel=2)
        return False
    return True
