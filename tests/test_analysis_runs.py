"""What is found below a folder: finished, unfinished, crashed and duplicate runs, and what is none."""

import json
import shutil
from pathlib import Path

import pytest

from segmenter_pl.analysis.runs import find_runs, read_run
from segmenter_pl.analysis.settings import differing, option, overrides
from tests.made_runs import make_run, settings


def states(*places: Path) -> dict[str, tuple[str, str]]:
    return {run.folder.name: (run.status, run.reason) for run in find_runs(places).runs}


def test_each_state_is_recognised_with_its_reason(tmp_path: Path) -> None:
    make_run(tmp_path / "finished", "seed=0")
    make_run(tmp_path / "unfinished", "seed=1", miou=None)
    (make_run(tmp_path / "silent", "seed=2", miou=None) / "metrics.csv").unlink()
    broken = make_run(tmp_path / "broken", "seed=3")
    (broken / "results.json").write_text('{"val": {"miou"')
    torn = make_run(tmp_path / "torn", "seed=4", miou=None)
    (torn / "metrics.csv").write_text("step,train/loss\n1,oops\n")
    (make_run(tmp_path / "half", "seed=5") / "results.json").write_text('{"best": {}}')
    found = states(tmp_path)
    assert found["finished"] == ("finished", "")
    assert found["unfinished"] == ("unfinished", "step 30 of 300")
    assert found["silent"] == ("crashed", "no progress")
    assert found["broken"][0] == "crashed"
    assert found["broken"][1].startswith("results.json cannot be read")
    assert found["torn"][0] == "crashed"
    assert "metrics.csv, line 2" in found["torn"][1]
    nan = make_run(tmp_path / "nan", "seed=6", miou=None)
    (nan / "metrics.csv").write_text("step,train/loss\nnan,1\n")
    assert states(tmp_path)["nan"][0] == "crashed"
    assert found["half"] == ("crashed", "results.json: val is missing")


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("val", "miou", True, "val has no miou between 0 and 1, but True"),
        ("val", "miou", float("nan"), "val has no miou between 0 and 1, but nan"),
        ("best", "miou", 52.5, "best has no miou between 0 and 1, but 52.5"),
        ("best", "miou", None, "best has no miou between 0 and 1, but None"),
        ("val", "classes", [0.5, 0.25], "val has classes as a list, and not an IoU by name"),
        ("best", "classes", {"road": "0.5"}, "best has an IoU of '0.5' for road"),
        (None, "val", [1], "val is a list"),
        (None, "steps", True, "steps is True"),
        (None, "steps", float("nan"), "steps is nan"),
        (None, "steps", -1, "steps is -1"),
        (None, "parameters", "many", "parameters is 'many'"),
    ],
)
def test_results_of_a_wrong_type_do_not_count(
    part: str | None, key: str, value: object, reason: str, tmp_path: Path
) -> None:
    path = make_run(tmp_path / "seed-0") / "results.json"
    results = json.loads(path.read_text())
    (results if part is None else results[part])[key] = value
    path.write_text(json.dumps(results))
    assert states(tmp_path) == {"seed-0": ("crashed", f"results.json: {reason}")}


