"""Several processes of one run, as Lightning, torchrun, srun and sweeps start them."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.test_commands import ROOT, TINY, run

QUIET = ("trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu")
TWO = ("trainer=ddp", "trainer.devices=2", *QUIET)
SMALL = (*TINY, "dataset.batch_size=4", "dataset.train_images=24", "trainer.limit_val_batches=2", "decoder.dropout=0")


def start(*words: str, runs: Path, **environment: str) -> subprocess.Popen[str]:
    settings = {**os.environ, "SEGMENTER_RUNS": str(runs), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(runs: Path) -> list[dict[str, str]]:
    (path,) = runs.glob("**/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(runs: Path) -> list[str]:
    return [path.read_text() for path in runs.glob("**/metrics.csv")]


def column(runs: Path, key: str) -> list[float]:
    return [float(row[key]) for row in rows(runs) if row[key]]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pids: Iterable[int]) -> list[int]:
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [
        pid for pid, stat in states.items() if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


# Stochastic depth, an ignored area of its own in each picture, accumulation; float64, so that only order is left.
EQUAL = (
    *SMALL,
    "trainer.limit_val_batches=null",  # of each process
    *("trainer.max_steps=4", "dataset.val_every=2", "trainer.accumulate_grad_batches=2", "trainer.precision=64-true"),
    *(
        "backbone.depth=2",
        "backbone.drop_path_rate=0.5",
        "dataset.short_side=128",
        "dataset.scale=[0.3,1.1]",
        "optimizer.lr=0.02",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_optimise_the_same_loss(tmp_path: Path, processes: int) -> None:
    one = run("train.py", *EQUAL, *QUIET, runs=tmp_path / "one")
    devices = ("trainer=ddp", *QUIET, f"trainer.devices={processes}")
    several = run("train.py", *EQUAL, *devices, runs=tmp_path / "several")
    assert one.returncode == several.returncode == 0, one.stderr + several.stderr
    assert "Warning" not in several.stderr
    same_numbers(tmp_path / "one", tmp_path / "several", steps=4)


def same_numbers(one: Path, other: Path, *, steps: int, relative: float = 1e-6) -> None:
    for key in ("train/loss", "train/grad_norm"):
        expected, found = (column(runs, key) for runs in (one, other))
        assert len(expected) == steps
        assert found == pytest.approx(expected, rel=relative)
    if relative == 1e-6:
        assert column(one, "val/miou") == column(other, "val/miou")  # to the bit


@pytest.mark.parametrize(
    ("trainer", "precision", "relative"), [("ddp", "64-true", 1e-6), ("fsdp", "32-true", 1e-4)], ids=["ddp", "fsdp"]
)
def test_a_run_goes_on_with_another_number_of_processes(
    tmp_path: Path, trainer: str, precision: str, relative: float
) -> None:
    """Two processes begin, one goes on, and the samples, losses and results are those of a run that one has made."""
    options = (*EQUAL, "trainer.max_steps=6", "dataset.val_every=3", "checkpoint_every=1")
    options = (*options, f"trainer.precision={precision}", *QUIET)
    whole = run("train.py", *options, runs=tmp_path / "whole")
    first = start("train.py", *options, f"trainer={trainer}", "trainer.devices=2", runs=tmp_path / "parts")
    wait_for(lambda: first.poll() is not None or any("val/miou" in row for row in metrics(tmp_path / "parts")))
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=90)[1]
    assert first.returncode == 143, said
    assert "Warning" not in said
    second = run("train.py", *options, runs=tmp_path / "parts")
    assert whole.returncode == second.returncode == 0, whole.stderr + second.stderr
    assert "Continuing after step" in second.stdout
    same_numbers(tmp_path / "whole", tmp_path / "parts", steps=6, relative=relative)


def test_torchrun_on_two_nodes_is_one_run(tmp_path: Path) -> None:
    """Two nodes are two launches of torchrun; both find the run, continue it, and find it finished."""
    port = free_port()

    def nodes(steps: int) -> list[tuple[int, str, str]]:
        words = ("train.py", *SMALL, "dataset.val_every=2", f"trainer.max_steps={steps}", "trainer=ddp", *QUIET)
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


def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=5000", "dataset.val_every=5000", *TWO)
    first = start(*words, runs=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("**/metrics.csv"))))
    (second,) = children(first.pid)
    os.kill(second, signal.SIGKILL)
    said = first.communicate(timeout=60)[1]
    assert first.returncode in (1, 137, -9), said
    assert "Traceback" not in said
    assert not alive([second])


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=5000", "dataset.val_every=5000", *TWO)
    first = start(*words, runs=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("**/metrics.csv"))))
    started = children(first.pid)
    first.kill()
    first.communicate(timeout=60)
    wait_for(lambda: not alive(started), 60)


def test_what_all_processes_meet_is_told_once(tmp_path: Path) -> None:
    words = ("train.py", *SMALL, "trainer.max_steps=50", "optimizer.lr=1e30", *TWO)
    ended = run(*words, runs=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("Error: nonfinite=stop") == 1, ended.stderr
    assert "Traceback" not in ended.stderr


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


DRAWING = """
import random
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

