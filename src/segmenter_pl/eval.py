"""`python eval.py ckpt=PATH`: sliding-window evaluation at the size of the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from segmenter_pl import searchpath
from segmenter_pl.faults import check_bounds, check_overrides, command, told_at_once

if TYPE_CHECKING:
    from pathlib import Path

    from segmenter_pl.data.classes import Classes
    from segmenter_pl.evaluation import EvaluationTask
    from segmenter_pl.interop import Blueprint
    from segmenter_pl.models import EncoderDecoder

searchpath.register()


def main() -> None:
    """The command."""
    command(run)


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="eval")
def run(config: DictConfig) -> float:
    """Evaluate one checkpoint; returns its mIoU."""
    check_overrides(config)
    with told_at_once():
        return evaluate(config)


def evaluate(config: DictConfig) -> float:
    """Evaluate `config.ckpt` and write what `evaluation.report` lists beside it, if asked for with label PNGs.

    Returns the mIoU, NaN for a split without labels.
    """
    # Heavy imports wait until here, so that --help and shell completion are quick.
    from pathlib import Path

    from segmenter_pl import build, report
    from segmenter_pl.callbacks import Interruption
    from segmenter_pl.checkpoint import blueprint_of, named
    from segmenter_pl.evaluation import TTA, EvaluationProgress, EvaluationTask, Fraction, LabelWriter
    from segmenter_pl.evaluation.report import evaluation_folder
    from segmenter_pl.guard import enough_memory
    from segmenter_pl.processes import ending_together, team

    check_bounds(config)
    _check_settings(config, list(TTA))
    checkpoint = Path(config.ckpt)
    with named(config.ckpt):
        blueprint = blueprint_of(config.ckpt)
        model = blueprint.build()
    trained = _choose_dataset(config, blueprint)
    report.quiet_lightning()
    datamodule = build.build_datamodule(config)
    datamodule.eval_split = config.split
    classes = datamodule.classes
    _check_classes(config, model, classes)
    datamodule.setup("validate")
    labelled = datamodule.val_set.labelled
    _check_labels(config, labelled)
    view = {
        key: getattr(model.spec, key) if config[key] == "auto" else config[key]
        for key in ("window", "stride", "short_side")
    }
    task = EvaluationTask(
        model,
        class_names=classes.names,
        ignore_index=classes.ignore_index,
        labelled=labelled,
        without_foreground=datamodule.without_foreground,
        settings={**view, **TTA[config.tta]},  # type: ignore[typeddict-item]
    )
    assert model.spec is not None
    folder = evaluation_folder(checkpoint, build.plain(config), model.spec, trained)
    callbacks: list[Any] = [LabelWriter(folder, config.submission)] if config.save_predictions else []
    callbacks += [Fraction(config.fraction)] if config.fraction < 1 else []
    callbacks += [EvaluationProgress()] if config.trainer.enable_progress_bar else []
    interruption = Interruption()
    trainer = build.build_evaluator(config, [interruption, *callbacks])
    with team(config), interruption.installed(), enough_memory(config), ending_together(trainer):
        trainer.validate(task, datamodule=datamodule, verbose=False)
        if trainer.is_global_zero:
            _write(task, {**build.plain(config), **view}, folder, blueprint.info.get("config", {}))
    return task.results["val"]["miou"] if labelled else float("nan")


def _write(task: EvaluationTask, settings: dict[str, Any], folder: Path, training: dict[str, Any]) -> None:
    """Results into their folder, to W&B if asked for, and to the terminal."""
    from segmenter_pl.evaluation.mirror import log_evaluation
    from segmenter_pl.evaluation.report import class_table, evaluation_lines, write_evaluation

    write_evaluation(task, settings, folder)
    if task.labelled:
        if settings["wandb"]:
            log_evaluation(task, settings, folder, training, project=settings["wandb"])
        print(class_table(task.results))
    print(evaluation_lines(task, folder))


def _check_settings(config: DictConfig, augmentations: list[str]) -> None:
    from segmenter_pl.data.submission import SUBMISSIONS

    for key in ("window", "stride", "short_side"):
        allowed = ("auto", None) if key == "short_side" else ("auto",)
        if config[key] not in allowed and not (type(config[key]) is int and config[key] > 0):
            raise ValueError(f"{key}={config[key]}: give a whole number of pixels, or {' or '.join(map(str, allowed))}")
    if config.tta not in augmentations:
        raise ValueError(f"tta={config.tta}: choose {', '.join(augmentations)}")
    if config.submission not in (None, *SUBMISSIONS):
        raise ValueError(f"submission={config.submission}: choose {', '.join(SUBMISSIONS)}, or null")
    if config.submission and not config.save_predictions:
        raise ValueError(f"submission={config.submission} writes label files: give save_predictions=true too")
    if type(config.fraction) not in (int, float) or not 0 < config.fraction <= 1:
        raise ValueError(f"fraction={config.fraction}: give a number above 0 and up to 1")


def _check_labels(config: DictConfig, labelled: bool) -> None:
    if not labelled and not config.save_predictions:
        raise ValueError(
            f"split={config.split} has no labels to compare with: give save_predictions=true for label files"
        )


def _choose_dataset(config: DictConfig, blueprint: Blueprint) -> dict[str, Any]:
    """Where the settings name no dataset, take the checkpoint's, with the settings that there are on top.

    Returns the checkpoint's dataset settings; empty for a checkpoint of another implementation.
    """
    from segmenter_pl import build

    stored: dict[str, Any] = dict(blueprint.info.get("config", {}).get("dataset", {}))
    if config.dataset is None or "_target_" not in config.dataset:
        if "_target_" not in stored:
            raise ValueError(f"ckpt={config.ckpt} ({blueprint.source}) tells no dataset: give dataset=NAME")
        config.dataset = OmegaConf.merge(build.safe_dataset(stored), config.dataset or {})
    return stored


def _check_classes(config: DictConfig, model: EncoderDecoder, classes: Classes) -> None:
    assert model.spec is not None
    if len(classes) != model.num_classes:
        raise ValueError(
            f"ckpt={config.ckpt} predicts {model.num_classes} classes but dataset {config.dataset.name} has "
            f"{len(classes)}: choose the dataset it was trained on"
        )
    if model.spec.classes not in (None, classes.names):
        pairs = zip(model.spec.classes or (), classes.names, strict=True)
        trained, here = next(pair for pair in pairs if pair[0] != pair[1])
        raise ValueError(
            f"ckpt={config.ckpt} was trained with other classes than dataset {config.dataset.name} has: "
            f"{trained!r} stands where this has {here!r}; choose the dataset it was trained on"
        )


if __name__ == "__main__":
    main()
