"""How a call may end: well, or with a sentence of ours. Everything else is a finding."""

import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from segmenter_pl.faults.explained import explanation

SECONDS = 20.0  # a call that takes longer hangs
GROWTH = 1_000_000  # kB; so much more memory, and it is a finding
LONGEST = 5000  # characters of a sentence
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
HARMLESS = ("/dev/", "/proc/")


class HangError(BaseException):
    """No `except Exception` of what is tested takes it."""


def verdict(call: Callable[[], Any], name: str = "", ends: Counter[str] | None = None) -> str:
    """What is wrong with how a call ends, or "".

    Args:
        name: must stand in the sentence of an error.
        ends: counts results and sentences.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends = Counter() if ends is None else ends
    try:
        with _alarm():
            call()
        ends["result"] += 1
    except HangError:
        return f"it does not end within {SECONDS:.0f} s"
    except Exception as error:
        sentence = explanation(error)
        ends["sentence"] += 1
        if sentence is None:
            return "".join(traceback.format_exception(error))
        if name not in sentence or len(sentence) > LONGEST:
            return f"a sentence that does not name {name}, or is too long: {sentence[:LONGEST]}"
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"it took {growth / 1e6:.1f} GB" if growth > GROWTH else ""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Watch:
    """Notes files that Python opens for writing or changes outside of some folders, programs and connections.

    An audit hook cannot be taken away again; outside of the block it does nothing.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in folders)
        self.active, self.seen = False, list[str]()
        sys.addaudithook(self._note)

    def __enter__(self) -> "Watch":
        self.active = True
        return self

    def __exit__(self, *error: object) -> None:
        self.active = False

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in PROGRAMS and not (event == "socket.connect" and isinstance(arguments[1], str | bytes)):
            self.seen.append(f"{event}{arguments}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            if set(mode or "") & set("wax+") or (mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                self._touch(event, path)
        elif event in CHANGES:
            self._touch(event, arguments[1 if event in ("os.rename", "os.link", "os.symlink") else 0])

    def _touch(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        self.active = False  # what follows opens nothing, but asks the disk
        place = f"{os.path.realpath(os.fsdecode(path))}{os.sep}"
        if not place.startswith((*self.folders, *HARMLESS)):
            self.seen.append(f"{event}({os.fsdecode(path)!r})")
        self.active = True
