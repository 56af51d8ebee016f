"""Loggers that may fail: what they show is in metrics.csv as well, so no run ends because of them."""

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from lightning.pytorch.utilities import rank_zero_only

from segmenter_pl.loggers.base import RunLogger

P = ParamSpec("P")
M = TypeVar("M", bound="Mirror")


class Mirror(RunLogger):
    """A copy of the run's rows and pictures in another tool, whose first error is said once and silences it.

    Every public method of a subclass is wrapped by `guarded`. Set `brand` to what messages shall call the tool.
    """

    brand = "Mirror"
    silent = False

    def give_up(self, doing: str, error: Exception) -> None:
        """Says what failed in one line, and stays silent from then on."""
        self.silent = True
        self.say(f"{doing} failed ({reason(error)}); the run goes on without it, and metrics.csv has every row")
        with suppress(Exception):
            self.drop()

    def drop(self) -> None:
        """Lets go of what the tool still holds after an error."""

    def say(self, text: str) -> None:
        print(f"{self.brand}: {text}", file=sys.stderr)


def guarded(doing: str) -> Callable[[Callable[Concatenate[M, P], None]], Callable[Concatenate[M, P], None]]:
    """Makes a Mirror's method one that never raises, runs on rank zero only, and does nothing after an error."""

    def wrap(method: Callable[Concatenate[M, P], None]) -> Callable[Concatenate[M, P], None]:
        @functools.wraps(method)
        def safe(self: M, /, *args: P.args, **kwargs: P.kwargs) -> None:
            if self.silent or getattr(rank_zero_only, "rank", 0) != 0:
                return
            try:
                method(self, *args, **kwargs)
            except Exception as error:  # whatever it is, it is not worth a training
                self.give_up(doing, error)

        return safe

    return wrap


def reason(error: Exception) -> str:
    """An error in one line."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