class DrawingSweeper(BasicSweeper):
    def sweep(self, arguments):
        return super().sweep([*arguments, f"optimizer.lr={random.uniform(0.001, 0.01)}"])

node = {"_target_": "hydra_plugins.drawing.DrawingSweeper", "max_batch_size": None, "params": None}
ConfigStore.instance().store(group="hydra/sweeper", name="drawing", node=node)
"""


@pytest.fixture
def drawing(tmp_path: Path) -> dict[str, str]:
    """A sweeper that draws a rate at random, as Optuna does; what makes Python find it."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/drawing.py").write_text(DRAWING)
    return {"PYTHONPATH": f"{tmp_path}"}


SWEEP = ("-m", "hydra/sweeper=drawing", *SMALL, "trainer.max_steps=1", "trainer.limit_val_batches=1")


def test_a_sweep_over_processes_stays_in_one_directory(tmp_path: Path, drawing: dict[str, str]) -> None:
    """Each job starts its own processes, which get what the sweeper has drawn and the directory of the job."""
    ran = run("train.py", *SWEEP, "seed=0,1", *TWO, runs=tmp_path / "runs", environment=drawing)
    assert ran.returncode == 0, ran.stderr
    found = sorted(tmp_path.glob("runs/shapes/*/seed-*/results.json"))
    assert [path.parent.name for path in found] == ["seed-0", "seed-1"]
    assert len({path.parent.parent for path in found}) == 1
    assert ran.stdout.count("val mIoU") == 2
    (rate,) = {json.loads(path.read_text())["config"]["optimizer"]["lr"] for path in found}
    assert 0.001 < rate < 0.01
    assert len(metrics(tmp_path / "runs")) == 2


def test_a_sweeper_that_draws_in_each_process_is_refused(tmp_path: Path, drawing: dict[str, str]) -> None:
    launch = ("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    ran = run(*launch, "train.py", *SWEEP, *TWO, runs=tmp_path / "runs", environment=drawing)
    assert ran.returncode == 1
    assert "hydra/sweeper=drawing: each process that torchrun or srun has started would draw settings" in ran.stderr
    assert not list(tmp_path.glob("runs/**/*.csv"))


SHORT_OF_MEMORY = """
import os
if os.environ.get("LOCAL_RANK") == "1":
    import segmenter_pl.task
    def fail(*arguments, **keywords):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12345 bytes")
    segmenter_pl.task.upsampled_cross_entropy = fail
"""


def test_one_process_short_of_memory_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/short_of_memory.py").write_text(SHORT_OF_MEMORY)
    words = ("train.py", *SMALL, "trainer.max_steps=5", *TWO)
    ended = run(*words, runs=tmp_path / "runs", environment={"PYTHONPATH": f"{tmp_path}"})
    assert ended.returncode not in (0, None)
    assert ended.stderr.count("out of memory with trainer.precision=32-true, dataset.batch_size=4") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
