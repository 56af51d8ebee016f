"""TensorBoard beside the metrics file."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

from segmenter_pl.loggers.base import Rows
from segmenter_pl.loggers.mirror import Mirror, guarded


class TensorBoard(Mirror):
    """The run's rows and pictures as event files in the run directory: `tensorboard --logdir runs`.

    A continued run writes a file of its own that tells TensorBoard to drop what a killed process logged after the
    step it continues from. A directory without event files (the logger is new to this run) gets the earlier rows.

    Args:
        save_dir: the run directory.
        others: what Lightning's TensorBoardLogger takes.
    """

    brand = "TensorBoard"

    def __init__(self, save_dir: str | Path, **others: Any) -> None:
        super().__init__(save_dir)
        self.settings: dict[str, Any] = {"name": "", "version": "", **others}
        self.params: dict[str, Any] | Namespace | None = None
        self.logger: TensorBoardLogger | None = None
        self.last = 0  # step whose row is there

    @guarded("logging the settings")
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Kept until `begin`: the first thing written must say where the run continues."""
        self.params = params

    @guarded("starting")
    def begin(self, step: int, earlier: Rows) -> None:
        logger, written = TensorBoardLogger(self.folder, **self.settings), set(earlier)
        if any(Path(logger.log_dir).glob("events.out.tfevents.*")):
            logger = TensorBoardLogger(self.folder, purge_step=step + 1, **self.settings)
            earlier = {}
        elif self.params is not None:
            logger.log_hyperparams(self.params)
        self.logger, self.last = logger, max(written, default=0)
        for known, row in sorted(earlier.items()):
            logger.log_metrics(dict(row), known)
        logger.save()

    @guarded("logging")
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert self.logger is not None, "begin() comes first"
        assert step is not None
        if step > self.last:
            self.logger.log_metrics(dict(metrics), step)
            self.last = step

    @guarded("logging a picture")
    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        assert self.logger is not None, "begin() comes first"
        self.logger.experiment.add_image(key, image, step, dataformats="HWC")

    @guarded("saving")
    def save(self) -> None:
        if self.logger is not None:
            self.logger.save()

    @guarded("closing")
    def finish(self, exit_code: int) -> None:
        if self.logger is not None:
            self.logger.finalize("success" if exit_code == 0 else "failed")

    def finalize(self, status: str) -> None:
        """Lightning's call, before the last rows may have come; `finish` closes."""
