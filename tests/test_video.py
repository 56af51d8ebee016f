"""Frames in, frames out: number, size and rate; the recurrence of smoothing; what is left of a broken video."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Predictor, Segmenter, load_segmenter
from segmenter_pl.cli import app
from segmenter_pl.inference import predict_probabilities
from segmenter_pl.video import FrameFiles, VideoError, VideoFile, VideoSink, reading, smoothed, writing
from tests.test_predictor import blocks, save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Segmenter:
    return load_segmenter(checkpoint)


def moving(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    wide = blocks(height, width + 2 * count)
    return [wide[:, 2 * i : 2 * i + width].copy() for i in range(count)]


def save_video(path: Path, frames: list[np.ndarray], rate: float = 12.5, codec: str = "mp4v") -> Path:
    height, width = frames[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def load_video(path: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) uint8 RGB and their rate."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return np.array(frames), capture.get(cv2.CAP_PROP_FPS)


def predict(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, words), "--device", "cpu"], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
@pytest.mark.parametrize("rate", [29.97, 7, 118.437, 239.673, 999.99])
def test_mp4_keeps_number_size_and_rate(tmp_path: Path, size: tuple[int, int], rate: float) -> None:
    frames = moving(6, *size)
    with VideoSink(tmp_path / "a.mp4", rate) as sink:
        for frame in frames:
            sink.write(frame)
    read, told = load_video(tmp_path / "a.mp4")
    assert told == pytest.approx(rate, rel=1e-3)
    height, width = size
    assert read.shape == (6, height + height % 2, width + width % 2, 3)  # an odd side gets one pixel more
    if size == (48, 64):
        assert np.abs(read.astype(int) - np.array(frames)).mean() < 12  # it is compressed


@pytest.mark.parametrize("rate", [10, 30, 24])
def test_gif_keeps_number_size_and_time(tmp_path: Path, rate: float) -> None:
    frames = moving(12, 47, 63)
    with VideoSink(tmp_path / "a.gif", rate) as sink:
        for frame in frames:
            sink.write(frame)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (12, (63, 47), 0)
        shown = 0
        for i, frame in enumerate(frames):
            gif.seek(i)
            shown += gif.info["duration"]
            assert abs(shown - 1000 * (i + 1) / rate) <= 5 + 1e-9  # milliseconds, never further than half a tick away
            # Blocks of a few colours lose nothing.
            assert np.abs(np.array(gif.convert("RGB")).astype(int) - frame).max() <= 8


def test_gif_keeps_the_colours_of_small_regions(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(90, 160, (200, 200, 3), dtype=np.uint8)
    colors = [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (255, 255, 0), (64, 0, 128)]
    for i, color in enumerate(colors):
        frame[20:28, 20 * i : 20 * i + 8] = color
    with VideoSink(tmp_path / "a.gif", 10) as sink:
        sink.write(frame)
    with Image.open(tmp_path / "a.gif") as gif:
        shown = np.array(gif.convert("RGB")).astype(int)
    for i, color in enumerate(colors):
        assert np.abs(shown[24, 20 * i + 4] - color).max() <= 16


def test_frames_of_a_file(tmp_path: Path) -> None:
    frames = moving(9)
    path = save_video(tmp_path / "a.avi", frames, codec="FFV1")
    video = VideoFile(str(path), fps=99)
    assert (video.rate, video.count) == (12.5, 9)
    read = list(video)
    assert len(read) == 9
    assert all(np.abs(a.astype(int) - b).mean() < 12 for a, b in zip(read, frames, strict=True))  # RGB, not BGR
    assert video.faults == []


@pytest.mark.parametrize("smooth", [0.0, 0.7])
def test_smoothing_is_the_recurrence(model: Segmenter, smooth: float) -> None:
    frames = [blocks(48, 64, seed=i) for i in range(4)]
    segment = smoothed(Predictor(model, device="cpu"), smooth)
    average = None
    for frame in frames:
        image = torch.from_numpy(frame).permute(2, 0, 1)
        p = predict_probabilities(model, image, window=32, stride=24).double()
        average = p if average is None else smooth * average + (1 - smooth) * p
        assert np.array_equal(segment(frame), average.argmax(0))
    alone = Predictor(model, device="cpu").segment(frames[-1])
    assert np.array_equal(alone, average.argmax(0)) == (smooth == 0)


@pytest.mark.parametrize("smooth", [1, -0.1])
def test_smoothing_needs_a_present(model: Segmenter, smooth: float) -> None:
    with pytest.raises(ValueError, match="smooth="):
        smoothed(Predictor(model), smooth)


def test_video_to_video(checkpoint: Path, model: Segmenter, tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.avi", moving(5), codec="FFV1")
    code, said, _ = predict(checkpoint, video, "-o", tmp_path / "out", "--alpha", 1)
    assert code == 0
    assert "5 frames of 64x48 at 12.5 per second" in said
    assert "frames per second) →" in said
    assert names(tmp_path / "out") == {"overlays/a.mp4"}
    read, rate = load_video(tmp_path / "out" / "overlays" / "a.mp4")
    assert (read.shape, rate) == ((5, 48, 64, 3), 12.5)
    palette = np.array(model.spec.palette)
    decoded, _ = load_video(video)
    for frame, shown in zip(decoded, read, strict=True):
        expected = palette[Predictor(model, device="cpu").segment(frame.copy())]
        assert np.abs(expected - shown.astype(int)).mean() < 25  # colours suffer most from compression


def test_legend_stands_beside_every_frame(checkpoint: Path, tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.mp4", moving(4))
    assert predict(checkpoint, video, "-o", tmp_path / "b.mp4", "--legend")[0] == 0
    read, _ = load_video(tmp_path / "b.mp4")
    assert read.shape[:2] == (4, 48)
    assert read.shape[2] > 64 + 100


def test_folder_of_frames_in_natural_order_to_gif(checkpoint: Path, model: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    frames = moving(11)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"f{i}.png")
    (tmp_path / "clip" / "notes.txt").touch()
    out = tmp_path / "clip.gif"
    code, said, _ = predict(checkpoint, tmp_path / "clip", "--video", "--fps", 5, "--alpha", 0, "-o", out)
    assert code == 0
    assert "notes.txt" in said
    with Image.open(out) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (11, 200)
        for i, frame in enumerate(frames):
            gif.seek(i)
            assert np.abs(np.array(gif.convert("RGB")).astype(int) - frame).max() <= 8
    code, _, _ = predict(checkpoint, tmp_path / "clip/f*.png", "--video", "-o", tmp_path / "out")
    assert code == 0
    assert load_video(tmp_path / "out" / "overlays" / "clip.mp4")[0].shape[0] == 11


def test_memory_does_not_grow_with_length(model: Segmenter, tmp_path: Path) -> None:
    process, seen = psutil.Process(), []
    video = VideoFile(str(save_video(tmp_path / "a.mp4", moving(300))), fps=25)
    segment = smoothed(Predictor(model, device="cpu"), 0.5)
    with VideoSink(tmp_path / "b.mp4", video.rate) as sink:
        for frame in video:
            segment(frame)
            sink.write(frame)
            seen.append(process.memory_info().rss)
    assert len(seen) == 300
    assert max(seen[50:]) - seen[50] < 8e6  # 250 frames of 9 kB as pixels, 61 kB as probabilities: 17 MB if kept


@pytest.mark.parametrize(("codec", "suffix"), [("MJPG", "avi"), ("mp4v", "mkv"), ("VP80", "webm")])
def test_a_broken_tail_leaves_a_valid_video(checkpoint: Path, tmp_path: Path, codec: str, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    path = save_video(tmp_path / f"a.{suffix}", list(noise), codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    code, said, told = predict(checkpoint, path, "-o", tmp_path / "out")
    assert code == 1
    (line,) = [line for line in told.splitlines() if "cut off" in line]
    written = len(load_video(tmp_path / "out" / "overlays" / "a.mp4")[0])
    assert 5 < written < 35
    assert f"ends after {written} of 40 frames" in line
    assert f"{written} frames of 64x48" in said


def test_one_missing_frame_of_three_is_told(checkpoint: Path, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.avi", moving(3), codec="MJPG")
    data = path.read_bytes()
    end = data.index(b"movi")  # of the header; a chunk 00dc per frame follows
    for _ in range(3):
        end = data.index(b"00dc", end + 1)
    path.write_bytes(data[:end])
    code, _, told = predict(checkpoint, path, "-o", tmp_path / "out")
    assert code == 1
    assert "ends after 2 of 3 frames" in told
    assert len(load_video(tmp_path / "out" / "overlays" / "a.mp4")[0]) == 2


@pytest.mark.parametrize("good", [0, 2])
def test_what_opencv_refuses_is_a_failure_of_that_video(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    class Refusing:
        def __init__(self, *arguments: object) -> None:
            self._capture, self._left = open_capture(*arguments), good

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

        def read(self) -> object:
            self._left -= 1
            return self._capture.read() if self._left >= 0 else cv2.cvtColor(np.zeros((4, 4, 7)), cv2.COLOR_BGR2RGB)

    path = save_video(tmp_path / "a.mp4", moving(5))
    Image.fromarray(blocks()).save(tmp_path / "b.png")
    open_capture = cv2.VideoCapture
    monkeypatch.setattr(reading.cv2, "VideoCapture", Refusing)
    monkeypatch.setattr(writing.Mp4Writer, "close", lambda self: self._writer.release())
    code, said, told = predict(checkpoint, path, tmp_path / "b.png", "-o", tmp_path / "out")
    assert code == 1
    assert f"frame {good} cannot be read (" in told
    assert "1 picture in" in said
    assert (f"{good} frames of 64x48" in said) == bool(good)
    assert (tmp_path / "out/overlays/a.mp4").exists() == bool(good)


def test_names_that_are_not_utf8(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.avi")
    try:
        save_video(tmp_path / "a.avi", moving(3), codec="FFV1").rename(path)
    except OSError:
        pytest.skip("this disk takes UTF-8 only")
    code, said, _ = predict(checkpoint, path, "-o", tmp_path / os.fsdecode(b"\xe9"))
    assert code == 0
    assert "caf\\udce9.avi: 3 frames of 64x48" in said


def test_opencvs_log_is_silent_around_videos_only(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.avi", moving(9), codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "b.mp4").write_bytes(bytes(999))
    code = f"""
