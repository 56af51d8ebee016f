"""What is on disk between two runs of `segmenter prepare`."""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segmenter_pl.files import fresh


def tidy(work: Path, keep: Sequence[str]) -> None:
    """Remove our own working files but those to keep, and folders that are empty then."""
    for entry in [entry for entry in work.glob("*") if entry.name not in keep]:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for folder in (work, work.parent):
        with suppress(OSError):
            folder.rmdir()


def read(path: Path) -> dict[str, Any]:
    """What was written, {} if nothing was. Raises: ValueError for a damaged file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it") from error


def write(path: Path, data: dict[str, Any]) -> None:
    """As a whole or not at all."""
    with fresh(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1))


@contextmanager
def sole_owner(root: Path) -> Iterator[None]:
    """Hold the folder against a second process; the lock is the system's and ends with ours. Raises: ValueError."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is preparing {root}: wait for it") from error
        except OSError as error:  # some network file systems
            print(f"{root} cannot be locked ({error}): do not run this command twice at once", file=sys.stderr)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            root.rmdir()  # where nothing came of it, it is as it was
