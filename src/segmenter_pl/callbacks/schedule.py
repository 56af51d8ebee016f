"""When things are due, for all callbacks alike."""

from lightning import Trainer


def optimizer_stepped(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this micro-batch, counted from 0 over the whole training, completed an optimizer step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def validation_follows(trainer: Trainer) -> bool:
    """Whether the optimizer step just done is followed by a validation: every N steps, and after the last one."""
    batches = trainer.global_step * trainer.accumulate_grad_batches
    return trainer.global_step >= trainer.max_steps or batches % int(trainer.val_check_batch or 1) == 0
