"""`python eval.py ckpt=PATH`: sliding-window evaluation at the size of the labels."""

import hydra
from omegaconf import DictConfig, OmegaConf

from segmenter_pl import searchpath
from segmenter_pl.faults import check_overrides, explained

searchpath.register()


def main() -> None:
    """The command."""
    with explained():
        run()


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="eval")
def run(config: DictConfig) -> float:
    """Evaluate one checkpoint; returns its mIoU."""
    check_overrides(config)
    return evaluate(config)


def evaluate(config: DictConfig) -> float:
    """Evaluate `config.ckpt` and write results.json, classes.csv and, if asked for, label PNGs beside it."""
    from pathlib import Path

    from segmenter_pl import build, report
    from segmenter_pl.callbacks import SavePredictions
    from segmenter_pl.checkpoint import load_segmenter, read_checkpoint
    from segmenter_pl.task import SegmentationTask

    for key in ("window", "stride", "short_side"):
        allowed = ("auto", None) if key == "short_side" else ("auto",)
        if config[key] not in allowed and not (type(config[key]) is int and config[key] > 0):
            raise ValueError(f"{key}={config[key]}: give a whole number of pixels, or {' or '.join(map(str, allowed))}")
    checkpoint = Path(config.ckpt)
    model = load_segmenter(checkpoint)
    assert model.spec is not None
    if config.dataset is None or "_target_" not in config.dataset:
        if model.spec.classes is None:
            raise ValueError(f"ckpt={config.ckpt} is an official checkpoint, which tells no dataset: give dataset=NAME")
        stored = read_checkpoint(checkpoint)["segmenter"]["config"]["dataset"]
        config.dataset = OmegaConf.merge(build.safe_dataset(stored), config.dataset or {})
    view = {
        key: getattr(model.spec, key) if config[key] == "auto" else config[key]
        for key in ("window", "stride", "short_side")
    }
    report.quiet_lightning()
    datamodule = build.build_datamodule(config)
    datamodule.eval_split = config.split
    classes = datamodule.classes
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
    folder = report.evaluation_folder(checkpoint, config)
    task = SegmentationTask(model, class_names=classes.names, ignore_index=classes.ignore_index, **view)
    callbacks = [SavePredictions(folder / "predictions")] if config.save_predictions else []
    trainer = build.build_evaluator(config, callbacks)
    trainer.validate(task, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        report.write_evaluation(task, {**build.plain(config), **view}, folder)
        print(report.class_table(task.last))
        print(report.evaluation_line(task, folder))
    return task.last["miou"]


if __name__ == "__main__":
    main()
