"""`python train.py [group=option] [key=value]`: compose, build, fit, report."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from segmenter_pl import searchpath

searchpath.register()


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="train")
def main(config: DictConfig) -> float:
    """Train one configuration; returns the best val mIoU, for sweepers."""
    if config.run_dir is not None:
        raise ValueError(f"run_dir={config.run_dir}: the run sets it itself; use run_root, name or tag")
    config.run_dir = HydraConfig.get().runtime.output_dir
    return train(config)


def train(config: DictConfig) -> float:
    """Train into `config.run_dir`, continue what was interrupted there, or report what is finished there."""
    # Heavy imports wait until here, so that --help and shell completion are quick.
    from pathlib import Path

    from lightning import seed_everything

    from segmenter_pl import build, report

    run_dir = Path(config.run_dir)
    if (run_dir / "results.json").exists():
        results = report.read_results(run_dir)
        print(f"Finished before (tag=… trains afresh). {report.summary(results, run_dir)}")
        return results["best"]["miou"]

    report.quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build.build_datamodule(config)
    model = build.build_model(config, len(datamodule.classes))
    datamodule.pad_color = model.pixel_mean
    datamodule.setup("fit")  # here already, so that the headline can count the pictures
    task = build.build_task(config, model, datamodule)
    trainer = build.build_trainer(config)
    settings = build.plain(config)
    last = run_dir / "checkpoints" / "last.ckpt"
    if trainer.is_global_zero:
        report.write_config(settings, run_dir)
        print(report.headline(config, model, datamodule, resumed=last.exists()))
    with report.closed_loggers():
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        trainer.fit(task, datamodule=datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        results = report.write_results(task, settings, run_dir)
        print(report.summary(results, run_dir))
    return task.best["miou"]


if __name__ == "__main__":
    main()
