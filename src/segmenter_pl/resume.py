"""Where a run goes on from: its own last checkpoint, another one that was named, or the beginning."""

import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segmenter_pl.checkpoint import read_checkpoint
from segmenter_pl.identity import numbers_changing
from segmenter_pl.report import versions

SHOWN = 10  # differing keys in an error message


def starting_point(config: Mapping[str, Any], run_dir: Path, *, leader: bool = True) -> Path | None:
    """The checkpoint to continue from, as `config["resume"]` asks: auto, never, or a path. None: start afresh.

    A path is for a start: once the directory has a checkpoint that is further on, that one counts. Changes nothing but
    names: with "never", what the directory holds is moved aside; damaged checkpoints are too, and the sound one of the
    highest step is taken. All of it is said on stderr.

    Args:
        config: the resolved configuration.
        run_dir: the run's directory.
        leader: False in the processes that Lightning starts beside the first one, which find all of that done.

    Raises:
        ValueError: the named checkpoint is missing or cannot be read, or what is there was made with other settings.
    """
    resume = str(config["resume"])
    if resume == "never":
        if leader:
            _set_aside(run_dir)
        return None
    if (run_dir / "config.yaml").is_file():
        refuse_other_settings(_read_config(run_dir / "config.yaml"), config, run_dir / "config.yaml")
    steps = _sound_checkpoints(run_dir / "checkpoints", leader)
    if resume != "auto":
        given, least = _given(resume)
        steps = {path: step for path, step in steps.items() if step > least} or {given: least}
    if not steps:
        return None
    last = run_dir / "checkpoints/last.ckpt"
    checkpoint = last if last in steps else max(steps, key=lambda path: steps[path])
    stored = read_checkpoint(checkpoint)["segmenter"]
    refuse_other_settings(stored["config"], config, checkpoint)
    if leader:
        _tell(checkpoint, steps[checkpoint], stored, run_dir)
    return checkpoint


def refuse_other_data(checkpoint: Path, data: Mapping[str, Any], *, saves: bool) -> int:
    """The step of a checkpoint, after comparing what the settings alone do not tell.

    Args:
        data: what the task puts into every checkpoint: classes, ignore_index, pictures, files.
        saves: whether the run that continues keeps checkpoints itself.

    Raises ValueError where classes, numbers of pictures or files are others, or last.ckpt would stay behind.
    """
    content = read_checkpoint(checkpoint)
    for key in ("classes", "ignore_index", "pictures"):
        if content["segmenter"][key] != data[key]:
            raise _other_data(checkpoint, f", {key}: {content['segmenter'][key]} then, {data[key]} now")
    refuse_other_files(checkpoint, content["segmenter"].get("files"), data["files"])
    if not saves:
        raise ValueError(
            f"this run has checkpoints ({checkpoint}), and callbacks without `checkpoints` would leave the last "
            "weights out of them: choose callbacks=default, or resume=never"
        )
    return int(content["global_step"])


def refuse_other_files(source: Path, then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> None:
    """Raise ValueError where a run's data (`SegmentationDataModule.fingerprint`) are others now.

    Some sizes may differ: a picture that could not be read has perhaps been put right.
    """
    if then is None or now is None:
        return
    changed = sum(a != b for a, b in zip(then["sizes"], now["sizes"], strict=False))
    if then["names"] != now["names"] or changed > len(now["sizes"]) / 2:
        raise _other_data(source, ": other files, though they are as many")


def _other_data(source: Path, what: str) -> ValueError:
    return ValueError(
        f"{source} was made with other data{what}. Restore the data, or start afresh: tag=WORD in a directory of its "
        "own, resume=never in this one"
    )


def _sound_checkpoints(folder: Path, leader: bool) -> dict[Path, int]:
    """The steps of the checkpoints that are whole; the others are renamed."""
    steps, damaged = {}, 0
    for path in sorted(folder.glob("*.ckpt")):
        try:
            steps[path] = _step(path)
        except ValueError as error:
            damaged += 1
            if leader:
                aside = _free_name(path.with_name(f"{path.name}.damaged"))
                path.rename(aside)
                print(f"Set aside as {aside}: {error}", file=sys.stderr)
    if damaged and not steps and leader:
        print("There is no sound checkpoint: the run begins again", file=sys.stderr)
    return steps


def _step(path: Path) -> int:
    """The step of a checkpoint whose every byte is as it was written. Raises ValueError."""
    step = read_checkpoint(path)["global_step"]
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums, and does not look at them
            wrong = archive.testzip()
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if wrong:
        raise ValueError(f"{path} is damaged ({wrong} has another checksum)")
    return int(step)


def _given(resume: str) -> tuple[Path, int]:
    if not Path(resume).is_file():
        raise ValueError(f"resume={resume}: there is no such file; give auto, never, or the path of a run's .ckpt")
    return Path(resume), _step(Path(resume))


def _tell(checkpoint: Path, step: int, stored: Mapping[str, Any], run_dir: Path) -> None:
    folder = run_dir / "checkpoints"
    if checkpoint != folder / "last.ckpt":
        print(f"Continuing from {checkpoint}, step {step}", file=sys.stderr)
    if checkpoint.parent != folder and stored["best"].get("step") == step:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint, folder / "best.ckpt")  # or the best so far would be nowhere in this directory
    now = versions()
    changed = [f"{name} {old} → {now[name]}" for name, old in stored["versions"].items() if now.get(name, old) != old]
    if changed:
        print(f"Continuing with other versions, digits may differ: {', '.join(changed)}", file=sys.stderr)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove it; checkpoints hold the settings too") from error


def refuse_other_settings(stored: Mapping[str, Any], config: Mapping[str, Any], source: Path) -> None:
    """Raise ValueError, with keys and both values, where two configurations differ in what changes numbers."""
    before, now = ({"seed": one["seed"], **numbers_changing(one)} for one in (stored, config))
    before["tag"] = now["tag"]  # a name only
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
        aside = _free_name(run_dir.with_name(f"old-{run_dir.name}"))
        aside.mkdir()
        for entry in entries:
            entry.rename(aside / entry.name)
        print(f"resume=never: the earlier run lies in {aside}", file=sys.stderr)


def _free_name(path: Path) -> Path:
    """The path itself, or with the first number appended that is not taken."""
    candidates = (path if k == 1 else path.with_name(f"{path.name}{k}") for k in range(1, 1 << 20))
    return next(candidate for candidate in candidates if not candidate.exists())
