"""The metrics file and its mirrors through kills, resumes, full disks and tools that fail."""

import csv
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from segmenter_pl.callbacks import Interrupted
from segmenter_pl.loggers import MetricsCSV, Mirror, RunLogger, TensorBoard, Wandb, finished, read_wandb_history
from segmenter_pl.loggers.mirror import guarded

Row = dict[str, float]
NAME = "val/iou/Straße, paved"


def row_of(step: int) -> Row:
    """The row that a run with some seed has at this step, whichever process makes it."""
    rng = np.random.default_rng(step)
    row = {"train/loss": rng.normal(), "lr/all": 10.0 ** -rng.integers(1, 9)}
    if step % 4 == 0:
        row |= {"val/miou": rng.random(), NAME: math.nan if step % 8 else rng.random()}
    return row


def same(left: dict[Any, Row], right: dict[Any, Row]) -> bool:
    """Equal, where one nan is as good as another."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def rows_of(steps: range) -> dict[int, Row]:
    return {step: row_of(step) for step in steps}


def log(logger: RunLogger, steps: range) -> None:
    for step in steps:
        logger.log_metrics(row_of(step), step)
        logger.save()


# The metrics file


def file_of(path: Path) -> dict[int, Row]:
    """The file as another program reads it."""
    with path.open(newline="") as file:
        return {
            int(row.pop("step")): {key: float(text) for key, text in row.items() if text}
            for row in csv.DictReader(file)
        }


def test_rows_grow_by_step_and_columns_as_they_come(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    rng = np.random.default_rng(0)
    expected: dict[int, Row] = {}
    for step in range(1, 60):
        if rng.random() < 0.5:
            continue  # not every step is logged
        row = {f"key{key}": rng.normal() for key in rng.permutation(3 + step // 8)[: rng.integers(1, 4)]}
        logger.log_metrics(row, step)
        logger.save()
        expected[step] = row
        assert file_of(logger.path) == expected == logger.rows
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_columns_keep_their_place(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step, keys in enumerate(["ba", "cb", "a", "dc"], start=1):
        logger.log_metrics(dict.fromkeys(keys, step / 2), step)
    assert logger.path.read_text() == "step,b,a,c,d\n1,0.5,0.5,,\n2,1.0,,1.0,\n3,,1.5,,\n4,,,2.0,2.0\n"


def test_a_row_logged_again_is_updated(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step, row in ((1, {"loss": 0.5}), (2, {"loss": 0.4}), (2, {"miou": 0.1}), (2, {"loss": 0.3})):
        logger.log_metrics(row, step)
    assert file_of(logger.path) == {1: {"loss": 0.5}, 2: {"loss": 0.3, "miou": 0.1}}


@pytest.mark.parametrize("stop", [0, 3, 7, 12])
def test_begun_again_it_neither_repeats_nor_loses(stop: int, tmp_path: Path) -> None:
    first, whole = MetricsCSV(tmp_path / "stopped"), MetricsCSV(tmp_path / "whole")
    log(first, range(1, 10))
    second = MetricsCSV(tmp_path / "stopped")
    assert same(second.rows, rows_of(range(1, 10)))
    second.begin(stop, {})
    assert same(file_of(second.path), rows_of(range(1, min(stop, 9) + 1)))
    steps = range(min(stop, 9) + 1, 15)
    log(second, steps)
    log(whole, range(1, 15))
    assert second.path.read_bytes() == whole.path.read_bytes()


def test_a_line_torn_anywhere_costs_only_itself(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    log(logger, range(1, 8))
    before = logger.path.stat().st_size
    log(logger, range(8, 9))
    data = logger.path.read_bytes()
    for size in range(before, len(data)):
        logger.path.write_bytes(data[:size])
        again = MetricsCSV(tmp_path)
        assert same(again.rows, rows_of(range(1, 8)))
        log(again, range(8, 9))
        assert logger.path.read_bytes() == data


def test_a_header_torn_anywhere_is_an_empty_file(tmp_path: Path) -> None:
    header = f'step,train/loss,"{NAME}"\n'.encode()
    for size in range(len(header)):
        (tmp_path / "metrics.csv").write_bytes(header[:size])
        logger = MetricsCSV(tmp_path)
        assert logger.rows == {}
        logger.log_metrics({NAME: 0.25}, 1)
        assert file_of(logger.path) == {1: {NAME: 0.25}}


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    for text in ("epoch,loss\n1,0.5\n", "step,loss\n1,low\n", "step,loss\n1,0.5,0.25\n"):
        (tmp_path / "metrics.csv").write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.csv, line 2.*move the file away"):
            MetricsCSV(tmp_path)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Beyond it writing fails part of the way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("extra", [{}, {"new": 1.0}], ids=["append", "replace"])
@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_is_named_and_costs_no_row(extra: Row, room: int, tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    log(logger, range(1, 41))
    data = logger.path.read_bytes()
    with files_up_to(len(data) + room), pytest.raises(OSError, match="too large") as caught:
        logger.log_metrics(row_of(41) | extra, 41)
    assert caught.value.filename == str(logger.path)
    assert logger.path.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    logger.log_metrics(row_of(41) | extra, 41)  # there is room again
    assert same(file_of(logger.path), rows_of(range(1, 41)) | {41: row_of(41) | extra})


# Mirrors: each life is a process of its own, killed or not. (From a server that has imported torch once.)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["segmenter_pl.loggers"])


def in_process(function: Callable[..., None], folder: Path, *args: Any) -> tuple[int, str]:
    """Exit code and standard error of a function's own process."""
    folder.mkdir(exist_ok=True)
    process = PROCESSES.Process(target=_quietly, args=(function, folder, *args))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, (folder / "stderr").read_text()


