"""`python train.py [group=option] [key=value]`: compose, build, fit, report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from segmenter_pl import searchpath
from segmenter_pl.faults import check_bounds, check_overrides, command, told_at_once

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback

searchpath.register()


def main() -> None:
    """The command."""
    command(run)


@hydra.main(version_base="1.3", config_path="pkg://segmenter_pl.conf", config_name="train")
def run(config: DictConfig) -> float:
    """Train one configuration; returns the best val mIoU, for sweepers."""
    check_overrides(config)
    if config.run_dir is not None:
        raise ValueError(f"run_dir={config.run_dir}: the run sets it itself; use run_root, name or tag")
    config.run_dir = HydraConfig.get().runtime.output_dir
    with told_at_once():
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
    from segmenter_pl.callbacks import Interrupted, Interruption
    from segmenter_pl.guard import enough_memory
    from segmenter_pl.locking import sole_owner

    check_bounds(config)
    run_dir, settings = Path(config.run_dir), build.plain(config)
    leader = getattr(rank_zero_only, "rank", 0) == 0
    interruption = Interruption()
    busy = f"another process is training in {run_dir}: wait for it, or give this run a tag=WORD of its own"
    with sole_owner(run_dir, busy) if leader else nullcontext():
        if config.resume != "never" and (run_dir / "results.json").exists():
            results = report.read_results(run_dir)
            resume.refuse_other_settings(results["config"], settings, run_dir / "results.json")
            now = build.fingerprint(build.build_datamodule(config))
            resume.refuse_other_files(run_dir / "results.json", results.get("files"), now)
            print(f"Finished before (tag=… trains afresh). {report.summary(results, run_dir)}")
            return results["best"]["miou"]
        try:
            with interruption.installed(), enough_memory(config):
                return _fit(config, settings, run_dir, interruption, leader)
        except Interrupted as stop:
            if leader:
                print(f"Stopped by {stop}. {report.way_on(run_dir)}", file=sys.stderr)
            raise SystemExit(128 + stop.signum) from None


def _fit(config: DictConfig, settings: dict[str, Any], run_dir: Path, interruption: Callback, leader: bool) -> float:
    from lightning import seed_everything

    from segmenter_pl import build, loggers, report, resume

    checkpoint = resume.starting_point(settings, run_dir, leader=leader)
    report.quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build.build_datamodule(config)
    model = build.build_model(config, len(datamodule.classes))
    datamodule.pad_color = model.pixel_mean
    datamodule.setup("fit")  # here already, so that the headline can count the pictures
    task = build.build_task(config, model, datamodule)
    trainer = build.build_trainer(config, [interruption])
    saves = trainer.checkpoint_callback is not None
    done = resume.refuse_other_data(checkpoint, task.checkpoint_info, saves=saves) if checkpoint else 0
    if leader:
        report.write_config(settings, run_dir)
        print(report.headline(config, model, datamodule, done=done))
    with loggers.finished(trainer.loggers):
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        if task.last.get("step") != trainer.global_step:  # the run was killed in its last validation
            trainer.validate(task, datamodule=datamodule, verbose=False)
    if leader:
        results = report.write_results(task, settings, run_dir)
        print(report.summary(results, run_dir))
    return task.best["miou"]


if __name__ == "__main__":
    main()
