"""last.ckpt and best.ckpt: whole or not at all, and enough to go on to the bit."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from segmenter_pl.callbacks.interruption import Interruption
from segmenter_pl.callbacks.schedule import optimizer_stepped, validation_follows


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a checkpoint under its own name is always whole.

    (Lightning's writes to the system's folder for temporary files, which may be another file system, where a move is a
    copy that can be cut off.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            temporary.unlink(missing_ok=True)
            kept = "; the one before it is intact" if path.exists() else ""
            raise OSError(
                f"checkpoint {path} cannot be written ({str(error).splitlines()[0]}){kept}: free some space, "
                "then start the same command again"
            ) from error


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt` (highest val mIoU, as the task counts it).

    `last.ckpt` is written every N steps, when a signal asks to stop, before a validation, so that a run killed in it
    does not lose the steps before, and after it. One that was saved before its validation validates first when it is
    continued.

    Args:
        dirpath: folder of the two.
        every: optimizer steps between two checkpoints.
    """

    def __init__(self, dirpath: str | Path, every: int) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every={every}: give a number of steps, 1 or more")
        self.last, self.best, self.every = Path(dirpath, "last.ckpt"), Path(dirpath, "best.ckpt"), every

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.global_step and validation_follows(trainer) and module.last.get("step") != trainer.global_step:
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True
        early = [one for one in trainer.callbacks if isinstance(one, EarlyStopping)]  # type: ignore[attr-defined]
        if any(one.wait_count >= one.patience for one in early):
            trainer.should_stop = True  # it had been decided before the run was killed

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not optimizer_stepped(trainer, batch_idx):
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        stopping = any(isinstance(one, Interruption) and one.signum for one in callbacks)
        if stopping or trainer.global_step % self.every == 0 or validation_follows(trainer):
            self._save(trainer, self.last)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        if module.best["step"] != trainer.global_step:
            self._save(trainer, self.last)
            return
        # The best one first: were the run killed in between, last.ckpt would still ask for this validation.
        self._save(trainer, self.best)
        if trainer.is_global_zero and self.best.exists():
            self._link()

    def _save(self, trainer: Trainer, path: Path) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(path)

    def _link(self) -> None:
        """Make last.ckpt the same file as best.ckpt; neither is ever written in place."""
        temporary = self.last.with_name(self.last.name + ".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.best, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.best, temporary)
        temporary.replace(self.last)
