"""Weights & Biases beside the metrics file."""

import os
import secrets
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from segmenter_pl.data.classes import Classes
from segmenter_pl.files import write_atomically
from segmenter_pl.loggers import wandb_media
from segmenter_pl.loggers.base import Prediction, Rows
from segmenter_pl.loggers.mirror import Mirror, guarded, reason
from segmenter_pl.loggers.wandb_history import last_wandb_step

LONGEST_TAG = 64  # characters, W&B's limit

# In seconds. W&B would wait 90 for an answer, without an end for the last upload (what is left then lies on the disk),
# and write to its file every 15: what a killed process had not written is caught up only if the run is started again.
PATIENCE = {"init_timeout": 30, "finish_timeout": 300, "x_transaction_log_flush_interval": 1}


class Wandb(Mirror):
    """One W&B run for a run directory, however often its process is killed and started again.

    The run's id lies in `wandb_id.txt`. What the killed process had not passed on is caught up from metrics.csv, what
    it had is not logged again: online W&B's server says which rows it has, offline the files of the earlier processes
    do. Without a key or a network the run is recorded offline. W&B's own step is the optimizer step.

    Beside the last value of each key the summary holds those of the best validation as `best/…`, and at the end the
    IoU of each class as a table, `classes`.

    Args:
        save_dir: the run directory.
        project, entity, group, job_type: what `wandb.init` takes.
        name: by default the last two parts of the run directory: settings and seed.
        tags: what `wandb.init` takes; None among them are left out.
        offline: upload nothing; so does the environment's WANDB_MODE=offline.
        artifacts: the checkpoint to upload when the run ends well: none, best or last.
        others: what else `wandb.init` takes; `settings` as a dictionary.

    Raises: ValueError for another word in `artifacts`.
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
        tags: Sequence[str | None] | None = None,
        offline: bool = False,
        artifacts: str = "none",
        **others: Any,
    ) -> None:
        super().__init__(save_dir)
        if artifacts not in ("none", "best", "last"):
            raise ValueError(f"logger.artifacts={artifacts}: give none, best or last")
        self.settings: dict[str, Any] = {
            "dir": str(save_dir),
            "project": project,
            "entity": entity,
            "name": name or "/".join(self.folder.absolute().parts[-2:]),
            "group": group,
            "job_type": job_type,
            "tags": [tag[:LONGEST_TAG] for tag in tags or () if tag],
            **others,
        }
        self.offline = offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        self.artifacts = artifacts
        self.logger: WandbLogger | None = None
        self.known = 0  # the last step that the W&B run had when this process began
        self.last = 0  # the same now
        self.media: dict[str, Any] = {}  # of the step whose row is still to come
        self.validated: dict[str, Mapping[str, float]] = {}  # the rows of the last and the best validation, with steps

    @guarded("logging the settings")
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._started().log_hyperparams(params)

    @guarded("starting")
    def begin(self, step: int, earlier: Rows) -> None:
        for known, row in sorted(earlier.items()):
            self._log(row, known)
        self._summarize()

    @guarded("logging")
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        self._log(metrics, step)
        if "val/miou" in metrics:
            self._summarize()

    @guarded("logging a picture")
    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """Kept for its step's row: W&B takes a step once, and a picture alone would pass for the row."""
        self._started()
        if step > self.known:
            self.media[key] = wandb_media.image(image)

    @guarded("logging predictions")
    def log_predictions(self, key: str, pictures: Sequence[Prediction], classes: Classes, step: int) -> None:
        self._started()
        if step > self.known:
            self.media[key] = wandb_media.predictions(pictures, classes)

    @guarded("finishing")
    def finish(self, exit_code: int) -> None:
        """Ends the W&B run, or the next job of a sweep would log into it."""
        if self.logger is not None:
            run = self.logger.experiment
            if self.validated:
                run.summary.update({"classes": wandb_media.class_table(self.validated["last"], self.validated["best"])})
            if self.artifacts != "none" and exit_code == 0:
                self._upload(run)
            run.finish(exit_code=exit_code)
            self.logger = None

    def _upload(self, run: Any) -> None:
        path = self.folder / "checkpoints" / f"{self.artifacts}.ckpt"
        if path.is_file():
            run.log_artifact(wandb_media.checkpoint(path, run.id), aliases=[self.artifacts])
        else:
            self.say(f"there is no {path} to upload; everything else is logged")

    def drop(self) -> None:
        """Ends W&B's own process: after a failed start it holds the run's id, and once broken it stays so."""
        import wandb

        for _ in range(2):  # with a broken connection the first call raises, and the second one forgets it
            with suppress(Exception):
                wandb.teardown(exit_code=1)

    def _log(self, row: Mapping[str, float], step: int) -> None:
        run = self._started().experiment
        if "val/miou" in row:
            best = self.validated.get("best")
            self.validated["last"] = {**row, "step": step}
            if best is None or row["val/miou"] > best["val/miou"]:
                self.validated["best"] = self.validated["last"]
        if step > self.last:
            run.log({**row, **self.media}, step=step, commit=True)
            self.last, self.media = step, {}

    def _summarize(self) -> None:
        """W&B's own summary has the last values; those of the best validation stand beside them."""
        if self.validated:
            self._started().experiment.summary.update(wandb_media.best_of(self.validated["best"]))

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
                self.known = last_wandb_step(self.folder, run_id)
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
