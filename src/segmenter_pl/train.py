"""`python train.py [group=option] [key=value]`: compose, build, fit, report."""

from __future__ import annotations

import signal
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

    from segmenter_pl.processes import Team

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

    from segmenter_pl import build, report, slurm
    from segmenter_pl.callbacks import Interrupted, Interruption
    from segmenter_pl.guard import enough_memory
    from segmenter_pl.locking import sole_owner
    from segmenter_pl.processes import team

    check_bounds(config)
    run_dir, settings = Path(config.run_dir), build.plain(config)
    interruption = Interruption()
    busy = f"another process is training in {run_dir}: wait for it, or give this run a tag=WORD of its own"
    with team(config) as processes, sole_owner(run_dir, busy) if processes.leader else nullcontext():
        if results := processes.agreed(lambda: _finished(config, settings, run_dir)):
            if processes.leader:
                print(f"Finished before (tag=… trains afresh). {report.summary(results, run_dir)}")
            return results["best"]["miou"]
        try:
            with interruption.installed(), enough_memory(config):
                return _fit(config, settings, run_dir, interruption, processes)
        except Interrupted as stop:
            if processes.leader:
                queued = f". {slurm.requeue()}" if stop.signum == signal.SIGUSR1 else ""
                print(f"Stopped by {stop}. {report.way_on(run_dir)}{queued}", file=sys.stderr)
            raise SystemExit(128 + stop.signum) from None


def _finished(config: DictConfig, settings: dict[str, Any], run_dir: Path) -> dict[str, Any] | None:
    """The results of this very run, where there are any. Raises ValueError where those there are of another one."""
    from segmenter_pl import build, report, resume

    path = run_dir / "results.json"
    if config.resume == "never" or not path.exists():
        return None
    results = report.read_results(run_dir)
    resume.refuse_other_settings(results["config"], settings, path)
    resume.refuse_other_files(path, results.get("files"), build.fingerprint(build.build_datamodule(config)))
    return results


def _fit(config: DictConfig, settings: dict[str, Any], run_dir: Path, interruption: Callback, processes: Team) -> float:
    from lightning import seed_everything

    from segmenter_pl import build, loggers, report, resume
    from segmenter_pl.processes import ending_together

    leader = processes.leader
    checkpoint = processes.agreed(lambda: resume.starting_point(settings, run_dir, leader=leader))
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
    with loggers.finished(trainer.loggers), ending_together(trainer):
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
