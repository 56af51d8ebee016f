"""Frames from any source that OpenCV opens, and from picture files; one at a time."""

import os
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from segmenter_pl.pictures import RGB, PictureError, TooLargeError, read_rgb, refuse_beyond_limit
from segmenter_pl.video.opencv import filename, quiet

FASTEST = 1000  # frames per second; sources that do not know their rate tell nonsense
COUNTED = (".avi", ".mp4", ".mov", ".m4v")  # hold their number of frames; the others' is estimated from their length


class VideoError(ValueError):
    """A video that cannot be opened, or holds no frame."""


class VideoFile:
    """The frames of a file, a camera (by its number), a URL or anything else that OpenCV opens.

    OpenCV scales frames of another size than the first one to it, and turns frames as the file says.

    Attributes:
        rate: frames per second; `fps` where the source does not tell. count: frames that it announces, None if unknown.
        faults: what was wrong with it; complete when all frames have been taken.
    """

    def __init__(self, source: str | int, fps: float) -> None:
        backend = cv2.CAP_FFMPEG if isinstance(source, str) and os.path.isfile(source) else cv2.CAP_ANY
        with quiet():
            self._capture = cv2.VideoCapture(source if isinstance(source, int) else filename(source), backend)
        if not self._capture.isOpened():
            raise VideoError(_not_opened(source))
        width, height = (self._capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        try:
            refuse_beyond_limit(int(width * height))
        except TooLargeError as error:
            raise VideoError(f"{source} {error}") from error
        told = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = told if isfinite(told) and 0 < told <= FASTEST else fps
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if isfinite(count) and 0 < count < 2**31 else None
        self._counted = Path(str(source)).suffix.lower() in COUNTED
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[RGB]:
        taken, size = 0, None
        while (frame := self._next(taken)) is not None:
            size = size or frame.shape
            if frame.shape != size:  # not with FFmpeg, but other sources may
                self.faults.append(_changed(taken, frame, size))
                return
            taken += 1
            yield frame
        if self.faults or self.count is None:
            return
        if taken < self.count - (0 if self._counted else 1 + self.count // 100):
            self.faults.append(f"it ends after {taken} of {self.count} frames: it is cut off or damaged there")

    def _next(self, number: int) -> RGB | None:
        """The next frame, None at the end."""
        try:
            with quiet():
                there, frame = self._capture.read()
            return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8) if there else None
        except cv2.error as error:
            self.faults.append(f"frame {number} cannot be read ({error.err or error}): it ends there")
            return None

    def close(self) -> None:
        with quiet():
            self._capture.release()


class FrameFiles:
    """Picture files as the frames of a video; those that cannot be read are left out. Attributes as `VideoFile`."""

    def __init__(self, paths: Sequence[Path], fps: float) -> None:
        self._paths = paths
        self.rate, self.count = fps, len(paths)
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[RGB]:
        size = None
        for i, path in enumerate(self._paths):
            try:
                frame = read_rgb(path)
            except PictureError as error:
                self.faults.append(f"frame left out: {error}")
                continue
            size = size or frame.shape
            if frame.shape != size:
                self.faults.append(f"{path.name}: {_changed(i, frame, size)}")
                return
            yield frame

    def close(self) -> None:
        """Nothing is open."""


Frames = VideoFile | FrameFiles


def _not_opened(source: str | int) -> str:
    if isinstance(source, int):
        return f"camera {source} cannot be opened: is it connected, and free?"
    if os.path.isfile(source) and not Path(source).stat().st_size:
        return f"{source} is empty (0 bytes)"
    return f"{source} cannot be opened as a video: it is missing, cut off, or of a kind that OpenCV cannot read"


def _changed(number: int, frame: np.ndarray, size: tuple[int, ...]) -> str:
    return (
        f"frame {number} has {frame.shape[1]}x{frame.shape[0]} pixels, those before {size[1]}x{size[0]}: "
        "it ends there, make them equal"
    )
