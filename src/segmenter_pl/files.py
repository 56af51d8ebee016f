"""Files that are there as a whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix: renamed to it when the block ends well, removed otherwise.

    Its name is short, so that `path` may have the longest that the disk takes. Folders are made. Nothing is synced to
    the disk: that would take longer than many a prediction.

    Raises: OSError that names `path`, e.g. because the disk is full.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:  # libraries name the temporary file, or none
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """The whole of `data` on the disk, or the old file and nothing beside it; unlike `fresh` alone, also after a power
    cut. Raises: OSError that names `path`, e.g. because the disk is full.
    """
    with fresh(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a crash of the machine could leave an empty file under the final name
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk: a rename that only the memory knows is undone by a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
