"""What every logger of a run understands, and how their files are written."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger

from segmenter_pl.data.classes import Classes

Rows = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Prediction:
    """A picture (H, W, 3) uint8 under the dataset's name for it, with the class ids (H, W) of truth and prediction."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray


class RunLogger(Logger):
    """A logger that is handed each step's complete row once, in ascending order, and that can continue after a stop.

    The order of calls: `log_hyperparams`, `begin`, then for each step `log_image` and `log_predictions` (where there
    are some), `log_metrics` and `save`, and `finish` at the end, whatever the end was. There is no attribute
    `experiment` on purpose: Lightning would touch it on every process before the run begins.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.folder = Path(save_dir)

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's settings as a plain nested dictionary; config.yaml holds them anyway."""

    def begin(self, step: int, earlier: Rows) -> None:
        """The run continues after `step` (0: a fresh one); `earlier` are the rows of metrics.csv up to that step."""

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """A picture (H, W, 3) uint8 that belongs to a step; before that step's row."""

    def log_predictions(self, key: str, pictures: Sequence[Prediction], classes: Classes, step: int) -> None:
        """The same pictures at each validation; before that step's row."""

    def finish(self, exit_code: int) -> None:
        """Nothing more will come; 0 is success."""


@contextmanager
def finished(loggers: Iterable[Logger]) -> Iterator[None]:
    """Ends each of our loggers with the exit code that the process will have, or the next job of a sweep would log into
    its W&B run."""
    code = 1
    try:
        yield
        code = 0
    except BaseException as error:
        code = 128 + error.signum if hasattr(error, "signum") else 1
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, RunLogger):
                logger.finish(code)


def naming(path: Path, error: OSError) -> OSError:
    """The same error about `path`: writing to an open file names none, and the temporary name is nobody's business."""
    return OSError(error.errno, error.strerror, str(path))
