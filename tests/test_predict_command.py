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
from segmenter_pl.commands.inputs import Job, natural, result_names
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
        jobs = [Job(Path(*map(str, p)), Path(str(p[2])), Path(str(p[0]), str(p[1])), video=False) for p in parts]
        jobs += [Job("rtsp://x/a", Path("a"), Path(), video=True)] * 2
        made = result_names(jobs)
        assert len({str(name).casefold() for name in made}) == len(jobs)
        assert not any(name.is_absolute() or ".." in name.parts for name in made)


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
    ("words", "message"),
    [
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


def test_pillows_limit_is_lifted_on_demand(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        if picture.shape[0] > 100:
            torch.empty(2**60)  # torch's own words
        return predicted(self, picture, *arguments)

    monkeypatch.setattr(Predictor, "predict", large)
    save(tmp_path / "in/a.png")
    Image.fromarray(blocks(120, 50)).save(tmp_path / "in/b.png")
    code, said, told = predict(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "1 picture in" in said
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


def test_shell_completion_and_version() -> None:
    def run(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "segmenter_pl.cli", *environment.pop("words", "").split()],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

    asked = {"_SEGMENTER_COMPLETE": "complete_bash", "COMP_WORDS": "segmenter pre", "COMP_CWORD": "1"}
    assert run(**asked).split() == ["predict"]
    asked |= {"COMP_WORDS": "segmenter predict --sm", "COMP_CWORD": "2"}
    assert run(**asked).split() == ["--smooth"]
    assert run(words="--version").startswith("segmenter-pl ")