import cv2
from pathlib import Path
before = cv2.utils.logging.getLogLevel()
from segmenter_pl.video import VideoError, VideoFile, VideoSink
assert cv2.utils.logging.getLogLevel() == before
with VideoSink(Path({str(tmp_path / "c.mp4")!r}), 25) as sink:
    for frame in VideoFile({str(path)!r}, fps=25):
        assert cv2.utils.logging.getLogLevel() == before
        sink.write(frame)
try:
    VideoFile({str(tmp_path / "b.mp4")!r}, fps=25)
except VideoError:
    print(sink.written, cv2.utils.logging.getLogLevel() == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["True"]
    assert done.stderr == ""


def test_a_damaged_middle_is_told(checkpoint: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    path = save_video(tmp_path / "a.mp4", list(noise))
    data = bytearray(path.read_bytes())
    half, end = len(data) // 2, len(data) * 9 // 10
    data[half:end] = bytes(end - half)
    path.write_bytes(data)
    code, _, told = predict(checkpoint, path, "-o", tmp_path / "out")
    assert code == 1
    written = len(load_video(tmp_path / "out" / "overlays" / "a.mp4")[0])
    assert f"ends after {written} of 40 frames" in told


def test_a_file_whose_frames_change_size_keeps_the_first_size(checkpoint: Path, tmp_path: Path) -> None:
    jpegs = [cv2.imencode(".jpg", blocks(*size))[1] for size in [(48, 64)] * 3 + [(96, 128)] * 4]
    (tmp_path / "a.mjpeg").write_bytes(b"".join(jpeg.tobytes() for jpeg in jpegs))
    assert predict(checkpoint, tmp_path / "a.mjpeg", "-o", tmp_path / "out")[0] == 0
    assert load_video(tmp_path / "out" / "overlays" / "a.mp4")[0].shape == (7, 48, 64, 3)


def test_frame_files_that_change_size_end_the_video(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for i in range(6):
        Image.fromarray(blocks(48, 64 if i < 4 else 70)).save(tmp_path / "clip" / f"{i}.png")
    code, _, told = predict(checkpoint, tmp_path / "clip", "--video", "-o", tmp_path / "out")
    assert code == 1
    assert "4.png: frame 4 has 70x48 pixels, those before 64x48" in told
    assert len(load_video(tmp_path / "out" / "overlays" / "clip.mp4")[0]) == 4


def test_frame_files_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        Image.fromarray(blocks()).save(path)
    paths[1].write_bytes(b"nothing")
    frames = FrameFiles(paths, fps=25)
    assert len(list(frames)) == 3
    assert ["1.png is no picture" in fault for fault in frames.faults] == [True]


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_what_is_no_video(checkpoint: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4"):
        VideoFile(str(path), fps=25)
    code, _, told = predict(checkpoint, path, "-o", tmp_path / "out")
    assert code == 1
    assert "a.mp4" in told
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == set()


def test_cameras_and_urls_that_are_not_there(checkpoint: Path, tmp_path: Path) -> None:
    code, _, told = predict(checkpoint, "97", "http://127.0.0.1:9/road.mp4", "-o", tmp_path / "out")
    assert code == 1
    assert "camera 97 cannot be opened" in told
    assert "http://127.0.0.1:9/road.mp4 cannot be opened" in told


def test_ctrl_c_leaves_a_valid_video(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, segment = [], Predictor.segment

    def third_time(self: Predictor, picture: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return segment(self, picture)

    monkeypatch.setattr(Predictor, "segment", third_time)
    video = save_video(tmp_path / "a.mp4", moving(9))
    code, _, told = predict(checkpoint, video, video.with_name("later.jpg"), "-o", tmp_path / "out")
    assert code == 130
    assert "interrupted (3 frames are in" in told
    assert len(load_video(tmp_path / "out" / "overlays" / "a.mp4")[0]) == 3


def test_davis_clip(checkpoint: Path, assets: Path, tmp_path: Path) -> None:
    frames = sorted((assets / "data/video/DAVIS/JPEGImages/480p/car-shadow").glob("*.jpg"))[:6]
    (tmp_path / "car").mkdir()
    for path in frames:
        shutil.copy(path, tmp_path / "car")
    settings = ("--short-side", 64, "--smooth", 0.5, "--fps", 24)
    code, said, _ = predict(checkpoint, tmp_path / "car", "--video", "-o", tmp_path / "out", *settings)
    assert code == 0
    assert "6 frames of 854x480 at 24 per second" in said
    read, rate = load_video(tmp_path / "out" / "overlays" / "car.mp4")
    assert (read.shape, rate) == ((6, 480, 854, 3), 24)
