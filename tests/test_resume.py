"""Runs that are killed, stopped or found damaged, and what the same command makes of them."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from segmenter_pl import report, resume
from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.locking import sole_owner
from segmenter_pl.train import train as train_here
from tests.test_guard import folder, of_folder
from tests.test_train import tiny_run

# Steps 1…6 of 4 pictures; validations after 3 and 6, checkpoints after 2, 4, 6 and around the validations; an epoch of
# 10 pictures ends in the middle of a step.
SHORT = (
    "trainer.max_steps=6",
    "dataset.val_every=3",
    "checkpoint_every=2",
    "dataset.train_images=10",
    "trainer.limit_val_batches=3",
)
MEASURED = ("train/images_per_second", "train/peak_memory_gb")  # columns that no two runs share


def die(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, act: Callable[..., Any] = die) -> None:
    """Have the given call of a function, counted from 1, do something else first."""
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def counted(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == number:
            act()
        return original(*arguments, **keywords)

    setattr(owner, name, counted)


def in_step_4() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "on_before_optimizer_step", 4)


def in_the_first_validation() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "validation_step", 2)


def in_the_last_validation() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "validation_step", 5)


def while_a_checkpoint_is_written() -> None:
    real, calls = torch.save, iter(range(1, 100))

    def half(checkpoint: Any, file: Any) -> None:
        real(checkpoint, file)
        if next(calls) == 4:  # the one after step 4
            file.truncate(file.tell() // 2)
            file.flush()
            die()

    torch.save = half


def between_best_and_last() -> None:
    from segmenter_pl.callbacks import AtomicCheckpointIO

    at_call(AtomicCheckpointIO, "save_checkpoint", 4)  # step 2, before the validation of step 3, best, last


def before_the_results() -> None:
    from segmenter_pl import report

    at_call(report, "write_results", 1)


def child(run_dir: Path, overrides: tuple[str, ...], prepare: Callable[[], None] | None) -> None:
    """In a process of its own: train, after `prepare` has laid its trap."""
    import warnings

    from segmenter_pl.data import datamodule
    from segmenter_pl.train import train

    multiprocessing.set_start_method("fork", force=True)  # for loader processes, as in a command on Linux
    datamodule.GRACE = 2  # processes of multiprocessing end their own with SIGTERM
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    os.dup2(os.open(errors_of(run_dir), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if prepare:
        prepare()
    train(tiny_run(run_dir, *SHORT, *overrides))


def errors_of(run_dir: Path) -> Path:
    """What the latest process in this directory said on stderr."""
    return run_dir.with_name(f"{run_dir.name}.stderr")


def run(run_dir: Path, *overrides: str, trap: Callable[[], None] | None = None) -> int:
    """Train in a new process and return its exit code, negative for a signal."""
    context = multiprocessing.get_context("forkserver")  # imports once for all of them
    context.set_forkserver_preload(["tests.test_resume", "segmenter_pl.train", "segmenter_pl.build"])
    process = context.Process(target=child, args=(run_dir, overrides, trap))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def outcome(run_dir: Path) -> dict[str, Any]:
    """All that a run must reproduce to the bit."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(file)]
    results = json.loads((run_dir / "results.json").read_text().replace(str(run_dir), "RUN"))
    weights = {name: read_checkpoint(run_dir / f"checkpoints/{name}.ckpt") for name in ("last", "best")}
    return {"rows": rows, "results": results, **weights}


