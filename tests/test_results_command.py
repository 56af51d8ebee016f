"""`segmenter results` and `segmenter plot` as a person types them."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.train import train
from tests.made_runs import make_run
from tests.test_train import tiny_run


def segmenter(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two decoders, two seeds each; one run unfinished, one twice, and a file that belongs to none."""
    for i, (decoder, miou) in enumerate((("linear", 0.5), ("linear", 0.25), ("mask", 0.75), ("mask", None))):
        make_run(tmp_path / "runs" / f"{decoder}-{i % 2}", f"decoder={decoder}", f"seed={i % 2}", miou=miou)
    make_run(tmp_path / "runs" / "zz", "decoder=linear", "seed=0")
    (tmp_path / "runs" / "notes.txt").touch()
    return tmp_path / "runs"


def test_a_real_run_in_every_format(tmp_path: Path) -> None:
    train(tiny_run(tmp_path / "runs" / "seed-0"))
    results = json.loads((tmp_path / "runs" / "seed-0" / "results.json").read_text())
    out = tmp_path / "table.csv"
    assert segmenter("results", tmp_path / "runs", "-o", out) == (0, f"1 runs, 1 finished → {out}\n", "")
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert float(row["miou"]) == results["val"]["miou"]
    assert float(row["best_miou"]) == results["best"]["miou"]
    assert (row["status"], row["steps"], row["seed"]) == ("finished", "4", "0")
    assert int(row["parameters"]) > 1000
    assert float(row["images_per_second"]) > 0
    for form, begins in (("markdown", "| name |"), ("latex", "% \\usepackage{booktabs}"), ("csv", "name,seed,")):
        code, said, told = segmenter("results", tmp_path / "runs", "--format", form)
        assert (code, told) == (0, "")
        assert said.startswith(begins)
    picture = tmp_path / "curves.png"
    code, said, told = segmenter("plot", "curves", tmp_path / "runs", "-o", picture, "--y-key", "train/loss")
    assert (code, told) == (0, "")
    assert said.endswith(f"→ {picture}\n")


def test_what_is_not_finished_is_told_with_the_reason(runs: Path) -> None:
    code, said, told = segmenter("results", runs)
    assert code == 0
    assert len(said.splitlines()) == 2 + 5
    assert told == (
        f"Not finished (1):\n  {runs / 'mask-1'}: unfinished, step 30 of 300\n"
        f"Duplicates (1):\n  {runs / 'zz'}: duplicate, same settings and seed as {runs / 'linear-0'}\n"
        f"Passed over (1):\n  {runs / 'notes.txt'}: belongs to no run\n"
    )


def test_groups(runs: Path) -> None:
    code, said, _ = segmenter("results", runs, "--group", "decoder", "--columns", "miou,val/classes/road")
    assert code == 0
    assert said.splitlines()[2:] == [
        "| linear | 2 | 0.3750 ± 0.1768 | 0.9000 ± 0.0000 |",
        "| mask | 1 | 0.7500 | 0.9000 |",
    ]


