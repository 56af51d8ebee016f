"""How much memory there was, and whether there was too little."""

import resource
import sys

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device, or this computer, has no more memory.

    torch has a class of its own for accelerators' allocators only; the rest says it in words.
    """
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def peak_memory_gb() -> float:
    """Highest memory so far in GB: allocated on the GPU if one is used, else resident in this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