def test_a_class_that_does_not_occur_is_no_fault(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0", classes={"road": 1, "pole": None, "sky": 0.0})
    assert states(tmp_path) == {"seed-0": ("finished", "")}


def test_checkpoints_count_as_progress_unless_they_are_cut_off(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", "seed=0", miou=None, numbers=5)
    (whole / "metrics.csv").unlink()
    cut = make_run(tmp_path / "cut", "seed=1", miou=None, numbers=5)
    (cut / "metrics.csv").unlink()
    done = make_run(tmp_path / "done", "seed=2", numbers=5)
    for folder in (cut, done):
        path = folder / "checkpoints" / "last.ckpt"
        path.write_bytes(path.read_bytes()[:100])
    assert states(tmp_path) == {
        "whole": ("unfinished", "a checkpoint but no logged step of 300"),
        "cut": ("crashed", "no progress: last.ckpt cut off"),
        "done": ("finished", "last.ckpt cut off"),
    }


def test_a_last_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    run = make_run(tmp_path / "seed-0", miou=None)
    with (run / "metrics.csv").open("a") as file:
        file.write("40,0.1")
    (found,) = find_runs([tmp_path]).runs
    assert found.steps == 30


def test_foreign_files_and_empty_folders_are_told(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "seed-0")
    (tmp_path / "a" / "multirun.yaml").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.yaml").touch()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "results.json").write_text("[1, 2]")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("model: resnet\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config.yaml").write_text("a: !!python/object/apply:os.system ['echo hacked']\n")
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "config.yaml").write_bytes(b"\xff\xfe\x00")
    odd = make_run(tmp_path / "odd")
    (odd / "results.json").unlink()
    (odd / "config.yaml").write_text("{backbone: &a {again: *a}, decoder: {}, optimizer: {}, dataset: {}, trainer: {}}")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "results.json").write_text('{"val": {"miou": 0.5}}')
    found = find_runs([tmp_path])
    assert [run.folder for run in found.runs] == [tmp_path / "a" / "seed-0"]
    told = {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in found.left_out}
    assert told["notes.txt"] == "belongs to no run"
    assert told["empty"] == "is empty"
    assert told["bare"] == "config.yaml is empty"
    assert told["list"] == "results.json holds a list"
    assert told["other"].startswith("was not made by this project: its settings lack backbone")
    assert told["code"].startswith("config.yaml cannot be read")
    assert told["odd"].startswith("its settings hold something odd")
    assert told["binary"].startswith("config.yaml cannot be read")
    assert told["evaluation"] == "is an evaluation, not a training"
    assert len(told) == len(found.left_out) == 9


def test_of_equal_runs_one_counts(tmp_path: Path) -> None:
    """A finished one before others; execution keys and the name of the folder do not make a difference, a tag does."""
    make_run(tmp_path / "old-seed-0", "seed=0", steps=99)
    make_run(tmp_path / "seed-0", "seed=0")
    make_run(tmp_path / "elsewhere", "seed=0", "dataset.num_workers=3", "trainer.devices=2", miou=None)
    make_run(tmp_path / "seed-1", "seed=1")
    make_run(tmp_path / "tagged", "seed=0", "tag=again")
    found = states(tmp_path)
    same = f"same settings and seed as {tmp_path / 'seed-0'}"
    assert found == {
        "old-seed-0": ("duplicate", f"{same}, moved aside by resume=never"),
        "elsewhere": ("duplicate", same),
        **dict.fromkeys(("seed-0", "seed-1", "tagged"), ("finished", "")),
    }


def test_a_run_moved_aside_counts_if_it_is_the_only_one(tmp_path: Path) -> None:
    make_run(tmp_path / "old-seed-0")
    assert states(tmp_path) == {"old-seed-0": ("finished", "")}


def test_overlapping_places_give_each_run_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "b" / "seed-0")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert [one.folder for one in find_runs([tmp_path, run, tmp_path / "link"]).runs] == [run]


def test_numbers_in_names_are_ordered_as_numbers(tmp_path: Path) -> None:
    for n in (300, 50, 100):
        make_run(tmp_path / f"train-images-{n}", f"+dataset.note={n}")
    assert [run.folder.name for run in find_runs([tmp_path]).runs] == [f"train-images-{n}" for n in (50, 100, 300)]


def test_places_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"there is no run in .*\n.*notes.txt: belongs to no run"):
        find_runs([tmp_path])


