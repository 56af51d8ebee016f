"""The speed of an evaluation: what is counted, that it is recorded, and that it is plotted."""

import json
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.eval import evaluate
from segmenter_pl.evaluation.speed import Stopwatch, name_of
from segmenter_pl.train import train
from tests.test_train import QUIET, configured, tiny_run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "rate"), [([], 0.0), ([0.5], 2.0), ([100.0, 0.5], 2.0), ([100.0, 0.25, 0.75, 0.5], 2.0)]
)
def test_the_first_picture_counts_only_if_it_is_alone(seconds: list[float], rate: float) -> None:
    stopwatch = Stopwatch()
    stopwatch.seconds += seconds
    assert stopwatch.pictures_per_second == rate


def test_what_is_timed_is_what_the_block_takes() -> None:
    stopwatch = Stopwatch()
    for _ in range(3):
        with stopwatch.picture(CPU):
            time.sleep(0.02)
        time.sleep(0.02)  # between pictures nothing counts
    assert len(stopwatch.seconds) == 3
    assert all(one >= 0.02 for one in stopwatch.seconds)
    assert stopwatch.pictures_per_second <= 50


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_waited_for() -> None:
    """The time is that of the work, and not of putting it into a queue."""
    device = torch.device("cuda")
    factor = torch.randn(8192, 8192, device=device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stopwatch = Stopwatch()
    for _ in range(3):
        with stopwatch.picture(device):
            begin.record()
            for _ in range(20):
                factor = torch.nn.functional.normalize(factor @ factor)
            end.record()
    assert stopwatch.seconds[-1] >= begin.elapsed_time(end) / 1000
    assert name_of(device) == torch.cuda.get_device_name(0)


def test_an_evaluation_records_its_speed_and_the_plot_shows_it(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "seed-0"
    train(tiny_run(run))
    results = json.loads((run / "results.json").read_text())
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert results["parameters"] == sum(one.numel() for name, one in state.items() if name.startswith("model."))
    begun = time.perf_counter()
    evaluate(configured("eval", f"ckpt={run / 'checkpoints/last.ckpt'}", *QUIET))
    took = time.perf_counter() - begun
    found = json.loads((run / "eval/last/shapes-val-none/results.json").read_text())
    assert found["speed"]["device"] == name_of(CPU)
    assert found["speed"]["images_per_second"] > (found["pictures"] - 1) / took  # reading and more are not counted
    out = tmp_path / "speed.svg"
    done = CliRunner().invoke(app, ["plot", "speed", str(tmp_path / "runs"), "-o", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "<!-- inference speed (images/s) -->" in out.read_text()
    assert f"<!-- {'Evaluated here (last/val-none)'} -->" in out.read_text()
