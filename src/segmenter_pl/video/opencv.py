"""What OpenCV needs around videos: silence, and file names as bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2


@contextmanager
def quiet() -> Iterator[None]:
    """OpenCV says nothing in the block; FFmpeg, which is asked only once, nothing in this process from now on.

    What goes wrong is said by us in one line; FFmpeg would write hundreds about one damaged frame.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def filename(path: str | Path) -> Any:
    """A name for OpenCV: as bytes, which its type hints do not know; a str that is not UTF-8 would crash it."""
    return os.fsencode(path)
