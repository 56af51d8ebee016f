"""From a composed configuration to objects: the only caller of `hydra.utils.instantiate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segmenter_pl import slurm
from segmenter_pl.callbacks import AtomicCheckpointIO, Recorder
from segmenter_pl.data.balance import CLASS_WEIGHTS
from segmenter_pl.data.sampling import check_batch_size
from segmenter_pl.guard import Guard
from segmenter_pl.models import EncoderDecoder, PyramidEncoder
from segmenter_pl.models.pyramid import ONE_PICTURE
from segmenter_pl.optim import parameter_groups
from segmenter_pl.report import versions
from segmenter_pl.sharding import ShardedTask
from segmenter_pl.task import SegmentationTask

if TYPE_CHECKING:
    from segmenter_pl.data.datamodule import SegmentationDataModule

# Facts that the dataset's YAML owns for others: validation, trainer, schedule, run directory.
RECIPE_KEYS = ("name", "window", "stride", "max_steps", "val_every", "sgd_lr")


def build_datamodule(config: DictConfig) -> SegmentationDataModule:
    """The dataset of `config.dataset`; its class names and K are known at once, its files are read by `setup`."""
    settings = OmegaConf.masked_copy(config.dataset, [str(key) for key in config.dataset if key not in RECIPE_KEYS])
    settings._set_parent(config)
    return instantiate(settings, seed=config.seed, bad_sample=config.bad_sample, _convert_="all")


def safe_dataset(stored: dict[str, Any]) -> DictConfig:
    """The dataset settings of a checkpoint, which may come from anybody: only our own data modules are built from them.

    Raises:
        ValueError: the settings name another class, or hold what OmegaConf would evaluate.
    """
    folder = files("segmenter_pl.conf") / "dataset"
    known = {yaml.safe_load(entry.read_text())["_target_"] for entry in folder.iterdir() if entry.name.endswith("yaml")}
    text = json.dumps({key: value for key, value in stored.items() if key != "_target_"})
    if stored.get("_target_") not in known or "_target_" in text or "${" in text:
        raise ValueError(
            f"the checkpoint's dataset {stored.get('_target_')} is not one of {', '.join(sorted(known))}: "
            "give dataset=NAME yourself"
        )
    return OmegaConf.create(stored)


def build_model(config: DictConfig, num_classes: int) -> Any:
    """Encoder, decoder for K = `num_classes`, and the model that joins them."""
    encoder = instantiate(config.backbone, _convert_="all")
    decoder = instantiate(config.decoder, width=encoder.width, num_classes=num_classes, _convert_="all")
    # backbone=resnest101 decoder=deeplabv3plus are enough, without model=deeplabv3plus_resnest101
    if isinstance(encoder, PyramidEncoder):
        model: Any = EncoderDecoder(encoder, decoder)
    else:
        model = instantiate(config.model, encoder=encoder, decoder=decoder, _convert_="all")
    if config.compile:
        for part in model.children():
            part.compile()  # in place: the names in checkpoints stay as they are
    return model


def build_task(config: DictConfig, model: Any, datamodule: SegmentationDataModule) -> SegmentationTask:
    """The LightningModule: model, loss, optimizer, schedule and validation view."""

    def optimizer(model: nn.Module) -> Optimizer:
        groups = parameter_groups(
            model,
            lr=config.optimizer.lr,
            weight_decay=config.optimizer.weight_decay,
            decoder_lr_scale=config.decoder_lr_scale,
            layer_decay=config.get("layer_decay", 1.0),
        )
        # Loss scaling would be undone inside a fused step: after clipping, the norm and the guard have seen gradients.
        # Weights that are shared out over devices have no fused step.
        sharded = any(isinstance(p, DTensor) for p in model.parameters())
        unfused = (sharded or config.trainer.precision == "16-mixed") and "fused" in config.optimizer
        return instantiate(config.optimizer, params=groups, **({"fused": False} if unfused else {}), _convert_="all")

    def schedule(optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return instantiate(config.schedule, optimizer, total_steps, _partial_=False, _convert_="all")

    classes = datamodule.classes
    return (ShardedTask if shares_out(config) else SegmentationTask)(
        model,
        optimizer=optimizer,
        schedule=schedule,
        class_names=classes.names,
        ignore_index=classes.ignore_index,
        window=config.dataset.window,
        stride=config.dataset.stride,
        short_side=config.dataset.short_side,
        class_weights=_class_weights(config.loss.class_weights, datamodule),
        label_smoothing=config.loss.label_smoothing,
        seed=config.seed,
        guard=Guard(config.nonfinite, config.nonfinite_limit, config.bad_sample_limit),
        checkpoint_info={
            "config": plain(config),
            "classes": list(classes.names),
            "palette": [list(color) for color in classes.palette],
            "ignore_index": classes.ignore_index,
            "pictures": datamodule.pictures,
            "files": fingerprint(datamodule),
            "versions": versions(),
        },
    )


def shares_out(config: DictConfig) -> bool:
    """Whether each device has a part of the weights only (`trainer=fsdp`)."""
    strategy = config.trainer.strategy
    return isinstance(strategy, DictConfig) and strategy._target_.endswith(".ModelParallelStrategy")


def fingerprint(datamodule: SegmentationDataModule) -> dict[str, Any] | None:
    """The data's fingerprint; None for data that no file holds, or that are not there (any more)."""
    try:
        return datamodule.fingerprint()
    except FileNotFoundError:
        return None


