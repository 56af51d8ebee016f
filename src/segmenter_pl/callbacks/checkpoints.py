"""last.ckpt and best.ckpt: whole or not at all, and enough to go on to the bit."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from segmenter_pl.callbacks.interruption import Interruption
from segmenter_pl.callbacks.schedule import optimizer_stepped, validation_follows
from segmenter_pl.files import sync_folder


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
            sync_folder(path.parent)
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
    continued. The two are files of their own, so that one can stand in for the other.

    Args:
        dirpath: folder of the two.
        every: optimizer steps between two checkpoints.
    """

    def __init__(self, dirpath: str | Path, every: int) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every={every}: give a number of steps, 1 or more")
        self.last, self.best, self.every = Path(dirpath, "last.ckpt"), Path(dirpath, "best.ckpt"), every
        self.stopping = False  # decided at a validation, by early stopping

    def state_dict(self) -> dict[str, Any]:
        return {"stopping": self.stopping}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stopping = state_dict["stopping"]

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.global_step and validation_follows(trainer) and module.last.get("step") != trainer.global_step:
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True
        trainer.should_stop |= self.stopping  # what had been decided when the run was killed

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not optimizer_stepped(trainer, batch_idx):
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        interrupted = any(isinstance(one, Interruption) and one.agreed for one in callbacks)
        if interrupted or trainer.global_step % self.every == 0 or validation_follows(trainer):
            trainer.save_checkpoint(self.last)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        self.stopping = trainer.should_stop
        # The best one first: were the run killed in between, last.ckpt would still ask for this validation.
        for path in (self.best, self.last) if module.best["step"] == trainer.global_step else (self.last,):
            trainer.save_checkpoint(path)
