"""Several processes of one run: the same numbers, also in parts and in sweeps."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.starting import QUIET, SMALL, TWO, children, column, free_port, metrics, start, wait_for
from tests.test_commands import run

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
    ("trainer", "precision", "relative"),
    [("ddp", "64-true", 1e-6), pytest.param("fsdp", "32-true", 1e-4, marks=pytest.mark.slow)],
    ids=["ddp", "fsdp"],
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
    os.kill(children(first.pid)[0], signal.SIGTERM)  # to the second process only
    said = first.communicate(timeout=90)[1]
    assert first.returncode == 143, said
    assert "Warning" not in said
    second = run("train.py", *options, runs=tmp_path / "parts")
    assert whole.returncode == second.returncode == 0, whole.stderr + second.stderr
    assert "Continuing after step" in second.stdout
    same_numbers(tmp_path / "whole", tmp_path / "parts", steps=6, relative=relative)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_sweeper_that_draws_in_each_process_is_refused(tmp_path: Path, drawing: dict[str, str]) -> None:
    launch = ("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    ran = run(*launch, "train.py", *SWEEP, *TWO, runs=tmp_path / "runs", environment=drawing)
    assert ran.returncode == 1
    assert "hydra/sweeper=drawing: each process that torchrun or srun has started would draw settings" in ran.stderr
    assert not list(tmp_path.glob("runs/**/*.csv"))
