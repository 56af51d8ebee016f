"""`segmenter predict`: which files it makes of which, what is in them, and what it refuses."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Predictor, Segmenter, files, load_segmenter
from segmenter_pl.cli import app
from segmenter_pl.commands.folders import natural
from segmenter_pl.commands.inputs import Job, find
from segmenter_pl.commands.planning import result_names
from segmenter_pl.visualize import beside, class_shares, default_palette, legend
from tests.test_imports import loaded_by
from tests.test_predictor import COLORS, NAMES, blocks, damaged_files, save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Segmenter:
    return load_segmenter(checkpoint)


def predict(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, words), "--device", "cpu"], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks(seed=seed)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def test_a_picture_gives_labels_overlay_and_probabilities(checkpoint: Path, model: Segmenter, tmp_path: Path) -> None:
    photo, out = save(tmp_path / "photo.png"), tmp_path / "out"
    code, said, told = predict(
        checkpoint, photo, "-o", out, "--alpha", 0.3, "--overlay", "png", "--save-probabilities", "--flip"
    )
    assert (code, told) == (0, "")
    assert "1 picture in " in said
    assert "pictures per second) →" in said
    assert names(out) == {"labels/photo.png", "overlays/photo.png", "probabilities/photo.npz"}
    predictor = Predictor(model, flip=True, device="cpu")
    labels = pixels(out / "labels/photo.png")
    assert np.array_equal(labels, predictor.segment(photo))
    with Image.open(out / "labels/photo.png") as picture:
        assert picture.mode == "P"
        colors = np.array(picture.convert("RGB"))
    assert np.array_equal(colors, np.array(COLORS, np.uint8)[labels])
    blend = 0.7 * blocks() + 0.3 * colors
    assert np.abs(pixels(out / "overlays/photo.png") - blend).max() <= 0.5 + 1e-9
    with np.load(out / "probabilities/photo.npz") as file:
        stored = dict(file)
    assert tuple(stored["classes"]) == NAMES
    assert stored["probabilities"].dtype == np.float16
    np.testing.assert_allclose(stored["probabilities"], predictor.probabilities(photo), atol=5e-4)
    np.testing.assert_allclose(stored["probabilities"].sum(0, dtype=np.float64), 1, atol=5 * 2**-11)


def test_overlays_are_jpegs_by_default(checkpoint: Path, tmp_path: Path) -> None:
    assert predict(checkpoint, save(tmp_path / "a.png"), "-o", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out/overlays/a.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (70, 45))


def test_legend_is_drawn_beside_the_overlay(checkpoint: Path, tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png")
    for words, out in (((), "plain"), (("--legend",), "with")):
        assert predict(checkpoint, photo, "-o", tmp_path / out, "--overlay", "png", *words)[0] == 0
    plain, full = pixels(tmp_path / "plain/overlays/a.png"), pixels(tmp_path / "with/overlays/a.png")
    assert np.array_equal(full[:45, :70], plain)
    labels = pixels(tmp_path / "with/labels/a.png")
    drawn = {tuple(color) for color in full[:, 70:].reshape(-1, 3)}
    for k, color in enumerate(COLORS):
        assert (color in drawn) == (k in labels)


def test_shares_equal_counts() -> None:
    labels = np.array([[2, 2, 2, 0], [2, 2, 4, 0]], np.uint8)
    assert class_shares(labels, 5) == [(2, 5 / 8), (0, 2 / 8), (4, 1 / 8)]


def test_legend_keeps_its_width_and_in_videos_its_height() -> None:
    palette = default_palette(40)
    words = [f"class {k}" for k in range(40)]
    few, many = [(3, 1.0)], [(k, 1 / 40) for k in range(40)]
    assert legend(few, words, palette, 100).shape[1] == legend(many, words, palette, 100).shape[1]
    assert legend(many, words, palette, 100).shape[0] > 40 * 12
    assert legend(many, words, palette, 100, cut=True).shape[0] == 100
    assert beside(np.zeros((10, 4, 3), np.uint8), legend(few, words, palette, 30)).shape[0] == 30
    assert palette[:3] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))  # as PASCAL VOC's classes
    assert len(set(default_palette(255))) == 255


def test_folders_patterns_and_files_keep_names(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("in/b.jpg", "in/deep/er/a.PNG", "in/deep/v1.2.tif", "in/.hidden.png", "x/1/l.png", "x/2/l.png"):
        save(tmp_path / name)
    (tmp_path / "in/notes.txt").touch()
    out = tmp_path / "out"
    code, said, _ = predict(checkpoint, tmp_path / "in", tmp_path / "x/*/l.png", "-o", out)
    assert code == 0
    assert names(out / "labels") == {"b.png", "deep/er/a.png", "deep/v1.2.png", "1/l.png", "2/l.png"}
    assert names(out / "overlays") == {name.replace(".png", ".jpg") for name in names(out / "labels")}
    assert "5 pictures in" in said
    assert "(2): " in said
    assert "notes.txt" in said
    assert ".hidden.png" in said


def test_equal_names_do_not_overwrite_each_other(checkpoint: Path, model: Segmenter, tmp_path: Path) -> None:
    pictures = ["s/a.png", "s/a.tif", "s/A.bmp", "s/b.png", "t/b.png", "s/deep/b.png"]
    for seed, name in enumerate(pictures):
        save(tmp_path / name, seed)
    out = tmp_path / "out"
    inputs = [tmp_path / "s", tmp_path / "t", tmp_path / "s/a.png"]  # the last one for the second time
    assert predict(checkpoint, *inputs, "-o", out)[0] == 0
    expected = ["a.png.png", "a.tif.png", "A.bmp.png", "s/b.png.png", "t/b.png.png", "deep/b.png"]
    assert names(out / "labels") == set(expected)
    for seed, name in enumerate(expected):
        labels = Predictor(model, device="cpu").segment(blocks(seed=seed))
        assert np.array_equal(pixels(out / "labels" / name), labels)


def test_names_stay_apart_whatever_they_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        parts = [rng.choice(["a", "b", "A", "a.png", "a.png.png"], 3) for _ in range(8)]
        below = [[*rng.choice(["a.png", "A.jpg", "b"], 2), "a"] for _ in range(3)]
        jobs = [Job(Path(*map(str, p)), Path(str(p[2])), Path(str(p[0]), str(p[1])), video=False) for p in parts]
        jobs += [Job(Path(*p), Path(*p[1:]), Path(p[0]), video=False) for p in below]
        jobs += [Job("rtsp://x/a", Path("a"), Path(), video=True)] * 2
        made = result_names(jobs)
        assert len({str(name).casefold() for name in made}) == len(jobs)
        folders = {str(folder).casefold() for name in made for folder in name.parents}
        assert not any(f"{name}{s}".casefold() in folders for name in made for s in (".png", ".jpg", ".npz", ".mp4"))
        assert not any(name.is_absolute() or ".." in name.parts for name in made)


def test_a_result_does_not_take_the_name_of_a_folder_of_results(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png/b.jpg", "c.jpg", "C.jpg.JPG/d.png", "c.png/d.png"):
        save(tmp_path / "in" / name)
    code, _, told = predict(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert (code, told) == (0, "")
    expected = {"a.jpg.png", "a.png/b.png", "in/c.jpg.png", "C.jpg.JPG/d.png", "c.png/d.png"}
    assert names(tmp_path / "out/labels") == expected


def test_unreadable_files_are_listed_and_the_rest_is_done(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png")
    bad = damaged_files(folder)
    save(folder / "z.png")
    (folder / "long.png").write_bytes(b"")
    Image.new("RGB", (1, 9000)).save(folder / "long.png")
    Image.new("RGB", (1, 30)).save(folder / "narrow.png")
    code, said, told = predict(checkpoint, folder, tmp_path / "gone.jpg", tmp_path / "no*.jpg", "-o", tmp_path / "out")
    assert code == 1
    assert names(tmp_path / "out" / "labels") == {"a.png", "z.png", "narrow.png"}
    assert "3 pictures in" in said
    lines = told.splitlines()
    assert lines[0] == f"Not done, or not to the end ({len(bad) + 3}):"
    assert len(lines) == 1 + len(bad) + 3
    for name, words in {**bad, "long.png": "too long", "gone.jpg": "does not exist", "no*.jpg": "no file"}.items():
        (line,) = [line for line in lines if f"/{name}" in line]
        assert words in line
        assert line.count(name) == 1


def test_an_empty_folder_is_told(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    code, _, told = predict(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "neither pictures nor videos" in told


def test_results_are_not_taken_for_inputs(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    first, second = (predict(checkpoint, ".", "-o", "out") for _ in range(2))
    assert first[0] == second[0] == 0
    assert "1 picture in" in second[1]
    assert "Left alone" in second[1]
    assert names(tmp_path / "out") == {"labels/a.png", "overlays/a.jpg"}


@pytest.mark.parametrize(
    ("words", "results"),
    [
        (["**/*.*g", "-o", "out"], {"labels/a.png", "labels/in/b.png"}),
        (["*", "-o", "out"], {"labels/a.png", "labels/in/b.png"}),
        (["*", "-o", "deep/out"], {"labels/a.png", "labels/in/b.png"}),
        (["**/*.*g", "-o", "."], {"labels/a.png", "labels/in/b.png"}),
        (["in/**", "-o", "in"], {"labels/b.png"}),
        (["out/labels/*.png", "-o", "out/again"], {"labels/old.png"}),  # named themselves, they are meant
    ],
)
def test_patterns_can_be_used_twice(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], results: set[str]
) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "in/b.png")
    if "out/again" in words:
        save(tmp_path / "out/labels/old.png")
    monkeypatch.chdir(tmp_path)
    first, second = (predict(checkpoint, *words) for _ in range(2))
    assert (first[0], first[2]) == (second[0], second[2]) == (0, "")
    assert f"{len(results)} picture" in second[1]
    assert {f"labels/{name}" for name in names(tmp_path / words[-1] / "labels")} == results


def test_the_result_of_a_video_beside_it_is_not_taken_for_an_input(tmp_path: Path) -> None:
    for name in ("a.mp4", "out.mp4"):
        (tmp_path / name).touch()
    for text in (str(tmp_path), f"{tmp_path}/*.mp4"):
        found = find([text], tmp_path / "out.mp4", video=False)
        assert [job.source for job in found.jobs] == [tmp_path / "a.mp4"]
        assert found.left_alone == [tmp_path / "out.mp4"]


def test_links_to_other_inputs_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("m/real.png", "m/z.png", ".thumbs/t.png", "m/.git/g.png", "only.png"):
        save(folder / name)
    save(tmp_path / "elsewhere/e.png")
    (folder / "a.png").symlink_to("m/real.png")  # comes before its target
    (folder / "b").symlink_to("m")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "m/loop").symlink_to("..")
    found = find([str(folder), str(folder / "only.png")], tmp_path / "out", video=False)
    sources = {job.source for job in found.jobs}
    assert sources == {folder / name for name in ("m/real.png", "m/z.png", "only.png", "c/e.png")}
    left_alone = {folder / name for name in ("a.png", "b", ".thumbs", "m/.git", "m/loop")}
    assert set(found.left_alone) == left_alone
    assert len(found.left_alone) == len(left_alone)
    assert found.missing == []
    named = find([str(folder / "a.png"), str(folder / ".thumbs")], tmp_path / "out", video=False)
    assert [job.source for job in named.jobs] == [folder / "a.png", folder / ".thumbs/t.png"]
    both = find([str(folder / "a.png"), str(folder / "m/*.png")], tmp_path / "out", video=False)
    assert [job.source for job in both.jobs] == [folder / "m/real.png", folder / "m/z.png"]
    assert both.left_alone == [folder / "a.png"]


def test_frames_of_a_pattern_come_once_and_links_among_them_stay(tmp_path: Path) -> None:
    for name in ("0.png", "deep/1.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in/2.png").symlink_to("0.png")
    (job,) = find([f"{tmp_path}/in/**"], tmp_path / "out", video=True).jobs
    assert isinstance(job.source, tuple)
    assert sorted(path.name for path in job.source) == ["0.png", "1.png", "2.png"]


def test_an_input_that_is_too_long_for_a_name_is_missing(tmp_path: Path) -> None:
    found = find(["n" * 300, str(save(tmp_path / "a.png"))], tmp_path / "out", video=False)
    assert [job.source for job in found.jobs] == [tmp_path / "a.png"]
    assert found.missing == [f"{'n' * 300}: does not exist"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "-o", "out"], "an INPUT is empty"),
        (["in", "-o", "in"], "is the INPUT folder in itself"),
        (["in", "-o", "link"], "itself"),
        (["labels", "-o", "."], "would replace an INPUT"),
        (["in/a.png", "-o", "in/a.png"], "is a file"),
        (["in/a.png", "-o", "b.png"], "give a folder"),
        (["in/a.png", "-o", "b.mp4"], "--video"),
        (["in/a.png", "-o", "out", "--smooth", "0.5"], "--smooth 0.5"),
        (["in/a.png", "-o", "out", "--short-side", "big"], "--short-side big"),
        (["in/a.png", "-o", "out", "--stride", "40"], "stride=40 is larger than window=32"),
        (["in/a.png", "-o", "out", "--window", "0"], "window=0"),
        (["in", "--video", "-o", "out", "--save-probabilities"], "--save-probabilities is for pictures"),
        (["in", "--video", "-o", "out", "--smooth", "1"], "smooth=1"),
    ],
)
def test_refusals(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    save(tmp_path / "in/a.png")
    save(tmp_path / "labels/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    code, _, told = predict(checkpoint, *words)
    assert code == 1
    assert told.startswith("Error: ")
    assert message in told
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"x")
    for name in ("x.ckpt", "missing.ckpt"):
        code, _, told = predict(tmp_path / name, save(tmp_path / "a.png"), "-o", tmp_path / "out")
        assert code == 1
        assert name in told
        assert "Traceback" not in told


def test_a_full_disk_ends_it_and_leaves_nothing_half_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.suffix == ".jpg":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    code, _, told = predict(checkpoint, save(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert code == 1
    assert "No space left on device" in told
    assert "overlays/a.jpg" in told
    assert names(tmp_path / "out") == {"labels/a.png"}


def write_error(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no result of that name can be written."""
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(number, os.strerror(number), str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_one_result_that_cannot_be_written_is_a_failure_among_others(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for name in "abcd":
        save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in/a.png").write_bytes(b"nothing")
    write_error("b.png", number, monkeypatch)
    code, said, told = predict(checkpoint, tmp_path / "in", tmp_path / "gone.png", "-o", tmp_path / "out")
    assert code == 1
    assert "gone.png: does not exist" in told
    assert "a.png is no picture" in told
    assert f"out/labels/b.png: cannot be written: {os.strerror(number)}" in told
    goes_on = number == errno.EACCES
    assert names(tmp_path / "out" / "labels") == ({"c.png", "d.png"} if goes_on else set())
    assert ("2 pictures in" in said) == goes_on
    assert ("2 more: not begun" in told) != goes_on


def test_a_bug_does_not_take_the_summary_with_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = Predictor.predict

    def wrong(self: Predictor, picture: np.ndarray, *arguments: object) -> object:
        if picture.shape[0] > 100:
            raise RuntimeError("a bug")
        return predicted(self, picture, *arguments)

    monkeypatch.setattr(Predictor, "predict", wrong)
    save(tmp_path / "a.png")
    Image.fromarray(blocks(120, 50)).save(tmp_path / "b.png")
    words = ["predict", str(checkpoint), *(str(tmp_path / name) for name in ("gone.png", "a.png", "b.png"))]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert isinstance(done.exception, RuntimeError)
    assert "1 picture in" in done.stdout
    assert "gone.png: does not exist" in done.stderr


def test_long_names(checkpoint: Path, tmp_path: Path) -> None:
    longest = 248 * "n"
    save(tmp_path / f"{longest}.png")
    code, _, told = predict(checkpoint, tmp_path / f"{longest}.png", "-o", tmp_path / "out", "--save-probabilities")
    assert (code, told) == (0, "")
    assert names(tmp_path / "out") == {
        f"labels/{longest}.png", f"overlays/{longest}.jpg", f"probabilities/{longest}.npz"
    }  # fmt: skip


def test_a_picture_beyond_jpegs_size_is_told_and_the_rest_is_done(checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGB", (65501, 64)).save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    words = [tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out", "--short-side", 32, "--stride", 32]
    code, said, told = predict(checkpoint, *words)
    assert code == 1
    assert "a.png: its labels are written, but its overlay of 65501x64 pixels is beyond JPEG's 65500" in told
    assert "1 picture in" in said
    assert names(tmp_path / "out") == {"labels/a.png", "labels/b.png", "overlays/b.jpg"}
    assert predict(checkpoint, *words, "--overlay", "png")[0] == 0
    assert pixels(tmp_path / "out/overlays/a.png").shape == (64, 65501, 3)


def test_names_that_are_not_utf8(checkpoint: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        save(tmp_path / "in" / f"{name}.png")
    except OSError:
        pytest.skip("this disk takes UTF-8 only")
    (tmp_path / "in" / f"{name}.txt").touch()
    (tmp_path / "in" / f"{name}.jpg").touch()
    code, said, told = predict(checkpoint, tmp_path / "in", "-o", tmp_path / f"{name}_out")
    assert code == 1
    assert "caf\\udce9_out" in said
    assert "caf\\udce9.txt" in said
    assert "caf\\udce9.jpg is empty" in told
    assert names(tmp_path / f"{name}_out/labels") == {f"{name}.png.png"}


def test_fresh_files_replace_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with files.fresh(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (path.read_text(), names(tmp_path)) == ("old", {"a.txt"})
    with files.fresh(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert (path.read_text(), names(tmp_path)) == ("new", {"a.txt"})


def test_the_limit_is_lifted_on_demand(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    code, _, told = predict(checkpoint, photo, "-o", tmp_path / "out")
    assert code == 1
    assert "--any-size" in told
    assert predict(checkpoint, photo, "-o", tmp_path / "out", "--any-size")[0] == 0
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_ctrl_c_tells_what_is_done(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, predicted = [], Predictor.predict

    def second_time(self: Predictor, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predicted(self, *arguments)

    monkeypatch.setattr(Predictor, "predict", second_time)
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    code, said, _ = predict(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert code == 130
    assert "1 picture in" in said
    assert names(tmp_path / "out" / "labels") == {"a.png"}


def test_out_of_memory_is_one_failure_among_others(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = Predictor.predict

    def large(self: Predictor, picture: np.ndarray, *arguments: object) -> object:
        if picture.shape[0] > 110:
            torch.empty(2**60)  # torch's own words
        if picture.shape[0] > 100:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return predicted(self, picture, *arguments)

    monkeypatch.setattr(Predictor, "predict", large)
    save(tmp_path / "in/a.png")
    Image.fromarray(blocks(120, 50)).save(tmp_path / "in/b.png")
    Image.fromarray(blocks(105, 50)).save(tmp_path / "in/c.png")
    code, said, told = predict(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "1 picture in" in said
    assert "c.png: the memory does not suffice" in told
    assert "b.png: the memory does not suffice" in told


def test_official_checkpoint_gets_colours(assets: Path, tmp_path: Path) -> None:
    folder = assets / "golden/official/vit_p16_linear"
    code, _, told = predict(folder, save(tmp_path / "a.png"), "-o", tmp_path / "out", "--legend")
    assert (code, told) == (0, "")
    assert (tmp_path / "out/labels/a.png").is_file()


def test_natural_order() -> None:
    paths = [Path(name) for name in ("f10.png", "f2.png", "f1/b.png", "f.png", "F1.png")]
    assert [path.name for path in sorted(paths, key=natural)] == ["F1.png", "b.png", "f2.png", "f10.png", "f.png"]


@pytest.mark.parametrize("words", [[], ["--help"], ["predict", "--help"]])
def test_help_teaches_and_is_quick(words: list[str]) -> None:
    statement = (
        f"from typer.testing import CliRunner; from segmenter_pl.cli import app; CliRunner().invoke(app, {words})"
    )
    heavy = {"torch", "numpy", "cv2", "PIL", "lightning", "hydra", "timm", "albumentations", "wandb"}
    assert not loaded_by(statement) & heavy
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert "segmenter predict best.ckpt photos/ -o out" in done.stdout


def test_every_option_is_explained() -> None:
    said = CliRunner().invoke(app, ["predict", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    words = (
        "out alpha overlay legend save-probabilities multiscale flip window stride short-side device precision video "
        "smooth fps any-size"
    )
    for option in words.split(" "):
        assert f"--{option}" in said
    assert "the first picture counts" in said


def test_shell_completion_and_version() -> None:
    def run(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "segmenter_pl.cli", *environment.pop("words", "").split()],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

    asked = {"_SEGMENTER_COMPLETE": "complete_bash", "COMP_WORDS": "segmenter pred", "COMP_CWORD": "1"}
    assert run(**asked).split() == ["predict"]
    asked |= {"COMP_WORDS": "segmenter predict --sm", "COMP_CWORD": "2"}
    assert run(**asked).split() == ["--smooth"]
    assert run(words="--version").startswith("segmenter-pl ")
