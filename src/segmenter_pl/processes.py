"""The processes of one run: how they begin, what they agree on, and that they end together.

Lightning starts one process a device (`trainer=ddp`), or finds itself started several times (torchrun, srun).
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_original_cwd, to_absolute_path
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities import rank_zero_only

from segmenter_pl import build, report

if TYPE_CHECKING:
    from lightning import Trainer
    from omegaconf import DictConfig

PARENT = "SEGMENTER_PARENT"  # the process that a process was started by, so that it ends with it
OF_A_JOB = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", PARENT)  # Lightning's, and ours
GRACE = 60  # seconds that processes may take to end by themselves
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
Decision = TypeVar("Decision")


class Team:
    """The processes of a run, as one of them sees them.

    Attributes:
        leader: whether this is the one that writes and speaks.
        met: whether all were started from outside and are connected already.
    """

    def __init__(self, leader: bool, met: bool) -> None:
        self.leader, self.met = leader, met

    def agreed(self, decide: Callable[[], Decision]) -> Decision:
        """What the leader decides, where all were started at once; else what each finds for itself.

        Raises what `decide` raises; SystemExit in the others, which need not say it again.
        """
        if not self.met:
            return decide()
        told: list[Any] = [None, True]
        failure = None
        if self.leader:
            try:
                told = [decide(), False]
            except Exception as error:
                failure = error
        torch.distributed.broadcast_object_list(told)
        if failure is not None:
            raise failure
        if told[1]:
            raise SystemExit(1)
        return told[0]


@contextmanager
def team(config: DictConfig) -> Iterator[Team]:
    """Around a run. Behind it, the next job of a sweep can start processes of its own.

    Raises: ValueError where each process would draw settings of its own.
    """
    outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    follow_parent()
    before = {name: os.environ.get(name) for name in OF_A_JOB}
    met = False
    if outside:
        report.quiet_lightning()
        config = config.copy()
        if build.shares_out(config):  # its strategy wants a model to be there; processes are connected as for ddp
            config.trainer.strategy = "ddp"
        strategy: Any = build.build_evaluator(config, []).strategy
        if met := getattr(strategy, "world_size", 1) > 1:
            _refuse_sweepers_that_draw()
            strategy.setup_environment()
    subprocess_script._hydra_subprocess_cmd, lightnings = job_command, subprocess_script._hydra_subprocess_cmd
    try:
        yield Team(getattr(rank_zero_only, "rank", 0) == 0, met)
    finally:
        subprocess_script._hydra_subprocess_cmd = lightnings
        if not outside:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """Around the work: the processes that this one starts end when it fails, and with their own signal at a signal.

    (Lightning's observer would kill this one too, in the middle of its last words or of the next job of a sweep.)
    """
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    except BaseException as error:
        started = getattr(trainer.strategy.launcher, "procs", [])
        deadline = time.monotonic() + (GRACE if hasattr(error, "signum") else 0)
        while time.monotonic() < deadline and any(one.poll() is None for one in started):
            time.sleep(0.1)
        for one in started:
            one.kill()
            one.wait()
        started.clear()
        raise


def job_command(local_rank: int) -> tuple[list[str], str]:
    """The command and folder of a further process of this job, in place of Lightning's.

    Lightning repeats the command line, so that each process of a sweep would run a sweep of its own, elsewhere.
    """
    import __main__  # not above: in a test it is another one

    hydra = HydraConfig.get()
    module = __main__.__spec__
    program = ["-m", module.name] if module else [to_absolute_path(sys.argv[0])]
    flags = [
        word for word in sys.argv[1:] if not re.match(r"[~+]*[\w./@:]+=|~", word) and word not in ("-m", "--multirun")
    ]
    of_sweeps = ("hydra.mode", "hydra.sweep", "hydra/sweep", "hydra/launcher", "hydra.launcher", "hydra.run.dir")
    kept = [word for word in hydra.overrides.hydra if not word.lstrip("+~").startswith(of_sweeps)]
    folder = hydra.runtime.output_dir.replace("\\", "\\\\").replace('"', '\\"')
    ours = ["hydra.mode=RUN", f'hydra.run.dir="{folder}"', f"hydra.job.name=process_{local_rank}"]
    return [sys.executable, *program, *flags, *hydra.overrides.task, *kept, *ours], get_original_cwd()


def follow_parent() -> None:
    """End this process when the one that started it has ended, however that ended."""
    parent = os.environ.get(PARENT)
    if parent is None or int(parent) == os.getpid():
        return

    def follow() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _refuse_sweepers_that_draw() -> None:
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is not None and hydra.mode == RunMode.MULTIRUN and hydra.sweeper._target_ != BASIC_SWEEPER:
        raise ValueError(
            f"hydra/sweeper={hydra.runtime.choices['hydra/sweeper']}: each process that torchrun or srun has started "
            "would draw settings of its own. Start the sweep without them (trainer=ddp starts the processes of each "
            "trial itself), or with trainer.devices=1"
        )
