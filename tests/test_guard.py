"""Steps and pictures that are not sound: said by name, left out where that is asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image

from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.eval import evaluate
from segmenter_pl.guard import Guard, enough_memory
from segmenter_pl.task import SegmentationTask
from segmenter_pl.train import train
from tests.test_train import QUIET, configured, tiny_run


def broken_steps(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Have the loss of these steps (from 1) be NaN."""
    real = SegmentationTask.training_step

    def step(self: SegmentationTask, batch: Any, batch_idx: int) -> Any:
        loss = real(self, batch, batch_idx)
        return loss * float("nan") if batch_idx + 1 in steps else loss

    monkeypatch.setattr(SegmentationTask, "training_step", step)


@pytest.fixture(params=[False, True], ids=["at-once", "deferred"])
def deferred(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps judged as on a CPU, and as on a GPU: one step later, left out by the fused optimizer itself."""
    monkeypatch.setattr(Guard, "defers", staticmethod(lambda optimizer, device: request.param))


@pytest.mark.usefixtures("deferred")
def test_a_run_that_explodes_is_stopped_before_the_weights_are_spoilt(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nonfinite=stop: step 2 has loss") as stopped:
        train(tiny_run(tmp_path, "optimizer.lr=1e30", "checkpoint_every=1"))
    message = str(stopped.value)
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))).permutation(512)
    assert f"pictures {', '.join(f'train_{i:03d}' for i in order[4:8])})" in message  # those of step 2
    assert "rate 7.72e+29" in message  # (1e30 - 1e-5) · (3/4)^0.9
    assert "gradient_clip_val" in message
    assert "nonfinite=skip" in message
    state = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert state["global_step"] == 1
    assert all(value.isfinite().all() for value in state["state_dict"].values())


class Snapshots(Callback):
    """Weights and momentum after every step."""

    def __init__(self) -> None:
        self.taken: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        momentum = [state["momentum_buffer"] for state in trainer.optimizers[0].state.values()]
        self.taken.append([tensor.detach().clone() for tensor in (*module.parameters(), *momentum)])


@pytest.mark.usefixtures("deferred")
def test_a_step_that_is_left_out_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_steps(monkeypatch, 3)
    snapshots = Snapshots()
    from segmenter_pl import build

    real = build.build_trainer
    monkeypatch.setattr(build, "build_trainer", lambda *arguments: with_callback(real(*arguments), snapshots))
    train(tiny_run(tmp_path, "nonfinite=skip", "optimizer.weight_decay=0.1"))
    _, second, third, fourth = snapshots.taken
    assert all(torch.equal(before, after) for before, after in zip(second, third, strict=True))
    assert not all(torch.equal(before, after) for before, after in zip(third, fourth, strict=True))
    said = capsys.readouterr()
    assert "Left out: step 3 has loss" in said.err
    assert "Left out: 1 steps without a finite loss or gradient" in said.out
    assert json.loads((tmp_path / "results.json").read_text())["faults"]["skipped_steps"] == 1


def with_callback(trainer: Any, callback: Callback) -> Any:
    trainer.callbacks.insert(0, callback)
    return trainer


@pytest.mark.usefixtures("deferred")
def test_the_number_of_steps_left_out_is_limited_also_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_steps(monkeypatch, 2, 4)
    overrides = ("nonfinite=skip", "nonfinite_limit=1", "checkpoint_every=1")
    for _ in range(2):  # the second start continues after step 3
        with pytest.raises(ValueError, match=r"nonfinite_limit=1 steps are left out already, and step 4 has loss"):
            train(tiny_run(tmp_path, *overrides))
    assert read_checkpoint(tmp_path / "checkpoints/last.ckpt")["segmenter"]["faults"]["skipped_steps"] == 1
    with pytest.raises(ValueError, match="nonfinite=often: choose stop or skip"):
        train(tiny_run(tmp_path / "other", "nonfinite=often"))


def folder(root: Path, *, val: int = 3) -> Path:
    """Six training pictures and some to validate, two classes; reproducible."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", val)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = (rng.random((6, 8)) > 0.5).astype(np.uint8).repeat(12, 0).repeat(12, 1)  # (72, 96)
            image = (mask[..., None] * 90 + rng.integers(0, 60, (72, 96, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{i}.jpg")
            Image.fromarray(mask).save(root / "labels" / split / f"{i}.png")
    (root / "classes.csv").write_text("id,name\n0,dark\n1,light\n")
    return root


def of_folder(root: Path, run_dir: Path, *overrides: str) -> Any:
    sizes = [f"dataset.{key}" for key in ("crop=48", "window=48", "stride=32", "short_side=72")]
    return tiny_run(run_dir, "dataset=folder", f"dataset.root={root}", *sizes, *overrides)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_ends_the_run_by_name(workers: int, tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    cut_short(root / "images/train/4.jpg")
    with pytest.raises(ValueError, match=r"images/train/4\.jpg is damaged"):
        train(of_folder(root, tmp_path / "run", f"dataset.num_workers={workers}"))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_can_be_left_out_and_are_counted(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data")
    cut_short(root / "images/train/4.jpg")
    (root / "labels/val/1.png").write_bytes(b"")
    train(of_folder(root, tmp_path / "run", "bad_sample=skip", f"dataset.num_workers={workers}"))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert [message.split(" is damaged")[0] for message in results["faults"]["unreadable"]] == [
        str(root / "images/train/4.jpg"),
        str(root / "labels/val/1.png"),
    ]
    assert "Left out: 2 pictures that cannot be read (results.json: faults)" in capsys.readouterr().out
    # What is left out of a validation does not count: the same as if it had never been there.
    checkpoint = f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}"
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (root / kind / f"val/1.{suffix}").unlink()
    assert evaluate(configured("eval", checkpoint, *QUIET)) == results["val"]["miou"]


def test_a_folder_that_vanishes_is_no_accident(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    for path in (root / "images/train").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad_sample_limit=2: 3 pictures cannot be read, the last one: .*still there"):
        train(of_folder(root, tmp_path / "run", "bad_sample=skip", "bad_sample_limit=2", "dataset.num_workers=0"))


def test_a_label_outside_the_table_is_no_unreadable_picture(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    Image.fromarray(np.full((72, 96), 9, np.uint8)).save(root / "labels/train/2.png")
    with pytest.raises(ValueError, match=r"2\.png holds label values without a class: 9"):
        train(of_folder(root, tmp_path / "run", "bad_sample=skip", "dataset.num_workers=0"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_names_the_sizes_and_what_to_try(error: Exception) -> None:
    config = configured("train", "dataset.batch_size=6", "trainer.accumulate_grad_batches=2")
    with pytest.raises(MemoryError) as refused, enough_memory(config):
        raise error
    message = str(refused.value)
    assert "trainer.precision=32-true, dataset.batch_size=6, dataset.crop=128, dataset.window=128 (" in message
    assert "dataset.batch_size=3 trainer.accumulate_grad_batches=4" in message
    assert "More text" not in message


def test_an_odd_batch_is_not_halved() -> None:
    with pytest.raises(MemoryError) as refused, enough_memory(configured("train", "dataset.batch_size=7")):
        raise MemoryError
    assert "the same steps" not in str(refused.value)


def test_other_errors_are_not_called_out_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), enough_memory(configured("train")):
        raise RuntimeError("shapes differ")


def test_what_the_cpu_says_is_understood() -> None:
    config = configured("train", "dataset.batch_size=1")
    with pytest.raises(MemoryError, match=r"Try trainer\.precision=bf16-mixed"), enough_memory(config):
        torch.empty(1 << 50)
