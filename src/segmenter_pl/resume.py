"""Where a run goes on from: its own last checkpoint, another one that was named, or the beginning."""

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.report import versions
from segmenter_pl.searchpath import numbers_changing

SHOWN = 10  # differing keys in an error message
_held: set[int] = set()  # locked directories


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


# Loader processes share what was open when they were forked: outliving a killed run, they would hold its lock.
os.register_at_fork(after_in_child=_let_go)


def starting_point(config: Mapping[str, Any], run_dir: Path, *, leader: bool = True) -> Path | None:
    """The checkpoint to continue from, as `config["resume"]` asks: auto, never, or a path. None: start afresh.

    Changes nothing but names: with "never", what the directory holds is moved aside; a damaged last.ckpt is too, and
    the newest sound checkpoint takes its place. Both are said on stderr.

    Args:
        config: the resolved configuration.
        run_dir: the run's directory.
        leader: False in the processes that Lightning starts beside the first one, which find all of that done.

    Raises:
        FileNotFoundError: the named checkpoint does not exist.
        ValueError: the named checkpoint cannot be read, or what is there was made with other settings.
    """
    resume = str(config["resume"])
    if resume == "never":
        if leader:
            _set_aside(run_dir)
        return None
    if (run_dir / "config.yaml").is_file():
        _refuse_other_settings(_read_config(run_dir / "config.yaml"), config, run_dir / "config.yaml")
    if resume == "auto":
        checkpoint = newest_checkpoint(run_dir / "checkpoints", leader=leader)
        if checkpoint is None:
            return None
    else:
        checkpoint = Path(resume)
    stored = read_checkpoint(checkpoint)["segmenter"]
    _refuse_other_settings(stored["config"], config, checkpoint)
    now = versions()
    changed = [f"{name} {old} → {now[name]}" for name, old in stored["versions"].items() if now.get(name, old) != old]
    if changed and leader:
        print(f"Continuing with other versions, digits may differ: {', '.join(changed)}", file=sys.stderr)
    return checkpoint


def newest_checkpoint(folder: Path, *, leader: bool = True) -> Path | None:
    """last.ckpt; where it is damaged, it is renamed and the sound checkpoint of the highest step is taken instead."""
    last = folder / "last.ckpt"
    if last.exists():
        try:
            read_checkpoint(last)
            return last
        except ValueError as error:
            if leader:
                damaged = _free_name(last.with_name("last.ckpt.damaged"))
                last.rename(damaged)
                print(f"Set aside as {damaged}: {error}", file=sys.stderr)
    steps = {}
    for path in sorted(folder.glob("*.ckpt")):
        try:
            steps[path] = read_checkpoint(path)["global_step"]
        except ValueError as error:
            print(f"Passed over: {error}", file=sys.stderr)
    found = max(steps, key=lambda path: steps[path], default=None)
    if leader and found:
        print(f"Continuing from {found}, step {steps[found]}", file=sys.stderr)
    return found


@contextmanager
def sole_owner(run_dir: Path) -> Iterator[None]:
    """Hold the directory against a second process that runs the same command.

    The lock is the operating system's and ends with the process, however that ends. Raises ValueError where another
    one holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(run_dir, os.O_RDONLY)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is training in {run_dir}: wait for it, or give this run a tag=WORD of its own"
            ) from error
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove it; checkpoints hold the settings too") from error


def _refuse_other_settings(stored: Mapping[str, Any], config: Mapping[str, Any], source: Path) -> None:
    before, now = numbers_changing(stored), numbers_changing(config)
    missing = "(none)"
    keys = [key for key in sorted({*before, *now}) if before.get(key, missing) != now.get(key, missing)]
    if keys:
        lines = [f"  {key}: {before.get(key, missing)} there, {now.get(key, missing)} now" for key in keys[:SHOWN]]
        more = [f"  and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
        raise ValueError(
            "\n".join([f"{source} was made with other settings, which change numbers:", *lines, *more])
            + "\nRestore them, or start afresh: tag=WORD in a directory of its own, resume=never in this one"
        )


def _set_aside(run_dir: Path) -> None:
    """Move what a directory holds into a new one beside it; the directory itself stays, since it may be locked."""
    entries = sorted(run_dir.iterdir()) if run_dir.is_dir() else []
    if entries:
        aside = _free_name(run_dir.with_name(run_dir.name + ".old"))
        aside.mkdir()
        for entry in entries:
            entry.rename(aside / entry.name)
        print(f"resume=never: the earlier run lies in {aside}", file=sys.stderr)


def _free_name(path: Path) -> Path:
    """The path itself, or with the first number appended that is not taken."""
    candidates = (path if k == 1 else path.with_name(f"{path.name}{k}") for k in range(1, 1 << 20))
    return next(candidate for candidate in candidates if not candidate.exists())