def assert_equal(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left["rows"] == right["rows"]
    assert left["results"] == right["results"]
    for name in ("last", "best"):
        assert left[name]["global_step"] == right[name]["global_step"]
        assert left[name]["state_dict"].keys() == right[name]["state_dict"].keys()
        for key, value in left[name]["state_dict"].items():
            assert torch.equal(value, right[name]["state_dict"][key]), f"{name}.ckpt: {key}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of an uninterrupted run with some overrides; each is run once."""
    known: dict[tuple[str, ...], dict[str, Any]] = {}

    def outcome_of(*overrides: str) -> dict[str, Any]:
        if overrides not in known:
            run_dir = tmp_path_factory.mktemp("whole") / "run"
            assert run(run_dir, *overrides) == 0
            known[overrides] = outcome(run_dir)
        return known[overrides]

    return outcome_of


@pytest.mark.parametrize(
    "trap",
    [
        in_step_4,
        in_the_first_validation,
        in_the_last_validation,
        while_a_checkpoint_is_written,
        between_best_and_last,
        before_the_results,
    ],
)
def test_killed_run_ends_like_an_uninterrupted_one(
    trap: Callable[[], None], whole: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    assert run(tmp_path / "run", trap=trap) == -signal.SIGKILL
    assert not (tmp_path / "run/results.json").exists()
    assert run(tmp_path / "run") == 0
    assert_equal(outcome(tmp_path / "run"), whole())
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("dataset.num_workers=2",),
        ("trainer.accumulate_grad_batches=3",),
        ("trainer.precision=bf16-mixed",),
        ("callbacks=ema", "callbacks.ema.decay=0.5"),
        ("dataset.train_images=8",),  # a checkpoint at the end of an epoch
        ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=0"),
    ],
    ids=lambda overrides: overrides[0],
)
@pytest.mark.parametrize("trap", [in_step_4, in_the_last_validation])
def test_killed_run_ends_like_an_uninterrupted_one_under(
    overrides: tuple[str, ...],
    trap: Callable[[], None],
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    assert run(tmp_path / "run", *overrides, trap=trap) == -signal.SIGKILL
    assert run(tmp_path / "run", *overrides) == 0
    assert_equal(outcome(tmp_path / "run"), whole(*overrides))


def test_a_decision_to_stop_early_survives(whole: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    overrides = ("callbacks=early_stopping", "optimizer.lr=0")
    for why, last in (("patience=1", "6"), ("patience=9 +callbacks.early_stopping.stopping_threshold=0.0", "3")):
        longer = (*overrides, "trainer.max_steps=12", *f"callbacks.early_stopping.{why}".split())
        run_dir = tmp_path / last
        assert run(run_dir, *longer, trap=before_the_results) == -signal.SIGKILL
        assert run(run_dir, *longer) == 0
        assert_equal(outcome(run_dir), whole(*longer))
        assert [row["step"] for row in outcome(run_dir)["rows"]][-1] == last


def ctrl_c_in_step_5() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "training_step", 5, lambda: os.kill(os.getpid(), signal.SIGINT))


def ctrl_c_while_loading_step_4() -> None:
    from segmenter_pl.data.dataset import SegmentationDataset

    # The 12 pictures of three steps and 3 to validate come before.
    at_call(SegmentationDataset, "__getitem__", 17, lambda: os.kill(os.getpid(), signal.SIGINT))


def ctrl_c_twice_in_step_5() -> None:
    from segmenter_pl.task import SegmentationTask

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    at_call(SegmentationTask, "training_step", 5, twice)


def ctrl_c_in_the_last_picture() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "validation_step", 6, lambda: os.kill(os.getpid(), signal.SIGINT))


def ctrl_c_while_the_model_is_built() -> None:
    from segmenter_pl import build

    at_call(build, "build_model", 1, lambda: os.kill(os.getpid(), signal.SIGINT))