def test_paper_tables_take_finished_runs_and_accuracies(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "seed-0", "experiment=ade20k_seg_s16_linear", miou=0.45, steps=160000)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "vit_s16.json").write_text('{"backbone": "vit_s16", "top1": 0.84}')
    (tmp_path / "imagenet" / "odd.json").write_text('{"backbone": "vit_s16", "top1": 83.7}')
    code, said, told = segmenter("results", tmp_path, "--paper", "table3", "--format", "csv")
    assert code == 0
    assert f"Passed over (1):\n  {tmp_path / 'imagenet' / 'odd.json'}: needs backbone and top1 from 0 to 1" in told
    (row,) = [row for row in csv.DictReader(said.splitlines()) if row["backbone"] == "vit_s16"]
    assert float(row["imagenet_top1 difference"]) == pytest.approx(0.84 - 0.837)
    assert float(row["miou_ss difference"]) == pytest.approx(0.45 - 0.4537)
    assert float(row["miou_ss published"]) == 0.4537


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("results", "nowhere"), "nowhere is no folder"),
        (("results", "{runs}", "-o", "table.xlsx"), "give a name that ends in .csv, .md, .tex, or --format"),
        (("results", "{runs}", "--paper", "table99"), "--paper table99: there is table2"),
        (("results", "{runs}", "--paper", "table2", "--group", "name"), "leave out --group and --columns"),
        (("results", "{runs}", "--columns", "iou"), "iou is no column"),
        (("results", "{runs}", "--group", "dropuot"), "dropuot is no column"),
        (("plot", "heat-map", "{runs}", "-o", "x.txt"), "x.txt: give the name of a picture"),
        (("plot", "dataset-size", "{runs}", "-o", "x.png"), "fewer than two sizes"),
        (("plot", "curves", "{runs}/notes.txt", "-o", "x.png"), "notes.txt holds no row"),
        (
            ("plot", "curves", "{runs}", "-o", "x.png", "--y-key", "val_iou"),
            "has no val_iou over step, nor has any of 3",
        ),
        (("plot", "classes", "{runs}", "{runs}", "-o", "x.png"), "holds 3 runs: give one"),
        (("plot", "speed", "{runs}/mask-1", "-o", "x.png"), "none of the runs is finished"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str, runs: Path, tmp_path: Path) -> None:
    placed = [str(tmp_path / word) if word.endswith((".xlsx", ".txt", ".png")) else word for word in words]
    placed = [word.replace(f"{tmp_path}/{{runs}}", str(runs)).replace("{runs}", str(runs)) for word in placed]
    code, _, told = segmenter(*placed)
    assert code == 1
    assert sentence in told
    assert "Traceback" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize(
    "words", [("results",), *((("plot", kind)) for kind in ("curves", "speed", "heat-map", "dataset-size"))]
)
def test_every_command_tells_what_did_not_count(words: tuple[str, ...], tmp_path: Path) -> None:
    """A crashed run, a broken configuration, a duplicate, a checkpoint cut off, foreign files; ten of a kind."""
    for i, size in enumerate((10, 20)):
        make_run(tmp_path / "runs" / f"a{i}", f"dataset.train_images={size}", numbers=9)
    (tmp_path / "runs/a1/checkpoints/last.ckpt").write_bytes(b"PK")
    make_run(tmp_path / "runs" / "b", "dataset.train_images=10")
    (make_run(tmp_path / "runs" / "c", "seed=7") / "results.json").write_text("{")
    (tmp_path / "runs" / "d").mkdir()
    (tmp_path / "runs" / "d" / "config.yaml").write_text("a: [")
    for i in range(12):
        (tmp_path / "runs" / f"notes{i}.txt").touch()
    options = [] if words == ("results",) else ["-o", tmp_path / "plot.png"]
    options += ["--x-key", "dataset.train_images", "--y-key", "seed"] if "heat-map" in words else []
    for everything in ((), ("--all",)):
        code, _, told = segmenter(*words, tmp_path / "runs", *options, *everything)
        assert code == 0
        assert f"{tmp_path / 'runs/b'}: duplicate, same settings and seed as {tmp_path / 'runs/a0'}\n" in told
        assert f"{tmp_path / 'runs/c'}: crashed, results.json cannot be read" in told
        assert ("more (--all tells them)" in told) == (not everything)
        if everything:
            assert f"{tmp_path / 'runs/d'}: config.yaml cannot be read" in told
            assert told.count("belongs to no run") == 12
        if "curves" not in words:  # which need no checkpoint
            assert f"Finished, but (1):\n  {tmp_path / 'runs/a1'}: last.ckpt cut off\n" in told


@pytest.mark.parametrize("kind", ["heat-map", "speed"])
def test_plots_of_finished_runs(kind: str, tmp_path: Path) -> None:
    for i, miou in enumerate((0.5, 0.25, None)):
        make_run(tmp_path / "runs" / str(i), f"seed={i}", miou=miou)
    out = tmp_path / "plots" / "plot.png"
    code, said, told = segmenter("plot", kind, tmp_path / "runs", "-o", out)
    assert (code, said) == (0, f"→ {out}\n")
    assert told == f"Not finished (1):\n  {tmp_path / 'runs' / '2'}: unfinished, step 30 of 300\n"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_unlike_runs_are_not_averaged(runs: Path, tmp_path: Path) -> None:
    code, _, told = segmenter("plot", "heat-map", runs, "-o", tmp_path / "plot.png")
    assert code == 1
    assert "the runs differ in decoder beside backbone.drop_path_rate and backbone.dropout" in told


def test_classes_of_two_runs(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "classes.pdf"
    assert segmenter("plot", "classes", runs / "linear-0", runs / "mask-0", "-o", out) == (0, f"→ {out}\n", "")
    assert out.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        (
            ("results",),
            ("--paper", "table2", "--group", "last/val-none", "--all", "segmenter results runs --paper table3"),
        ),
        (("plot",), ("curves", "speed", "dataset-size", "classes", "heat-map")),
        (("plot", "curves"), ("--x-key", "--label", "log.txt", "logs.yml", "vis_data/scalars.json", "--y-key mIoU -o")),
        (("plot", "speed"), ("--of", "training", "last/val-none", "--published", "Figure 4")),
        (("plot", "heat-map"), ("--x-key", "backbone.drop_path_rate", "Table 2", "--value")),
        (
            ("accuracy",),
            ("--imagenet", "--resize", "n01440764", "segmenter accuracy vit_t16 --imagenet /data/imagenet"),
        ),
    ],
)
def test_help_teaches(words: tuple[str, ...], taught: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option, what it takes, and an example that can be typed."""
    monkeypatch.setenv("COLUMNS", "300")
    code, said, _ = segmenter(*words, "--help")
    assert code == 0
    assert [one for one in taught if one not in said] == []
