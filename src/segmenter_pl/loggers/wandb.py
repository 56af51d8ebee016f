"""Weights & Biases beside the metrics file."""

import os
import secrets
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from segmenter_pl.files import write_atomically
from segmenter_pl.loggers.base import Rows
from segmenter_pl.loggers.mirror import Mirror, guarded, reason
from segmenter_pl.loggers.wandb_history import read_wandb_history

# In seconds. W&B would wait 90 for an answer, without an end for the last upload (what is left then lies on the disk),
# and write to its file every 15: what a killed process had not written is caught up only if the run is started again.
PATIENCE = {"init_timeout": 30, "finish_timeout": 300, "x_transaction_log_flush_interval": 1}


class Wandb(Mirror):
    """One W&B run for a run directory, however often its process is killed and started again.

    The run's id lies in `wandb_id.txt`. What the killed process had not passed on is caught up from metrics.csv, what
    it had is not logged again: online W&B's server says which rows it has, offline the files of the earlier processes
    do. Without a key or a network the run is recorded offline. W&B's own step is the optimizer step.

    Args:
        save_dir: the run directory.
        project, entity, name, group, job_type, tags: what `wandb.init` takes.
        offline: upload nothing; so does the environment's WANDB_MODE=offline.
        others: what else `wandb.init` takes; `settings` as a dictionary.
    """

    brand = "Weights & Biases"

    def __init__(
        self,
        save_dir: str | Path,
        *,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        offline: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(save_dir)
        self.settings: dict[str, Any] = {
            "dir": str(save_dir),
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": tags,
            **others,
        }
        self.offline = offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        self.logger: WandbLogger | None = None
        self.known = 0  # the last step that the W&B run had when this process began
        self.last = 0  # the same now
        self.images: dict[str, np.ndarray] = {}

    @guarded("logging the settings")
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._started().log_hyperparams(params)

    @guarded("starting")
    def begin(self, step: int, earlier: Rows) -> None:
        for known, row in sorted(earlier.items()):
            self._log(row, known)

    @guarded("logging")
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        self._log(metrics, step)

    @guarded("logging a picture")
    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """Kept for its step's row: W&B takes a step once, and a picture alone would pass for the row."""
        self._started()
        if step > self.known:
            self.images[key] = image

    @guarded("finishing")
    def finish(self, exit_code: int) -> None:
        """Ends the W&B run, or the next job of a sweep would log into it."""
        if self.logger is not None:
            self.logger.experiment.finish(exit_code=exit_code)
            self.logger = None

    def drop(self) -> None:
        """Ends W&B's own process: after a failed start it holds the run's id, and once broken it stays so."""
        import wandb

        for _ in range(2):  # with a broken connection the first call raises, and the second one forgets it
            with suppress(Exception):
                wandb.teardown(exit_code=1)

    def _log(self, row: Mapping[str, float], step: int) -> None:
        import wandb

        run = self._started().experiment
        if step > self.last:
            images = {key: wandb.Image(image) for key, image in self.images.items()}
            run.log({**row, **images}, step=step, commit=True)
            self.last, self.images = step, {}

    def _started(self) -> WandbLogger:
        """W&B's run, begun or continued at the first use; where that is not possible online, offline."""
        if self.logger is None:
            run_id = self.settings.get("id") or self._stored_id()
            if not self.offline:
                try:
                    self.logger = self._init(run_id, resume="allow")
                    self.known = self.logger.experiment.starting_step - 1
                except Exception as error:
                    self.drop()
                    where = self.folder / "wandb" / "offline-run-*"
                    self.say(f"not online ({reason(error)}); recording offline, for `wandb sync {where}` later")
                    self.offline = True
            if self.logger is None:
                self.known = self._last_local_step(run_id)
                self.logger = self._init(run_id, mode="offline")  # without `resume`, of which W&B warns here
            self.last = self.known
        return self.logger

    def _init(self, run_id: str, **how: str) -> WandbLogger:
        import wandb

        known = {key: value for key, value in PATIENCE.items() if key in wandb.Settings.model_fields}
        settings = known | dict(self.settings.get("settings") or {})
        run = wandb.init(**{**self.settings, **how, "id": run_id, "settings": settings, "reinit": "finish_previous"})
        # Given a run, Lightning's logger does not make its own counter the horizontal axis.
        return WandbLogger(experiment=run, save_dir=self.folder)

    def _stored_id(self) -> str:
        path = self.folder / "wandb_id.txt"
        if not path.exists():
            write_atomically(path, f"{secrets.token_hex(4)}\n".encode())
        return path.read_text().strip()

    def _last_local_step(self, run_id: str) -> int:
        last = 0
        for path in self.folder.glob(f"wandb/*run-*/run-{run_id}.wandb"):  # the link is called latest-run
            with suppress(Exception):  # a file that cannot be read counts as none: better a row twice than none
                last = max([last, *(row["_step"] for row in read_wandb_history(path))])
        return last
