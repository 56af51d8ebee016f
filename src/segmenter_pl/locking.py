"""A folder held against a second process."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_held: set[int] = set()


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


# Processes share what was open when they were forked: loaders that outlive a killed run would hold its lock.
os.register_at_fork(after_in_child=_let_go)


@contextmanager
def sole_owner(folder: Path, busy: str) -> Iterator[None]:
    """Hold a folder, which is made if need be; one that was made is removed again if nothing came into it.

    The lock is the operating system's and ends with the process, however that ends. Where the disk has no locks (some
    network file systems) that is said. Raises: ValueError, with `busy`, where another process holds it.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(busy) from error
        except OSError as error:
            print(f"{folder} cannot be locked ({error}): do not run this command twice at once", file=sys.stderr)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)
        if new:
            with suppress(OSError):
                folder.rmdir()  # fails, rightly, where something is in it
