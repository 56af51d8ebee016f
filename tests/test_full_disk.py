"""A disk that fills up while a run writes: a clear end, nothing damaged, and on it goes when there is space."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_resume import assert_equal, at_call, errors_of, outcome, read_checkpoint, run

SMALL = "900k"  # one checkpoint of the tiny model fits, two do not


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def full_at_the_first_validation() -> None:
    """Leave no byte when the row of step 3 is written, which adds columns and so replaces the file."""
    from segmenter_pl.callbacks import Recorder

    at_call(Recorder, "_write", 3, lambda: fill(Path("run")))


def scenario(name: str, folder: Path) -> None:
    """In a mount namespace of its own, where mounting is allowed and ends with the process."""
    os.chdir(folder)
    run_dir = Path("run")
    run_dir.mkdir()
    room = SMALL if name == "checkpoint" else "8m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(run_dir)], check=True)
    trap = full_at_the_first_validation if name == "log" else None
    assert run(run_dir, trap=trap) == 1
    said = errors_of(run_dir).read_text()
    if name == "checkpoint":
        assert "last.ckpt cannot be written" in said
        assert "the one before it is intact" in said
    else:
        assert "metrics.csv" in said
        assert "No space left" in said
    assert read_checkpoint(run_dir / "checkpoints/last.ckpt")["global_step"] >= 2
    assert not list(run_dir.rglob("*.tmp"))
    (run_dir / "filler").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=64m", str(run_dir)], check=True)
    assert run(run_dir) == 0
    assert run(folder / "whole") == 0
    results = [outcome(path) for path in (run_dir, folder / "whole")]
    for one in results:
        one.pop("results")  # holds the paths
    assert_equal(*(one | {"results": None} for one in results))
    print("as expected")


@pytest.mark.parametrize("name", ["checkpoint", pytest.param("log", marks=pytest.mark.slow)])
def test_full_disk_while_writing(name: str, tmp_path: Path) -> None:
    private = ["unshare", "--map-root-user", "--mount"]
    if sys.platform != "linux" or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("needs Linux and the right to make a mount namespace")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [*private, sys.executable, "-m", "tests.test_full_disk", name, str(tmp_path)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "as expected" in done.stdout, done.stdout + done.stderr


if __name__ == "__main__":
    scenario(sys.argv[1], Path(sys.argv[2]))
