"""`segmenter benchmark`: counts against sums by hand and published numbers, and what a person sees. No test depends on
how long anything takes."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from typer.testing import CliRunner

from segmenter_pl.benchmarking.driver import Effort
from segmenter_pl.benchmarking.measuring import Measurement
from segmenter_pl.benchmarking.plan import Variant, paper_rows, swept, variant
from segmenter_pl.benchmarking.table import Speed, compared, draw, names, rows
from segmenter_pl.benchmarking.timing import timed
from segmenter_pl.cli import app

D, DEPTH, P, SIDE, K = 32, 2, 16, 64, 6
N = (SIDE // P) ** 2
TINY = (f"backbone.embed_dim={D}", f"backbone.depth={DEPTH}", "backbone.num_heads=1", f"backbone.patch_size={P}")
SMALL = (*TINY, f"dataset.crop={SIDE}")
QUICK = ("--seconds", "0", "--threads", "1", "--device", "cpu")


def segmenter(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["benchmark", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def speed(one: Variant, mode: str, batch: int, rate: float, memory: float = 1.0) -> Speed:
    return Speed(one, mode, batch, Measurement(1000 * batch / rate, rate, 1.0, 3, memory), "cpu, 1 thread", 0.5)


def block(tokens: int) -> int:
    """Operations of a transformer block: queries, keys, values; two products of attention; projection; MLP of 4 D."""
    return 2 * tokens * D * 3 * D + 2 * 2 * tokens**2 * D + 2 * tokens * D * D + 2 * 2 * tokens * D * 4 * D


@pytest.mark.parametrize("decoder", ["linear", "mask"])
def test_operations_are_those_counted_by_hand(decoder: str) -> None:
    embedding = 2 * N * 3 * P * P * D
    encoder = embedding + DEPTH * block(N + 1)
    masks = 2 * N * D * D + 2 * block(N + K) + 2 * N * D * D + 2 * K * D * D + 2 * N * K * D
    forward = encoder + {"linear": 2 * N * D * K, "mask": masks}[decoder]
    counts = variant([*SMALL, f"decoder={decoder}"]).counts
    assert round(1e9 * counts.inference_gflops) == forward
    # Each product has two for the gradients of its factors; but the pixels need none.
    assert round(1e9 * counts.training_gflops) == 3 * forward - embedding


def test_a_frozen_encoder_has_no_backward_pass() -> None:
    counts = variant([*SMALL, "decoder=linear", "backbone.freeze=true"]).counts
    assert round(1e9 * (counts.training_gflops - counts.inference_gflops)) == 2 * N * D * K  # of the weights alone


@pytest.mark.parametrize(
    ("experiment", "parameters", "gmacs"),
    [("mmseg_ade20k_seg_t16_mask", 6_713_388, 12.67), ("mmseg_ade20k_seg_s16_linear", 22_041_366, 31.86)],
)
def test_counts_are_those_of_mmsegmentation(experiment: str, parameters: int, gmacs: float) -> None:
    """Parameters as in test_recipes; its counter tells multiplications, and has normalisations too."""
    counts = variant([f"experiment={experiment}"]).counts
    assert counts.parameters == parameters
    assert counts.inference_gflops == pytest.approx(2 * gmacs, rel=0.005)


def test_a_row_for_each_batch_size_and_mode(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "speed.csv"
    code, said, told = segmenter(*SMALL, *QUICK, "--batch", "2,1", "-o", out)
    assert (code, told) == (0, "")
    found = table_of(out)
    places = [(row["mode"], row["batch"]) for row in found]
    assert places == [("inference", "1"), ("inference", "2"), ("training", "1"), ("training", "2")]
    for row in found:
        number = {key: float(row[key]) for key in list(row)[list(row).index("milliseconds") :] if key != "torch"}
        assert all(value > 0 for value in number.values()), row
        assert number["images_per_second"] == pytest.approx(1000 * int(row["batch"]) / number["milliseconds"])
        work = float(row["inference_gflops" if row["mode"] == "inference" else "training_gflops"])
        assert number["tflops"] == pytest.approx(work * number["images_per_second"] / 1000)
        assert number["mfu"] == pytest.approx(number["tflops"] / number["ceiling_tflops"])
        assert int(number["samples"]) == 3
        assert (row["precision"], row["compile"], row["classes"], row["crop"]) == ("32-true", "False", "6", "64")
        assert (row["device"], row["torch"]) == ("cpu, 1 thread", torch.__version__)
    assert len({row["ceiling_tflops"] for row in found}) == 1
    lines = said.splitlines()
    assert lines[0].split() == ["model", "mode", "batch", "ms", "images/s", "memory,", "GB", "of", "ceiling"]
    assert [line.split()[3:5] for line in lines[1:5]] == [list(place) for place in places]
    assert re.fullmatch(
        r"vit_micro mask 64: 6 classes, 32-true, 0\.\d\d M parameters, 0\.00\d+ GFLOPs a picture \(0\.0\d+ in "
        r"training\); inference [\d.]+ images/s \(batch [12]\); training [\d.]+ images/s \(batch [12]\)",
        lines[6],
    )
    assert lines[7] == f"4 measurements → {out}"
    assert [path.name for path in out.parent.iterdir()] == ["speed.csv"]


def test_memory_holds_what_a_step_must_hold(tmp_path: Path) -> None:
    """At least one activation of an MLP, in training one for each block; but no ten times that."""
    wide = (*TINY, "dataset.crop=512", "decoder=linear")
    segmenter(*wide, *QUICK, "--batch", "4", "-o", tmp_path / "a.csv")
    inference, training = (float(row["memory_gb"]) for row in table_of(tmp_path / "a.csv"))
    hidden = 4 * 4 * 1025 * 4 * D / 1e9  # batch 4, float32
    attention = 2 * 4 * 4 * 1025**2 / 1e9  # what an explicit product would hold beside it
    assert hidden < inference < 10 * hidden + attention + 0.1
    assert DEPTH * hidden < training < 10 * DEPTH * hidden + attention + 0.2


def test_several_models_and_precisions_at_once(tmp_path: Path) -> None:
    words = ("trainer.precision=32-true,bf16-mixed", "--mode", "inference", "--batch", "1", "-o", tmp_path / "a.csv")
    assert segmenter(*SMALL, *QUICK, *words)[0] == 0
    assert [(row["model"], row["precision"]) for row in table_of(tmp_path / "a.csv")] == [
        ("vit_micro mask 64 trainer.precision=32-true", "32-true"),
        ("vit_micro mask 64 trainer.precision=bf16-mixed", "bf16-mixed"),
    ]


@pytest.mark.slow
def test_compilation_is_told_and_not_counted(tmp_path: Path) -> None:
    words = ("compile=true", "--mode", "inference", "--batch", "1", "-o", tmp_path / "a.csv")
    code, said, _ = segmenter(*SMALL, *QUICK, *words)
    assert code == 0
    (row,) = table_of(tmp_path / "a.csv")
    assert float(row["first_step_seconds"]) > 10 * float(row["milliseconds"]) / 1000
    assert re.search(r"first step \d+ s with compilation", said)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_until_it_is_full(tmp_path: Path) -> None:
    code, _, told = segmenter(*SMALL, "--seconds", "0", "--device", "cuda", "--memory", "0.5", "-o", tmp_path / "a.csv")
    assert code == 0
    assert told.count("does not fit") == 2
    assert all(float(row["memory_gb"]) <= 0.5 for row in table_of(tmp_path / "a.csv"))


def test_what_does_not_fit_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "speed.csv"
    limited = ("--memory", "0.1", "--batch", "1,512,1024", "-o", out)
    code, said, told = segmenter(*SMALL, *QUICK, *limited)
    assert code == 0
    assert [(row["mode"], row["batch"]) for row in table_of(out)] == [("inference", "1"), ("training", "1")]
    for line, mode in zip(told.splitlines(), ("inference", "training"), strict=True):
        assert re.match(rf"vit_micro mask 64, {mode}: batch 512 does not fit \(.*\S.*\)$", line)
    assert "inference" in said.splitlines()[-2]


def test_nothing_fits(tmp_path: Path) -> None:
    code, said, told = segmenter(*SMALL, *QUICK, "--memory", "0", "--batch", "1", "-o", tmp_path / "speed.csv")
    assert (code, said) == (1, "")
    assert told.count("batch 1 does not fit") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["dataset=ade20k"], 150),
        (["dataset=cityscapes"], 19),
        (["dataset=pascal_context"], 60),
        (["dataset=pascal_context", "dataset.classes=59"], 59),
        (["dataset=rgbt_glass"], 2),
        (["dataset=shapes"], 6),
    ],
)
def test_classes_are_known_without_the_files(words: list[str], count: int) -> None:
    one = variant([*TINY, *words, "data_root=/nowhere", "dataset.crop=32"])
    assert one.num_classes == count


def test_classes_can_be_given() -> None:
    one = variant([*SMALL, "dataset=folder", "loss.class_weights=inverse_log"], classes=7)
    assert one.num_classes == 7
    assert one.settings["loss"]["class_weights"] == [1.0] * 7


def test_sizes_double_until_the_most() -> None:
    assert Effort(["inference"]).sizes("cpu") == [1, 2, 4, 8]
    assert Effort(["inference"]).sizes("cuda")[-1] == 1024
    assert Effort(["inference"], max_batch=12).sizes("cpu") == [1, 2, 4, 8]
    assert Effort(["inference"], batches=(8, 2, 2)).sizes("cpu") == [2, 8]


def test_settings_with_commas_are_several_models() -> None:
    assert swept(["backbone=a,b", "decoder=linear,mask", "+x=[1,2]"]) == [
        ("backbone=a", "decoder=linear", "+x=[1,2]"),
        ("backbone=a", "decoder=mask", "+x=[1,2]"),
        ("backbone=b", "decoder=linear", "+x=[1,2]"),
        ("backbone=b", "decoder=mask", "+x=[1,2]"),
    ]
    assert swept([]) == [()]


def test_steps_are_timed_at_least_three_times() -> None:
    order: list[str] = []
    samples = timed(lambda: order.append("run"), lambda: order.append("wait"), 0.0)
    assert order == ["run", "wait"] * 3
    assert len(samples) == 3
    assert len(timed(lambda: None, lambda: None, 0.01)) > 3


@pytest.mark.parametrize(
    ("table", "number"), [("table3", 8), ("table6", 4), ("zoo-official", 6), ("zoo-mmsegmentation", 5)]
)
def test_tables_with_speeds(table: str, number: int) -> None:
    assert len(paper_rows(table)) == number


def test_published_numbers_stand_beside_ours() -> None:
    row = next(one for one in paper_rows("zoo-mmsegmentation") if one.backbone == "vit_t16")
    one = variant(["experiment=mmseg_ade20k_seg_t16_mask"], row=row)
    assert (one.num_classes, one.facts["crop"]) == (150, 512)
    speeds = [speed(one, "inference", 1, 27.98), speed(one, "inference", 2, 55.96), speed(one, "training", 1, 9, 0.605)]
    heads, line = compared(speeds, [one]).splitlines()
    assert heads.split() == ["method", "model", "frames_per_second_v100", "here", "×", "memory_gb", "here", "×"]
    assert line.split()[-6:] == ["28.0", "56.0", "2.00", "1.21", "0.60", "0.50"]
    assert compared(speeds[:2], [one]).splitlines()[1].split()[-3:] == ["1.21", "-", "-"]


def test_figure_has_published_miou_over_measured_speed(tmp_path: Path) -> None:
    small, base = (
        variant([f"backbone={name}", "decoder=linear", "dataset=ade20k"]) for name in ("vit_s16", "deit_b16")
    )
    unknown = variant(["backbone=vit_s16", "decoder=linear", "dataset=ade20k", "dataset.crop=256"])
    assert small.published is not None
    assert (small.published.values["miou_ss"], unknown.published) == (0.4537, None)
    speeds = [speed(small, "inference", 2, 8.0), speed(base, "inference", 1, 3.0), speed(unknown, "inference", 1, 20.0)]
    draw(speeds, tmp_path / "plot.svg")
    texts = re.findall(r"<!-- (.*?) -->", (tmp_path / "plot.svg").read_text(), re.DOTALL)
    assert {"inference speed (images/s)", "inference speed on a V100, 512×512 (images/s)"} <= set(texts)
    assert sum("vit_s16" in one for one in texts) == 2  # here and in the paper; not at 256 pixels
    with pytest.raises(ValueError, match="no model with a published mIoU"):
        draw(speeds[2:], tmp_path / "other.svg")


def test_names_tell_models_apart() -> None:
    one, other = (variant([*SMALL, f"backbone.dropout={rate}"]) for rate in (0.0, 0.5))
    assert names([one]) == ["vit_micro mask 64"]
    assert names([one, other]) == ["vit_micro mask 64 backbone.dropout=0.0", "vit_micro mask 64 backbone.dropout=0.5"]
    assert [row["model"] for row in rows([speed(one, "training", 1, 1.0)])] == ["vit_micro mask 64"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["vit_s16"], "vit_s16 is no setting: write KEY=VALUE, as for train.py"),
        (["backbone=vit_b17"], "there is no such option"),
        (["dataset.crop=much"], "dataset.crop=much must be a whole number"),
        (["dataset.crop=4"], "smaller than a patch of 8 pixels"),
        (["seed=glob(*)"], "write the values out, seed=A,B,C"),
        (["trainer.precision=bf17"], "Precision 'bf17' is invalid"),
        (["--device", "cuda:x"], "--device cuda:x: give cpu, cuda, cuda:1 or mps"),
        (["--batch", "1,a"], "--batch 1,a: give numbers of pictures"),
        (["--batch", "0"], "--batch 0: give numbers of pictures"),
        (["--batch", "1", "--max-batch", "2"], "--batch and --max-batch exclude each other"),
        (["--out", "speed.txt"], "--out speed.txt: give a name that ends in .csv"),
        (["--plot", "speed.txt"], "ending in .png, .pdf, .svg, .jpg"),
        (["--plot", "speed.png"], "none of these models has a published mIoU"),
        (["--plot", "speed.png", "--mode", "training"], "--plot is of inference"),
        (["--paper", "table5"], "speeds stand in table3, table6, zoo-official, zoo-mmsegmentation"),
        (["--paper", "table3", "backbone=vit_s16"], "backbone=vit_s16: --paper chooses the models"),
        (["dataset=folder"], "dataset.root has no value yet"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(words: list[str], sentence: str) -> None:
    code, said, told = segmenter(*words)
    assert (code, said) == (1, "")
    assert told.startswith("Error: ")
    assert sentence in told


def test_a_folder_that_takes_no_file_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "speed.csv").mkdir()
    code, _, told = segmenter(*SMALL, "-o", tmp_path / "speed.csv")
    assert code == 1
    assert f"{tmp_path / 'speed.csv'} cannot be written" in told


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_signal_leaves_no_file_and_no_process(signum: int, tmp_path: Path) -> None:
    """Ctrl-C meets all processes of the terminal, kill -9 the one that is named."""
    words = (*SMALL, "--seconds", "1000", "--batch", "1", "-o", str(tmp_path / "speed.csv"))
    command = [sys.executable, "-m", "segmenter_pl.cli", "benchmark", *words]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # What is started in the background inherits that Ctrl-C is ignored.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, env=quiet, text=True, start_new_session=True, **pipes, **heeding)
    try:
        while not (started := _measuring(process.pid)):
            assert process.poll() is None
            time.sleep(0.1)
        (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
        said, told = process.communicate()
        assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[signum]
        assert (said, told) == ("Stopped: nothing was written\n" if signum == signal.SIGINT else "", "")
        assert not psutil.wait_procs(started, timeout=60)[1]
        assert not list(tmp_path.iterdir())
    finally:
        process.kill()


def _measuring(pid: int) -> list[psutil.Process]:
    """The helpers of a process, once the one that measures is among them: a child of a child."""
    helpers = psutil.Process(pid).children()
    found = [one for helper in helpers for one in helper.children()]
    return [*helpers, *found] if found else []