def _class_weights(setting: Any, datamodule: SegmentationDataModule) -> Sequence[float] | None:
    if not isinstance(setting, str):
        return setting
    if setting not in CLASS_WEIGHTS:
        raise ValueError(f"loss.class_weights={setting}: give a list, null, or {' or '.join(CLASS_WEIGHTS)}")
    return CLASS_WEIGHTS[setting](datamodule.class_counts()).tolist()


def build_trainer(config: DictConfig, extra: Sequence[Callback] = ()) -> Trainer:
    """The Lightning Trainer with `extra` and the configuration's callbacks, its loggers, and files in `run_dir`."""
    settings = config.trainer
    if settings.max_steps < 1:
        raise ValueError(f"trainer.max_steps={settings.max_steps} must be at least 1: the schedule needs the end")
    if settings.limit_val_batches == 0:
        raise ValueError("trainer.limit_val_batches=0: a run ends with a validation; use 1 to make it short")
    loggers = [instantiate(one) for one in config.logger.values() if isinstance(one, DictConfig)]
    # Lightning refuses a bar that was switched off.
    hidden = () if settings.enable_progress_bar else ("progress",)
    callbacks = [instantiate(one) for name, one in config.callbacks.items() if one and name not in hidden]
    callbacks.sort(key=lambda one: isinstance(one, Recorder))  # last: its row takes the step's pictures along
    batches = settings.max_steps * settings.accumulate_grad_batches
    trainer = instantiate(
        settings,
        callbacks=[*extra, *callbacks],
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *slurm.environment()],
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
        default_root_dir=config.run_dir,
        max_epochs=1,  # the loader is one pass of the whole training
        check_val_every_n_epoch=None,
        val_check_interval=config.dataset.val_every * settings.accumulate_grad_batches,  # counts micro-batches
        log_every_n_steps=min(settings.log_every_n_steps, batches),  # it warns of more, though `Recorder` does the work
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # ours neither pad nor depend on the number of processes
        _convert_="all",
    )
    check_batch_size(config.dataset.batch_size, trainer.world_size)  # once, before processes are started
    if config.backbone._target_.endswith(".PyramidEncoder") and config.dataset.batch_size < 2 * trainer.world_size:
        raise ValueError(f"dataset.batch_size={config.dataset.batch_size}: {ONE_PICTURE}")
    return trainer


def build_evaluator(config: DictConfig, callbacks: Sequence[Callback]) -> Trainer:
    """A Trainer that only validates, and writes nothing of its own."""
    return instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=slurm.environment(),
        use_distributed_sampler=False,
        _convert_="all",
    )


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dictionaries, lists, strings and numbers."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
