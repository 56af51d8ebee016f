"""One limit of pixels for every reader, kept before anything is decoded."""

import resource
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segmenter_pl.checking.pairs import Pair, examine
from segmenter_pl.data.pairs import read_label, read_picture
from segmenter_pl.pictures import LIMIT, PictureError, read_rgb, without_limit
from segmenter_pl.prepare.panoptic import segment
from segmenter_pl.video.reading import VideoError, VideoFile

Mode = str
KINDS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def picture(folder: Path, kind: str = "PNG", mode: Mode = "RGB", side: int = 100) -> Path:
    path = folder / f"a.{KINDS[kind]}"
    Image.new(mode, (side, side)).save(path, kind)
    return path


def readers(mode: Mode) -> list[Callable[[Path], Any]]:
    return [read_label] if mode != "RGB" else [read_picture, read_rgb]


@pytest.mark.parametrize(
    ("kind", "mode"), [*((kind, "RGB") for kind in KINDS), ("PNG", "L"), ("PNG", "P"), ("TIFF", "I;16")]
)
def test_all_readers_heed_the_limit(tmp_path: Path, kind: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path, kind, mode)
    for read in readers(mode):
        monkeypatch.setenv(LIMIT, "0.01")
        assert read(path).shape[:2] == (100, 100)
        monkeypatch.setenv(LIMIT, "0.0099")
        with pytest.raises(ValueError, match=r"has 0\.01 megapixels, and 0\.0099 are the limit: .*" + LIMIT) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} has")
        with without_limit():
            assert read(path).shape[:2] == (100, 100)
        with pytest.raises(ValueError, match="are the limit"):
            read(path)


@pytest.mark.parametrize("words", ["0", "-1", "nan", "many", ""])
def test_a_limit_that_is_none(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path)
    monkeypatch.setenv(LIMIT, words)
    for read in (read_label, read_picture, read_rgb):
        with pytest.raises(ValueError, match=f"^{LIMIT}={words}: give a number of megapixels above 0, or inf"):
            read(path)


def test_a_raised_limit_reads_what_pillow_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = picture(tmp_path, "JPEG")
    with pytest.raises(PictureError, match=r"0\.002 are the limit"):
        read_rgb(path)
    monkeypatch.setenv(LIMIT, "1")
    assert read_rgb(path).shape == read_picture(path).shape == (100, 100, 3)


def png(width: int, height: int, depth: int, kind: int) -> bytes:
    """A header, and a few kB that go on for ever."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = zlib.compress(bytes(3_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def jpeg(side: int) -> bytes:
    """A small one whose header claims another size."""
    file = BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = {"grey": png(30_000, 30_000, 8, 0), "colours": png(30_000, 30_000, 8, 2), "jpeg": jpeg(30_000)}
    for name, data in bombs.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        for read in (read_picture, read_rgb, read_label):
            with pytest.raises(ValueError, match="has 900 megapixels, and 179 are the limit") as caught:
                read(path)
            assert str(path) in str(caught.value)
        found = examine(Pair("train", path, path), np.zeros(256, np.int16), 1, lambda: "").findings
        assert [one.kind for one in found] == ["unreadable picture", "unreadable label"]
        assert all("900 megapixels" in one.text for one in found)
        with pytest.raises(ValueError, match="900 megapixels"):
            segment(path, {}, np.uint8, (1, 1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; decoded, one takes 900 MB


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("length", [0xFE9F000C, 0x7FFFFFFF, 1 << 20])
def test_a_part_of_a_png_that_claims_gigabytes(tmp_path: Path, mode: Mode, length: int) -> None:
    path = picture(tmp_path, "PNG", mode)
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = length.to_bytes(4, "big")
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"a\.png (cannot be read as a picture|is damaged)"):
        readers(mode)[0](path)
    assert read_rgb(path).shape == (100, 100, 3)  # Pillow takes what is there
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_what_pillow_does_not_know_is_not_decoded(tmp_path: Path) -> None:
    hdr = cv2.imencode(".hdr", np.zeros((4, 4, 3), np.float32))[1].tobytes()
    assert cv2.imdecode(np.frombuffer(hdr, np.uint8), cv2.IMREAD_COLOR) is not None
    (tmp_path / "a.jpg").write_bytes(hdr)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_picture(tmp_path / "a.jpg")


def test_videos_heed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (100, 100))
    writer.write(np.zeros((100, 100, 3), np.uint8))
    writer.release()
    assert next(iter(VideoFile(str(path), 5))).shape == (100, 100, 3)
    monkeypatch.setenv(LIMIT, "0.0099")
    with pytest.raises(VideoError, match=r"a\.avi has 0\.01 megapixels, and 0\.0099 are the limit"):
        VideoFile(str(path), 5)
