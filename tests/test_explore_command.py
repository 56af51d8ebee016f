"""`segmenter explore`: what it shows, what it refuses before it starts, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
import requests
import uvicorn
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.commands.exploring import samples, short_names
from segmenter_pl.explore import serving
from tests.exploring import get
from tests.test_commands import NO_NETWORK, ROOT
from tests.test_imports import files_importing, loaded_by
from tests.test_predict_command import save
from tests.test_predictor import save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


def explore(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["explore", *map(str, words), "--device", "cpu"], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_it_runs_without_a_network_until_ctrl_c(checkpoint: Path, tmp_path: Path) -> None:
    """Nothing on stderr, no host looked up, a page that answers, and exit code 0."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(NO_NETWORK.format(log=str(tmp_path / "connections")))
    settings = {**os.environ, "PYTHONPATH": str(tmp_path / "watch"), "OMP_NUM_THREADS": "1"}
    words = [checkpoint, save(tmp_path / "in/photo.png").parent, "--no-browser", "--device", "cpu"]
    code = (
        f"from segmenter_pl.cli import main; import sys; sys.argv = ['segmenter', 'explore', *{[*map(str, words)]!r}]"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; main()"],
        cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        said = command.stdout.readline()
        (site,) = re.findall(r"^best\.ckpt → (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)$", said, re.MULTILINE)
        assert [item["name"] for item in get(f"{site}pictures").json()] == ["photo.png"]
        assert get(f"{site}pictures/0/labels").content
        command.send_signal(signal.SIGINT)
        said, told = command.communicate(timeout=60)
    assert (command.returncode, said, told) == (0, "Stopped\n", "")
    assert not (tmp_path / "connections").exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(site, timeout=10)


def test_the_browser_is_opened_where_there_is_a_screen(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    monkeypatch.setattr(serving.threading.Thread, "start", lambda thread: thread.run())
    monkeypatch.setenv("DISPLAY", ":0")
    code, said, told = explore(checkpoint)
    assert (code, told) == (0, "")
    assert opened == re.findall(r"http\S+", said)
    assert explore(checkpoint, "--no-browser")[0] == 0
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert explore(checkpoint)[0] == 0
    assert len(opened) == 1


def test_mistakes_are_told_before_a_server_runs(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"no checkpoint")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for words, expected in (
            ([tmp_path / "missing.ckpt"], "missing.ckpt"),
            ([broken], "broken.ckpt"),
            ([checkpoint, "--compare", broken], "broken.ckpt"),
            ([checkpoint, tmp_path / "nowhere"], "nowhere: does not exist"),
            ([checkpoint, tmp_path / "empty"], "empty: holds neither pictures nor videos"),
            ([checkpoint, "0"], "0 is no file: give pictures, a video file or a folder"),
            ([checkpoint, "rtsp://camera.example/stream"], "is no file: give pictures"),
            ([checkpoint, "--short-side", "tall"], "--short-side tall"),
            ([checkpoint, "--port", port], f"--port {port} is in use: give another one, or leave it out"),
        ):
            code, said, told = explore(*words)
            assert (code, said) == (1, ""), words
            assert expected in told


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("segmenter_pl.explore.application", "segmenter_pl.explore.serving")
    for name in [one for one in sys.modules if one in ours or one.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    code, said, told = explore(checkpoint)
    assert (code, said) == (1, "")
    assert 'pip install "segmenter-pl[explore]"' in told


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside, folder = save(tmp_path / "outside/secret.png"), tmp_path / "in"
    save(outside.parent / "other.png")
    save(folder / "b/photo.png")
    (folder / "secret.png").symlink_to(outside)
    (folder / "a").symlink_to(outside.parent)
    (folder / "c.png").symlink_to(folder / "b/photo.png")
    assert {item.name for item in samples(str(folder), 25, video=False)} == {"b/photo.png"}
    assert "Left out, as links that lead out of the folder (2)" in capsys.readouterr().err
    assert [item.name for item in samples(f"{folder}/**/*.png", 25, video=False)] == ["b/photo.png"]
    assert [item.name for item in samples(str(folder / "secret.png"), 25, video=False)] == ["secret.png"]  # named
    for name in ("b/photo.png", "c.png"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match="links that lead out"):
        samples(str(folder), 25, video=False)


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / f"in/{seed}.png", seed)
    assert [item.video for item in samples(str(tmp_path / "in"), 12, video=False)] == [False] * 3
    (film,) = samples(str(tmp_path / "in"), 12, video=True)
    assert (film.name, film.video, film.length()) == ("in", True, (3, 12))


def test_names_tell_two_checkpoints_apart() -> None:
    assert short_names([Path("a/best.ckpt")]) == ["best.ckpt"]
    assert short_names([Path("a/best.ckpt"), Path("a/last.ckpt")]) == ["best.ckpt", "last.ckpt"]
    assert short_names([Path("a/best.ckpt"), Path("b/best.ckpt")]) == ["a/best.ckpt", "b/best.ckpt"]
    runs = [Path(f"runs/{name}/seed-0/checkpoints/best.ckpt") for name in ("one", "two")]
    assert short_names(runs) == ["one/…/best.ckpt", "two/…/best.ckpt"]
    assert short_names(runs[:1] * 2) == ["best.ckpt"] * 2


def test_only_this_package_knows_the_web() -> None:
    for library in ("starlette", "uvicorn"):
        assert {path.split("/")[0] for path in files_importing(library)} == {"explore"}
    assert not loaded_by("import segmenter_pl.explore.application") & {"lightning", "hydra"}
