"""What the page offers to look at, by number: no request names a path."""

from collections.abc import Sequence
from io import BytesIO
from itertools import count
from threading import Lock
from typing import Any

from PIL import Image

from segmenter_pl.explore.items import Item, Upload
from segmenter_pl.explore.recent import Recent
from segmenter_pl.pictures import RGB

UPLOADS = 8  # kept in memory, as the bytes of their files; the oldest goes first
DECODED = 4  # pictures and frames, as pixels
THUMBNAIL = (192, 144)  # pixels at most


class UnknownError(ValueError):
    """There is nothing of that number, or not any more."""


class Library:
    """The pictures and videos that the command was given, and the last few that were dropped on the page."""

    def __init__(self, samples: Sequence[Item]) -> None:
        self._samples = dict(enumerate(samples))
        self._uploads: dict[int, Item] = {}
        self._numbers = count(len(samples))
        self._lock = Lock()
        self._decoded: Recent[RGB] = Recent(DECODED)

    def listed(self) -> list[dict[str, Any]]:
        """Number, name and kind of each, the uploads last."""
        with self._lock:
            items = {**self._samples, **self._uploads}
        uploads = set(items) - set(self._samples)
        return [{"id": k, "name": one.name, "video": one.video, "upload": k in uploads} for k, one in items.items()]

    def add(self, name: str, data: bytes) -> int:
        """Take a picture in; returns its number. Raises PictureError."""
        item = Upload(name, data)
        with self._lock:
            number = next(self._numbers)
            while len(self._uploads) >= UPLOADS:
                self._uploads.pop(next(iter(self._uploads)))
            self._uploads[number] = item
        return number

    def item(self, number: int) -> Item:
        """Raises UnknownError."""
        with self._lock:
            item = self._samples.get(number) or self._uploads.get(number)
        if item is None:
            raise UnknownError(f"there is no picture {number} (any more): choose one from the list, or drop it again")
        return item

    def rgb(self, number: int, frame: int) -> RGB:
        """The pixels (H, W, 3) of a picture or a frame. Raises UnknownError, PictureError, VideoError."""
        item = self.item(number)
        with self._lock:
            return self._decoded.get((number, frame), lambda: item.rgb(frame))

    def picture(self, number: int, frame: int) -> bytes:
        """A JPEG of a picture or a frame, for the page. Errors as `rgb`."""
        return _jpeg(Image.fromarray(self.rgb(number, frame)), 95)

    def thumbnail(self, number: int) -> bytes:
        """A small JPEG of a picture or a video's first frame. Errors as `rgb`."""
        small = Image.fromarray(self.item(number).rgb(0))
        small.thumbnail(THUMBNAIL, reducing_gap=2)
        return _jpeg(small, 85)

    def close(self) -> None:
        """Lets go of videos."""
        for item in self._samples.values():
            item.close()


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
