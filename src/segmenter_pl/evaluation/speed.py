"""How fast pictures are predicted."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Times what is done for each picture, on one device; the first one, which warms up, counts only if it is alone."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def picture(self, device: torch.device) -> Iterator[None]:
        """Around what is to be timed; waits until the device is done."""
        _wait(device)
        begun = time.perf_counter()
        yield
        _wait(device)
        self.seconds.append(time.perf_counter() - begun)

    @property
    def pictures_per_second(self) -> float:
        """0 of no picture."""
        counted = self.seconds[1:] or self.seconds
        return len(counted) / sum(counted) if counted else 0.0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """Of the accelerator, or of the processor's kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"