def test_evaluations_are_read_and_broken_ones_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "seed-0", evaluations={"last/shapes-val-none": 0.5, "best/shapes-val-flip": 0.625})
    broken = {
        "cut": ("{", "results.json cannot be read"),
        "empty": ("{}", "val is missing"),
        "per-cent": ('{"val": {"miou": 50.0}}', "val has no miou between 0 and 1, but 50.0"),
        "sizes": ('{"val": {"miou": 0.5}, "object_sizes": [1]}', "object_sizes is a list"),
        "unlabelled": ('{"pictures": 3}', ""),
    }
    for name, (text, _) in broken.items():
        (run / "eval/last" / name).mkdir()
        (run / "eval/last" / name / "results.json").write_text(text)
    (run / "eval/last/folder/results.json").mkdir(parents=True)
    found = read_run(run)
    assert not isinstance(found, str)
    assert {key: one["val"]["miou"] for key, one in found.evaluations.items()} == {
        "best/shapes-val-flip": 0.625,
        "last/shapes-val-none": 0.5,
    }
    left_out = find_runs([tmp_path]).left_out
    assert [Path(line.partition(": ")[0]).parent.name for line in left_out] == [
        *("cut", "empty", "folder", "per-cent", "sizes")
    ]
    for line in left_out:
        name = Path(line.partition(": ")[0]).parent.name
        assert broken.get(name, ("", "results.json cannot be read"))[1] in line


def test_records_of_accuracy_that_do_not_count_are_told(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    records = tmp_path / "imagenet"
    records.mkdir()
    (records / "a.json").write_text('{"backbone": "vit_s16", "top1": 0.837, "pictures": 50000}')
    (records / "b.json").write_text('{"backbone": "vit_s16", "top1": 83.7}')
    (records / "c.json").write_text('{"backbone": "vit_s16"')
    (records / "d.json").write_text("[]")
    (records / "e.json").write_text('{"top1": 0.5}')
    (records / "f.json").mkdir()
    (records / "notes.txt").touch()
    found = find_runs([tmp_path])
    assert found.accuracies == [{"backbone": "vit_s16", "top1": 0.837}]
    told = {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in found.left_out}
    assert list(told) == ["b.json", "c.json", "d.json", "e.json", "f.json", "notes.txt"]
    assert told["b.json"] == "needs backbone and top1 from 0 to 1, and has 'vit_s16' and 83.7"
    assert told["c.json"].startswith("c.json cannot be read")
    assert told["d.json"] == "d.json holds a list"
    assert told["f.json"].startswith("f.json cannot be read")


@pytest.mark.parametrize("backbone", ["vit_t16", "vit_s32", "vit_b8", "deit_b16", "vit_b16_orig", "vit_micro"])
@pytest.mark.parametrize("decoder", ["linear", "mask"])
def test_options_are_recognised_in_resolved_settings(backbone: str, decoder: str) -> None:
    config = json.loads(settings(f"backbone={backbone}", f"decoder={decoder}", "backbone.norm_eps=1e-5"))
    assert (option(config, "backbone"), option(config, "decoder")) == (backbone, decoder)
    assert (option(config, "dataset"), option(config, "optimizer")) == ("shapes", "sgd")
    assert overrides(config)["backbone.norm_eps"] == 1e-5
    assert "backbone.image_size" not in overrides(config)


def test_only_what_was_changed_differs() -> None:
    """Not what follows from it: crop, window, batch size of another dataset, depth of the other decoder."""
    commands = [("dataset=ade20k", "backbone=vit_s16", "decoder=linear"), ("dataset=shapes", "trainer.max_steps=7")]
    configs = [json.loads(settings(*words)) for words in commands]
    assert differing(configs) == ["backbone", "decoder", "dataset", "trainer.max_steps"]
    rates = [json.loads(settings(f"backbone.dropout={rate}", f"seed={rate}")) for rate in (0, 1)]
    assert differing(rates) == ["backbone.dropout"]


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    run = make_run(tmp_path / "here" / "seed-0")
    shutil.move(run.parent, tmp_path / "there")
    assert states(tmp_path / "there") == {"seed-0": ("finished", "")}
