"""`python train.py [group=option] [key=value]`: compose, build, fit, report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from segmenter_pl import searchpath
from segmenter_pl.faults import check_overrides, explained

if TYPE_CHECKING:
    from pathlib import Path

searchpath.register()


def main() -> None:
    """The command."""
    try:
        with explained():
            run()
    except KeyboardInterrupt:
        print("Stopped before training began", file=sys.stderr)
        raise SystemExit(130) from None


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="train")
def run(config: DictConfig) -> float:
    """Train one configuration; returns the best val mIoU, for sweepers."""
    check_overrides(config)
    if config.run_dir is not None:
        raise ValueError(f"run_dir={config.run_dir}: the run sets it itself; use run_root, name or tag")
    config.run_dir = HydraConfig.get().runtime.output_dir
    return train(config)


def train(config: DictConfig) -> float:
    """Train into `config.run_dir`, continue what was interrupted there, or report what is finished there.

    Raises SystemExit with 128 + the signal's number where SIGINT or SIGTERM ends the run.
    """
    # Heavy imports wait until here, so that --help and shell completion are quick.
    from contextlib import nullcontext
    from pathlib import Path

    from lightning.pytorch.utilities import rank_zero_only

    from segmenter_pl import build, report, resume
    from segmenter_pl.callbacks import Interrupted

    run_dir, settings = Path(config.run_dir), build.plain(config)
    leader = getattr(rank_zero_only, "rank", 0) == 0
    with resume.sole_owner(run_dir) if leader else nullcontext():
        checkpoint = resume.starting_point(settings, run_dir, leader=leader)
        if (run_dir / "results.json").exists():
            results = report.read_results(run_dir)
            print(f"Finished before (tag=… trains afresh). {report.summary(results, run_dir)}")
            return results["best"]["miou"]
        try:
            with report.enough_memory(config):
                return _fit(config, settings, run_dir, checkpoint)
        except Interrupted as stop:
            if leader:
                print(f"Stopped by {stop}; the same command continues in {run_dir}", file=sys.stderr)
            raise SystemExit(128 + stop.signum) from None


def _fit(config: DictConfig, settings: dict[str, Any], run_dir: Path, checkpoint: Path | None) -> float:
    from lightning import seed_everything

    from segmenter_pl import build, report
    from segmenter_pl.checkpoint import read_checkpoint

    report.quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build.build_datamodule(config)
    model = build.build_model(config, len(datamodule.classes))
    datamodule.pad_color = model.pixel_mean
    datamodule.setup("fit")  # here already, so that the headline can count the pictures
    task = build.build_task(config, model, datamodule)
    trainer = build.build_trainer(config)
    if trainer.is_global_zero:
        report.write_config(settings, run_dir)
        done = read_checkpoint(checkpoint)["global_step"] if checkpoint else 0
        print(report.headline(config, model, datamodule, done=done))
    with report.closed_loggers(trainer):
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        if task.last.get("step") != trainer.global_step:  # the run was killed in its last validation
            trainer.validate(task, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        results = report.write_results(task, settings, run_dir)
        print(report.summary(results, run_dir))
    return task.best["miou"]


if __name__ == "__main__":
    main()
