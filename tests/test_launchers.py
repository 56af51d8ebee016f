"""Runs that torchrun and srun start."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.starting import QUIET, SMALL, column, free_port, start, wait_for
from tests.test_commands import TINY, run


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_torchrun_on_two_nodes_is_one_run(tmp_path: Path, trainer: str) -> None:
    """Two nodes are two launches of torchrun; both find the run, continue it, and find it finished."""
    port = free_port()

    def nodes(steps: int) -> list[tuple[int, str, str]]:
        words = ("train.py", *SMALL, "dataset.val_every=2", f"trainer.max_steps={steps}", f"trainer={trainer}", *QUIET)
        launch = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--master-port={port}")
        started = [
            start(*launch, f"--node-rank={rank}", *words, "trainer.devices=1", "trainer.num_nodes=2", runs=tmp_path)
            for rank in (0, 1)
        ]
        told = [process.communicate(timeout=120) for process in started]
        return [(process.returncode, *said) for process, said in zip(started, told, strict=True)]

    (code, told, error), (other, silent, _) = nodes(2)
    assert (code, other) == (0, 0), error
    assert told.count("val mIoU") == 1
    assert "val mIoU" not in silent
    assert len(list(tmp_path.glob("shapes/*/seed-0/metrics.csv"))) == 1
    (code, told, error), (other, silent, _) = nodes(2)
    assert (code, other) == (0, 0), error
    assert "Finished before" in told
    assert "Finished before" not in silent


SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
SLURM |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}


def test_slurm_saves_and_goes_back_into_the_queue(tmp_path: Path) -> None:
    """Two tasks as srun starts them; SIGUSR1 to both, `scontrol requeue` once, and the run goes on."""
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    settings = {**SLURM, "MASTER_PORT": free_port(), "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    words = ("train.py", *SMALL, "trainer.max_steps=60", "dataset.val_every=60", "trainer=slurm", *QUIET)

    def tasks() -> list[subprocess.Popen[str]]:
        ranks = ({"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1))
        return [start(*words, runs=tmp_path / "runs", **settings, **rank) for rank in ranks]

    started = tasks()
    wait_for(lambda: len(list(tmp_path.glob("runs/**/metrics.csv"))))
    for task in started:
        task.send_signal(signal.SIGUSR1)
    said = [task.communicate(timeout=90)[1] for task in started]
    assert [task.returncode for task in started] == [128 + signal.SIGUSR1] * 2, said
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    assert said[0].count("It is back in the queue as job 4711") == 1
    assert not list(tmp_path.glob("**/hpc_ckpt*"))
    again = tasks()
    told = [task.communicate(timeout=120) for task in again]
    assert [task.returncode for task in again] == [0, 0], told
    assert "Continuing after step" in told[0][0]
    assert len(column(tmp_path / "runs", "train/loss")) == 60


def test_slurm_outside_of_slurm_says_how_to_start_it(tmp_path: Path) -> None:
    refused = run("train.py", *TINY, "trainer=slurm", runs=tmp_path)
    assert refused.returncode == 1
    assert "SLURM_NTASKS_PER_NODE is not set. Start the run with `srun" in refused.stderr
