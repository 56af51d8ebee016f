"""Videos and GIFs, written frame by frame."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from PIL import GifImagePlugin, Image

from segmenter_pl.pictures import RGB
from segmenter_pl.video.opencv import filename, quiet

CODEC = "mp4v"  # MPEG-4 part 2: what every OpenCV wheel can write; H.264 needs an encoder that they do not ship


class Mp4Writer:
    """Frames (H, W, 3) uint8 RGB to an MP4 file. MPEG-4 has even sides: an odd one gets its last line twice.

    Raises: OSError: the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        height, width = size
        self._path, self._written = path, 0
        self._odd = ((0, height % 2), (0, width % 2), (0, 0))
        even = (width + width % 2, height + height % 2)
        # MPEG-4 wants a fraction with a numerator of at most 65535; OpenCV makes one of three decimals.
        rate = round(rate, 3 if rate <= 65 else 2 if rate <= 655 else 1)
        with quiet():
            code = cv2.VideoWriter.fourcc(*CODEC)
            self._writer = cv2.VideoWriter(filename(path), cv2.CAP_FFMPEG, code, rate, even)
        if not self._writer.isOpened():
            raise OSError(0, f"OpenCV cannot write {even[0]}x{even[1]} pixels at {rate:g} frames per second as {CODEC}")

    def write(self, frame: RGB) -> None:
        with quiet():
            self._writer.write(cv2.cvtColor(np.pad(frame, self._odd, mode="edge"), cv2.COLOR_RGB2BGR))
        self._written += 1

    def close(self) -> None:
        with quiet():
            self._writer.release()
            check = cv2.VideoCapture(filename(self._path), cv2.CAP_FFMPEG)  # the writer says nothing of a full disk
            there = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
        if there != self._written:
            raise OSError(0, f"{there} of {self._written} frames reached the disk; is it full?")


class GifWriter:
    """Frames (H, W, 3) uint8 RGB to an endless GIF, each with its own 256 colours."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        height, width = size
        self._rate, self._written = rate, 0
        self._file = path.open("wb")
        screen = width.to_bytes(2, "little") + height.to_bytes(2, "little") + bytes(3)  # no colours for all frames
        self._file.write(b"GIF89a" + screen + b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # 0 repetitions: for ever

    def write(self, frame: RGB) -> None:
        # Delays are whole hundredths of a second: each ends at the one nearest to its time.
        start, end = (round(100 * n / self._rate) for n in (self._written, self._written + 1))
        # Colours of small regions, and of a legend, stay what they are; median cut would merge them.
        picture = Image.fromarray(frame).quantize(256, Image.Quantize.MAXCOVERAGE)
        for block in GifImagePlugin.getdata(picture, include_color_table=True, duration=10 * (end - start)):
            self._file.write(block)
        self._written += 1

    def close(self) -> None:
        self._file.write(b";")
        self._file.close()


class VideoSink:
    """An MP4 or GIF file that is opened with the first frame, when its size is known.

    Attributes:
        written: frames so far. size: (H, W) of them; an MP4's odd side is one pixel longer.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: Mp4Writer | GifWriter | None = None
        self.written, self.size = 0, (0, 0)

    def write(self, frame: RGB) -> None:
        if self._writer is None:
            self.size = frame.shape[0], frame.shape[1]
            kind = GifWriter if self._path.suffix.lower() == ".gif" else Mp4Writer
            self._writer = kind(self._path, self.size, self._rate)
        self._writer.write(frame)
        self.written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            if kind is None:
                self._writer.close()
            else:
                with suppress(OSError):  # the first error is the one to tell
                    self._writer.close()
