"""One thing to look at: a picture of a file or of an upload, a video, or a folder that holds a video's frames."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Protocol

from PIL import Image

from segmenter_pl.pictures import RGB, PictureError, opened, read_rgb
from segmenter_pl.video import VideoError, VideoFile

# What a browser may hand over. Pillow knows more; of these no reader starts another program (EPS: Ghostscript).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")


class Item(Protocol):
    """A picture, or the frames of a video.

    Attributes:
        name: for people. video: whether it has frames, by number from 0; a picture is its own frame 0.
    """

    name: str
    video: bool

    def rgb(self, frame: int = 0) -> RGB:
        """The pixels (H, W, 3) uint8. Raises PictureError and VideoError where there are none."""

    def length(self) -> tuple[int | None, float]:
        """How many frames it announces, None if it does not; and how many there are per second."""

    def close(self) -> None:
        """Lets go of what is open."""


class Still:
    """A picture file."""

    video = False

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path

    def rgb(self, frame: int = 0) -> RGB:
        return read_rgb(self._path)

    def length(self) -> tuple[int | None, float]:
        return 1, 1.0

    def close(self) -> None:
        """Nothing is open."""


class Upload(Still):
    """A picture that came through the page: its file's bytes, which lie in memory and nowhere else.

    Raises: PictureError where they are no picture, or one beyond the limit.
    """

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self._data = name, data
        self.rgb()

    def rgb(self, frame: int = 0) -> RGB:
        try:
            with opened(BytesIO(self._data)) as file:
                if file.format not in FORMATS:
                    raise PictureError(f"is a {file.format} file: save it as PNG or JPEG")
                return read_rgb(file)
        except PictureError as error:
            raise PictureError(f"{self.name} {error}") from error
        except Image.UnidentifiedImageError as error:
            raise PictureError(
                f"{self.name} is no picture, or of a kind that cannot be read: give a PNG or JPEG"
            ) from error
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers answer damaged bytes with almost any exception
            raise PictureError(f"{self.name} is damaged ({error}): copy or download it again") from error


class FrameFolder:
    """Picture files that are the frames of a video, each read when it is asked for."""

    video = True

    def __init__(self, name: str, paths: Sequence[Path], fps: float) -> None:
        self.name, self._paths, self._fps = name, paths, fps

    def rgb(self, frame: int = 0) -> RGB:
        if frame >= len(self._paths):
            raise VideoError(f"{self.name} ends after {len(self._paths)} frames")
        return read_rgb(self._paths[frame])

    def length(self) -> tuple[int | None, float]:
        return len(self._paths), self._fps

    def close(self) -> None:
        """Nothing is open."""


class Film:
    """A video file, which is read forwards; for an earlier frame it is opened anew."""

    video = True

    def __init__(self, name: str, path: Path, fps: float) -> None:
        self.name, self._path, self._fps = name, path, fps
        self._lock = Lock()
        self._file: VideoFile | None = None
        self._frames: Iterator[RGB] = iter(())
        self._next = 0

    def rgb(self, frame: int = 0) -> RGB:
        with self._lock:
            if self._file is None or frame < self._next:
                self._reopen()
            for rgb in self._frames:
                self._next += 1
                if self._next > frame:
                    return rgb
        raise VideoError(f"{self.name} ends after {self._next} frames")

    def length(self) -> tuple[int | None, float]:
        with self._lock:
            file = self._file or self._reopen()
            return file.count, file.rate

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _reopen(self) -> VideoFile:
        self.close()
        self._file = VideoFile(str(self._path), self._fps)
        self._frames, self._next = iter(self._file), 0
        return self._file
