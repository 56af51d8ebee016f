"""Files that are there as a whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix: renamed to it when the block ends well, removed otherwise.

    Folders are made. Nothing is synced to the disk: that would take longer than many a prediction.

    Raises: OSError that names `path`, e.g. because the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:  # libraries name the temporary file, or none
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