def sigterm_in_the_first_validation() -> None:
    from segmenter_pl.task import SegmentationTask

    at_call(SegmentationTask, "validation_step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))


def sigterm_to_every_process() -> None:
    """As a cluster does: the loader processes get it first, and are still needed to finish the step."""
    import time

    from segmenter_pl.task import SegmentationTask

    def stop_all() -> None:
        children = [int(word) for word in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
        for pid in (*children, os.getpid()):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)

    at_call(SegmentationTask, "training_step", 5, stop_all)


@pytest.mark.parametrize(
    ("trap", "code", "step", "overrides"),
    [
        (ctrl_c_in_step_5, 130, 5, ()),
        (ctrl_c_in_step_5, 130, 2, ("trainer.accumulate_grad_batches=3",)),  # micro-batch 5 belongs to step 2
        (ctrl_c_while_loading_step_4, 130, 4, ()),
        (sigterm_in_the_first_validation, 143, 3, ()),
        (sigterm_to_every_process, 143, 5, ("dataset.num_workers=2",)),
    ],
)
def test_signals_leave_a_checkpoint_of_the_step_they_met(
    trap: Callable[[], None],
    code: int,
    step: int,
    overrides: tuple[str, ...],
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    every = "checkpoint_every=100"
    assert run(tmp_path / "run", every, *overrides, trap=trap) == code
    assert "The same command continues in" in errors_of(tmp_path / "run").read_text()
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == step
    assert run(tmp_path / "run", every, *overrides) == 0
    assert_equal(outcome(tmp_path / "run"), whole(every, *overrides))


def test_a_second_signal_ends_at_once(whole: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert run(tmp_path / "run", trap=ctrl_c_twice_in_step_5) == 130
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 4  # step 5 was cut
    assert run(tmp_path / "run") == 0
    assert_equal(outcome(tmp_path / "run"), whole())


def test_a_signal_at_the_very_end_ends_the_sweep_but_not_the_run(
    whole: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    assert run(tmp_path / "run", trap=ctrl_c_in_the_last_picture) == 130
    assert_equal(outcome(tmp_path / "run"), whole())


def test_a_signal_before_the_training_ends_at_once(tmp_path: Path) -> None:
    assert run(tmp_path / "run", trap=ctrl_c_while_the_model_is_built) == 130
    assert "There is no checkpoint in" in errors_of(tmp_path / "run").read_text()
    assert not (tmp_path / "run").exists()


def test_other_ways_to_execute_continue_the_same_numbers(whole: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Killed with two workers and a CSV, continued with none, TensorBoard, other checkpoints, fewer rows."""
    assert run(tmp_path / "run", "dataset.num_workers=2", trap=in_step_4) == -signal.SIGKILL
    other = ("logger=tensorboard", "checkpoint_every=1", "trainer.log_every_n_steps=2")
    assert run(tmp_path / "run", *other) == 0
    ours, theirs = outcome(tmp_path / "run"), whole()
    assert [row["step"] for row in ours["rows"]] == ["1", "2", "3", "4", "6"]
    assert [row for row in theirs["rows"] if row["step"] != "5"] == ours["rows"]
    for key, value in theirs["last"]["state_dict"].items():
        assert torch.equal(value, ours["last"]["state_dict"][key]), key


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A directory with a run that was killed in step 4."""
    assert run(tmp_path / "run", trap=in_step_4) == -signal.SIGKILL
    return tmp_path / "run"


def test_damaged_checkpoint_is_set_aside_for_the_newest_sound_one(
    stopped: Path, whole: Callable[..., dict[str, Any]]
) -> None:
    last, best = stopped / "checkpoints/last.ckpt", stopped / "checkpoints/best.ckpt"
    content = last.read_bytes()
    os.truncate(last, len(content) // 2)  # in place, as a failing disk does: best.ckpt must not share its bytes
    assert best.stat().st_size == len(content)
    assert run(stopped) == 0
    said = errors_of(stopped).read_text()
    assert "Set aside as" in said
    assert "best.ckpt, step 3" in said
    assert (stopped / "checkpoints/last.ckpt.damaged").stat().st_size == len(content) // 2
    assert_equal(outcome(stopped), whole())


def test_without_any_sound_checkpoint_the_run_begins_again(stopped: Path, whole: Callable[..., dict[str, Any]]) -> None:
    for path in (stopped / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"")
    assert run(stopped) == 0
    assert "There is no sound checkpoint: the run begins again" in errors_of(stopped).read_text()
    assert len(list((stopped / "checkpoints").glob("*.damaged"))) == 2
    assert_equal(outcome(stopped), whole())


def test_a_flipped_byte_is_seen(stopped: Path, whole: Callable[..., dict[str, Any]]) -> None:
    last = stopped / "checkpoints/last.ckpt"
    weight = read_checkpoint(last)["state_dict"]["model.decoder.proj_patch"].numpy().tobytes()
    content = last.read_bytes()
    place = content.index(weight)
    last.write_bytes(content[:place] + bytes(40) + content[place + 40 :])
    assert run(stopped) == 0
    assert "has another checksum" in errors_of(stopped).read_text()
    assert_equal(outcome(stopped), whole())


def test_other_settings_are_refused_with_keys_and_values(stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.1 there, 0\.2 now") as refused:
        resume.starting_point(settings(stopped, "optimizer.lr=0.2", "decoder.dropout=0"), stopped)
    assert "decoder.dropout: 0.1 there, 0 now" in str(refused.value)
    assert "tag=WORD" in str(refused.value)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_config_edited_by_hand_is_refused(stopped: Path) -> None:
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace("photometric: false", "photometric: true"))
    with pytest.raises(ValueError, match=r"dataset\.photometric: True there, False now"):
        resume.starting_point(settings(stopped), stopped)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        resume.starting_point(settings(stopped), stopped)


def test_other_versions_are_said(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stopped / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["segmenter"]["versions"]["torch"] = "2.0.0"
    torch.save(checkpoint, path)
    assert resume.starting_point(settings(stopped), stopped) == path
    assert f"torch 2.0.0 → {version('torch')}" in capsys.readouterr().err


def test_resume_never_moves_the_earlier_run_aside(stopped: Path, whole: Callable[..., dict[str, Any]]) -> None:
    files = {path.relative_to(stopped) for path in stopped.rglob("*")}
    assert run(stopped, "resume=never", "optimizer.lr=0.2") == 0
    aside = stopped.with_name("old-run")
    assert {path.relative_to(aside) for path in aside.rglob("*")} == files
    assert str(aside) in errors_of(stopped).read_text()
    assert run(stopped, "resume=never") == 0
    assert stopped.with_name("old-run2").is_dir()
    assert outcome(stopped)["rows"] == whole()["rows"]


def test_resume_from_a_path(stopped: Path, whole: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    given = Path(shutil.copy(stopped / "checkpoints/best.ckpt", tmp_path / "given.ckpt"))
    assert run(tmp_path / "other", f"resume={given}") == 0
    ours = read_checkpoint(tmp_path / "other/checkpoints/last.ckpt")["state_dict"]
    assert all(torch.equal(value, ours[key]) for key, value in whole()["last"]["state_dict"].items())
    assert (tmp_path / "other/checkpoints/best.ckpt").read_bytes() == given.read_bytes()
    for missing in (tmp_path / "nothing.ckpt", tmp_path, "latest"):
        with pytest.raises(ValueError, match=r"resume=.*there is no such file; give auto, never, or the path"):
            resume.starting_point(settings(stopped, f"resume={missing}"), stopped)
    # A run that was begun from a path goes on by itself; another seed is another run.
    assert resume.starting_point(settings(tmp_path / "other", f"resume={given}"), tmp_path / "other") == (
        tmp_path / "other/checkpoints/last.ckpt"
    )
    with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        resume.starting_point(settings(tmp_path / "third", f"resume={given}", "seed=1"), tmp_path / "third")
    assert resume.starting_point(settings(tmp_path / "third", f"resume={given}", "tag=b"), tmp_path / "third") == given


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path) -> None:
    run_dir, taken = tmp_path / "run", r"another process is training in .*run.*tag=WORD"
    with sole_owner(run_dir, ""), sole_owner(tmp_path / "other", ""):
        with pytest.raises(ValueError, match=taken):
            train_here(tiny_run(run_dir, *SHORT))
        (run_dir / "file").touch()
    with sole_owner(run_dir, ""):
        pass
    assert run_dir.is_dir()
    assert not (tmp_path / "other").exists()  # nothing came into it


def settings(run_dir: Path, *overrides: str) -> dict[str, Any]:
    from segmenter_pl.build import plain

    return plain(tiny_run(run_dir, *SHORT, *overrides))


def test_wandb_offline_holds_every_step_once(tmp_path: Path) -> None:
    """Killed and continued, with pictures: read back from its files and compared with the CSV."""
    from segmenter_pl.loggers import read_wandb_history

    run_dir, wandb = tmp_path / "run", ("logger=wandb", "logger.offline=true")
    assert run(run_dir, *wandb, trap=in_step_4) == -signal.SIGKILL
    assert run(run_dir, *wandb) == 0
    files = list(run_dir.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert {path.stem for path in files} == {f"run-{(run_dir / 'wandb_id.txt').read_text().strip()}"}
    logged = sorted((row for path in files for row in read_wandb_history(path)), key=lambda row: row["_step"])
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    assert [row["_step"] for row in logged] == [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for kept, row in zip(logged, rows, strict=True):
        assert {key: kept[key] for key in row if key != "step"} == {k: v for k, v in row.items() if k != "step"}
    # A picture that was not yet on the disk when the process was killed is in panels/ only.
    assert [row["_step"] for row in logged if "val/panel" in row][-1] == 6


def test_other_data_behind_the_same_settings_are_refused(stopped: Path) -> None:
    checkpoint = stopped / "checkpoints/last.ckpt"
    data = {**read_checkpoint(checkpoint)["segmenter"]}
    assert resume.refuse_other_data(checkpoint, data, saves=True) == 3
    for key, other in (("classes", [*data["classes"], "new"]), ("pictures", {"train": 11, "val": 64})):
        with pytest.raises(ValueError, match=f"made with other data, {key}: .* then, .* now"):
            resume.refuse_other_data(checkpoint, {**data, key: other}, saves=True)
    with pytest.raises(ValueError, match="would leave the last weights out"):
        resume.refuse_other_data(checkpoint, data, saves=False)


def test_other_files_behind_the_same_settings_are_refused(tmp_path: Path) -> None:
    """Of a run that is finished, and of one that was stopped; one picture may have been put right."""
    alone = ("dataset.num_workers=0",)
    data, other, run_dir = folder(tmp_path / "a/toys"), tmp_path / "b/toys", tmp_path / "run"
    shutil.copytree(data, other)
    train_here(of_folder(data, run_dir, *alone))
    repaired = next((other / "images/train").iterdir())
    repaired.write_bytes(repaired.read_bytes() + b" ")
    assert train_here(of_folder(other, run_dir, *alone)) == report.read_results(run_dir)["best"]["miou"]
    for path in [*other.rglob("*.jpg"), *other.rglob("*.png")]:
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"results.json was made with other data: other files, though"):
        train_here(of_folder(other, run_dir, *alone))
    (run_dir / "results.json").unlink()
    with pytest.raises(ValueError, match=r"last.ckpt was made with other data: other files.*tag=WORD"):
        train_here(of_folder(other, run_dir, *alone))