def _quietly(function: Callable[..., None], folder: Path, *args: Any) -> None:
    sys.stderr = (folder / "stderr").open("w", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    for variable in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[variable]
    os.environ |= {"WANDB_SILENT": "true", "HOME": str(folder), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    warnings.simplefilter("error")
    time.sleep(1.0 - time.time() % 1.0)  # both tools name their files by the second
    function(folder, *args)
    if "wandb" in sys.modules:  # its own process writes the rest; multiprocessing's exit does not wait for it
        sys.modules["wandb"].teardown()


def live(folder: Path, kinds: tuple[str, ...], start: int, stop: int, killed: bool) -> None:
    makers = {
        "csv": MetricsCSV,
        "wandb": lambda folder: Wandb(folder, project="p", offline=True, tags=["t"]),
        "tensorboard": TensorBoard,
    }
    loggers = [makers[kind](folder) for kind in kinds]
    record = next(one for one in loggers if isinstance(one, MetricsCSV))
    earlier = {step: row for step, row in record.rows.items() if step <= start}
    for logger in loggers:
        logger.log_hyperparams({"model": {"depth": 12, "drop": None}, "list": [1, 2]})
        logger.begin(start, earlier)
    for step in range(start + 1, stop + 1):
        for logger in loggers:
            if step % 100 == 0:
                logger.log_image("val/panel", np.full((8, 12, 3), step % 256, np.uint8), step)
            logger.log_metrics(row_of(step), step)
            logger.save()
    while killed and "wandb" in kinds and max(folder.glob("wandb/*run-*/*.wandb")).stat().st_size < 64 * 1024:
        time.sleep(0.01)  # until W&B's own process has written some rows, of which the last will be torn
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    for logger in loggers:
        logger.finalize("success")
        logger.finish(0)


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """Of all processes, in the order in which they ran."""
    return [row for path in sorted(folder.glob("wandb/*run-*/*.wandb")) for row in read_wandb_history(path)]


def pictures_of(folder: Path, key: str) -> dict[int, int]:
    """The one colour of the pictures that rows name, by step."""
    found = {}
    for path in folder.glob("wandb/*run-*/*.wandb"):
        for row in read_wandb_history(path):
            if key in row:
                image = np.asarray(Image.open(path.parent / "files" / row[key]["path"]))
                assert image.shape == (8, 12, 3)
                assert image.min() == image.max()
                found[row["_step"]] = int(image.max())
    return found


def without_own(rows: list[dict[str, Any]]) -> dict[int, Row]:
    """Only what a run logged itself, without W&B's clocks and without pictures."""
    return {
        row["_step"]: {key: value for key, value in row.items() if key[0] != "_" and not isinstance(value, dict)}
        for row in rows
    }


def test_wandb_killed_and_resumed_twice_has_every_step_once_in_one_run(tmp_path: Path) -> None:
    kinds = ("csv", "wandb")
    assert in_process(live, tmp_path, kinds, 0, 600, True) == (-signal.SIGKILL, "")
    first = len(wandb_rows(tmp_path))
    assert 100 < first <= 600
    assert in_process(live, tmp_path, kinds, 300, 900, True) == (-signal.SIGKILL, "")
    assert in_process(live, tmp_path, kinds, 850, 1000, False) == (0, "")
    rows = wandb_rows(tmp_path)
    assert [row["_step"] for row in rows] == list(range(1, 1001))
    assert same(without_own(rows), rows_of(range(1, 1001)))
    assert same(file_of(tmp_path / "metrics.csv"), rows_of(range(1, 1001)))
    assert pictures_of(tmp_path, "val/panel") == {step: step % 256 for step in range(100, 1001, 100)}
    files = list(tmp_path.glob("wandb/*run-*/*.wandb"))
    assert len(files) == 3
    assert {path.name for path in files} == {f"run-{(tmp_path / 'wandb_id.txt').read_text().strip()}.wandb"}


def test_wandb_and_tensorboard_added_later_have_the_earlier_rows(tmp_path: Path) -> None:
    log(MetricsCSV(tmp_path), range(1, 31))
    assert in_process(live, tmp_path, ("csv", "wandb", "tensorboard"), 20, 40, False) == (0, "")
    rows = wandb_rows(tmp_path)
    assert [row["_step"] for row in rows] == list(range(1, 41))
    assert same(without_own(rows), rows_of(range(1, 41)))
    assert same(tensorboard_rows(tmp_path), rows_of(range(1, 41)))


def tensorboard_rows(folder: Path) -> dict[int, Row]:
    """What TensorBoard shows; a step that it has twice fails."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    rows: dict[int, Row] = {}
    for key in events.Tags()["scalars"]:
        for event in events.Scalars(key) if key != "hp_metric" else ():
            assert key not in rows.setdefault(event.step, {})
            rows[event.step][key] = event.value
    precise = {step: row_of(step) for step in rows}
    for step, row in rows.items():  # TensorBoard keeps 32 bits
        assert row == pytest.approx(precise[step], rel=1e-6, nan_ok=True)
    return precise


def test_tensorboard_killed_and_resumed_twice_shows_every_step_once(tmp_path: Path) -> None:
    kinds = ("csv", "tensorboard")
    assert in_process(live, tmp_path, kinds, 0, 60, True) == (-signal.SIGKILL, "")
    assert sorted(tensorboard_rows(tmp_path)) == list(range(1, 61))
    assert in_process(live, tmp_path, kinds, 40, 90, True) == (-signal.SIGKILL, "")
    assert in_process(live, tmp_path, kinds, 0, 130, False) == (0, "")  # as if its checkpoint were lost
    assert sorted(tensorboard_rows(tmp_path)) == list(range(1, 131))


def test_reading_a_torn_wandb_file_gives_its_first_rows(tmp_path: Path) -> None:
    in_process(live, tmp_path, ("csv", "wandb"), 0, 400, False)
    (path,) = tmp_path.glob("wandb/*run-*/*.wandb")
    data, rows = path.read_bytes(), read_wandb_history(path)
    assert len(rows) == 400
    torn, counts = tmp_path / "torn.wandb", []
    for size in np.random.default_rng(0).integers(7, len(data), 40):
        damaged = bytearray(data)
        damaged[size] ^= 255
        for shorter in (data[:size], data[:size] + bytes(len(data) - size), bytes(damaged)):
            torn.write_bytes(shorter)
            read = read_wandb_history(torn)
            assert json.dumps(read) == json.dumps(rows[: len(read)])
        counts.append((size, len(read)))
    assert sorted(count for _, count in counts) == [count for _, count in sorted(counts)]
    torn.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"torn\.wandb is no \.wandb file"):
        read_wandb_history(torn)


# Tools that fail


class Broken(Mirror):
    brand = "Tool"

    def __init__(self, save_dir: Path, where: str) -> None:
        super().__init__(save_dir)
        self.where = where
        self.calls: list[str] = []

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what == self.where:
            raise ConnectionError("no answer\nfrom the server")

    @guarded("starting")
    def begin(self, step: int, earlier: Any) -> None:
        self._call("begin")

    @guarded("logging")
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._call("log")

    @guarded("logging a picture")
    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        self._call("image")

    @guarded("finishing")
    def finish(self, exit_code: int) -> None:
        self._call("finish")


@pytest.mark.parametrize("where", ["begin", "log", "image", "finish"])
def test_a_mirror_that_fails_says_so_once_and_is_silent_then(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = Broken(tmp_path, where)
    logger.begin(0, {})
    for step in (1, 2):
        logger.log_metrics({"loss": 1.0}, step)
        logger.log_image("panel", np.zeros((2, 2, 3), np.uint8), step)
    logger.finish(0)
    assert logger.calls.index(where) == len(logger.calls) - 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Tool: ")
    assert "failed (ConnectionError: no answer from the server); the run goes on" in line


def test_a_mirror_that_cannot_start_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for logger in (Wandb(tmp_path / "file", offline=True), TensorBoard(tmp_path / "file")):  # where a folder should be
        logger.log_hyperparams({"a": 1})
        logger.begin(0, {})
        log(logger, range(1, 4))
        logger.finish(0)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{logger.brand}: ")
        assert "metrics.csv has every row" in line


def unreachable(folder: Path, key: str | None, others: dict[str, Any]) -> None:
    if key:
        os.environ["WANDB_API_KEY"] = key
    logger = Wandb(folder, project="p", **others)
    logger.log_hyperparams({"a": 1})
    logger.begin(0, {})
    log(logger, range(1, 6))
    logger.finish(1)


@pytest.mark.parametrize(
    ("key", "others"),
    [
        (None, {}),
        pytest.param("0" * 40, {"settings": {"init_timeout": 1}}, marks=pytest.mark.slow),  # W&B tries for 11 seconds
    ],
    ids=["no key", "no network"],
)
def test_wandb_goes_on_offline_where_it_cannot_go_online(key: str | None, others: Any, tmp_path: Path) -> None:
    code, err = in_process(unreachable, tmp_path, key, others)
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith("Weights & Biases: not online (")
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line
    assert same(without_own(wandb_rows(tmp_path)), rows_of(range(1, 6)))
    assert in_process(unreachable, tmp_path, key, others)[0] == 0  # started again: all steps are there already
    assert [row["_step"] for row in wandb_rows(tmp_path)] == [1, 2, 3, 4, 5]


def orphaned(folder: Path) -> None:
    """W&B's own process is killed, as by a machine short of memory, and later the next job of a sweep begins."""
    first = Wandb(folder, project="p", offline=True)
    first.begin(0, {})
    log(first, range(1, 4))
    for path in Path("/proc/self/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            os.kill(child, signal.SIGKILL)
    time.sleep(0.2)
    log(first, range(4, 40))
    print("to the console that W&B watches")
    first.finish(0)
    second = Wandb(folder / "second", project="p", offline=True)
    second.begin(0, {})
    log(second, range(1, 4))
    second.finish(0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds W&B's process as Linux lists it")
def test_wandb_whose_own_process_dies_ends_neither_run_nor_sweep(tmp_path: Path) -> None:
    code, err = in_process(orphaned, tmp_path)
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith("Weights & Biases: logging failed (")
    assert same(without_own(wandb_rows(tmp_path / "second")), rows_of(range(1, 4)))


class FakeRun(SimpleNamespace):
    """Enough of a W&B run to see what is sent to it."""

    def log(self, row: Row, step: int, commit: bool) -> None:
        assert commit
        self.rows[step] = row

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.mark.parametrize("on_server", [0, 7])
def test_wandb_online_asks_the_server_what_it_has(
    on_server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process may have rows in its file that it had not uploaded, so online the files do not count."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    asked: dict[str, Any] = {}
    run = FakeRun(rows={}, summary={}, starting_step=on_server + 1 if on_server else 0)
    monkeypatch.setattr("wandb.init", lambda **how: asked.update(how) or run)
    (tmp_path / "wandb_id.txt").write_text("abc123\n")
    logger = Wandb(tmp_path, project="p", entity="me")
    logger.begin(10, rows_of(range(1, 11)))
    log(logger, range(10, 12))  # the tenth once more
    logger.log_image("panel", np.zeros((2, 2, 3), np.uint8), 12)
    log(logger, range(12, 14))
    logger.finish(3)
    assert (asked["id"], asked["resume"], asked["project"], asked["entity"]) == ("abc123", "allow", "p", "me")
    assert "mode" not in asked
    assert list(run.rows) == list(range(on_server + 1, 14))
    assert "panel" in run.rows[12]
    assert same({**run.rows, 12: row_of(12)}, rows_of(range(on_server + 1, 14)))
    assert run.exit_code == 3


def full_disk(folder: Path) -> None:
    logger = TensorBoard(folder)
    logger.begin(0, {})
    with files_up_to(4096):
        log(logger, range(1, 200))
    logger.finish(0)


def test_tensorboard_on_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    code, err = in_process(full_disk, tmp_path)
    assert code == 0
    assert err.count("the run goes on without it") == 1


@pytest.mark.parametrize("kind", [MetricsCSV, Wandb, TensorBoard])
def test_other_processes_than_the_first_write_nothing(
    kind: type[RunLogger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = kind(tmp_path)
    logger.log_hyperparams({"a": 1})
    logger.begin(0, {})
    log(logger, range(1, 4))
    logger.log_image("panel", np.zeros((2, 2, 3), np.uint8), 3)
    logger.finalize("success")
    logger.finish(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [MetricsCSV, Wandb, TensorBoard])
def test_lightning_finds_no_experiment_to_touch(kind: type[RunLogger], tmp_path: Path) -> None:
    logger = kind(tmp_path)
    assert not hasattr(logger, "experiment")
    assert (logger.name, logger.version, logger.save_dir) == ("", "", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [(None, 0), (ValueError("a bug"), 1), (Interrupted(15), 143)])
def test_loggers_end_with_the_exit_code_of_the_process(error: BaseException | None, code: int, tmp_path: Path) -> None:
    class Ended(RunLogger):
        codes: ClassVar[list[int]] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

        def finish(self, exit_code: int) -> None:
            self.codes.append(exit_code)

    with suppress(ValueError, Interrupted), finished([Ended(tmp_path)]):
        if error:
            raise error
    assert Ended.codes == [code]
