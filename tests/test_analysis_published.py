"""Published numbers beside ours: every Segmenter row is matched by the run that its recipe makes, and by no other."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from segmenter_pl.analysis.published import Published, facts, matches, paper_table, published_rows
from segmenter_pl.analysis.runs import Run, read_run
from tests.made_runs import make_run, settings

PAPER = ("optimizer=sgd",)
ELSEWHERE = {"mmsegmentation": ("schedule.floor=1e-4",), "paddlevit": ("schedule.floor=1e-4", "dataset.batch_size=16")}
SETTINGS = {
    "pretraining=none": "backbone.pretrained=false",
    "optimizer=adamw": "optimizer=adamw",
    "weights=original ViT (random cropping only)": "backbone=vit_b16_orig",
    "640x640": "dataset.crop=640",
}
KEYS = {"dropout": "backbone.dropout", "stochastic_depth": "backbone.drop_path_rate"}


def command(row: Published) -> Sequence[str]:
    """What a person would type for a row."""
    words = [f"dataset={row.dataset}", f"backbone={row.backbone}", f"decoder={row.decoder}"]
    words += ELSEWHERE.get(row.source, PAPER)
    for part in filter(None, row.setting.split(";")):
        key, _, value = part.partition("=")
        if part in SETTINGS:
            words.append(SETTINGS[part])
        elif key in KEYS:
            words.append(f"{KEYS[key]}={value}")
        elif key == "train_images":
            words.append(f"dataset.train_images={value}")
    return words


def run(folder: Path, *words: str, **numbers: object) -> Run:
    found = read_run(make_run(folder, *words, **numbers))  # type: ignore[arg-type]
    assert isinstance(found, Run)
    return found


def ours() -> list[Published]:
    return [row for row in published_rows() if row.decoder in ("linear", "mask") and row.backbone]


def test_every_row_is_matched_by_its_command() -> None:
    rows = ours()
    assert len(rows) > 60
    commands = {tuple(command(row)) for row in rows}
    runs = {words: Run(Path(), "finished", "", json.loads(settings(*words))) for words in commands}
    for row in rows:
        same = [words for words in commands if matches(runs[words], row)]
        for words in same:
            assert facts(runs[words]) == facts(runs[tuple(command(row))])
        assert tuple(command(row)) in same


@pytest.mark.parametrize(
    "change",
    [
        "backbone=vit_t16",
        "backbone.patch_size=32",
        "decoder=mask",
        "dataset=cityscapes",
        "dataset.crop=640",
        "dataset.batch_size=16",
        "dataset.train_images=4000",
        "backbone.dropout=0.1",
        "backbone.drop_path_rate=0.0",
        "backbone.pretrained=false",
        "optimizer=adamw",
        "schedule.floor=1e-4",
    ],
)
def test_other_settings_do_not_match(change: str, tmp_path: Path) -> None:
    (row,) = [row for row in ours() if row.table == "table3_backbones" and row.backbone == "vit_s16"]
    assert matches(run(tmp_path / "a", *command(row)), row)
    assert not matches(run(tmp_path / "b", *command(row), change), row)


def test_per_cent_become_fractions_and_nothing_else_does() -> None:
    rows = [row for row in published_rows() if row.source == "official_repository" and row.backbone == "vit_t16"]
    assert rows[0].values == {"miou_ss": 0.381, "miou_ms": 0.388, "params_millions": 7.0, "frames_per_second": 52.4}


def test_measured_numbers_stand_beside_the_published(tmp_path: Path) -> None:
    """Evaluations of the last weights, else the training's validation; the mean of seeds; the difference."""
    words = ("dataset=ade20k", "backbone=vit_l16", "decoder=mask")
    views = {"last/ade20k-val-none": 0.5, "last/ade20k-val-multiscale_flip": 0.625, "best/ade20k-val-none": 0.75}
    runs = [
        run(tmp_path / "0", *words, "seed=0", miou=0.25, evaluations=views, steps=160000),
        run(tmp_path / "1", *words, "seed=1", miou=0.25, steps=160000),
    ]
    table, remarks = paper_table("table4", runs)
    assert remarks == []
    (row,) = [row for row in table if row["method"] == "Seg-L-Mask/16"]
    assert (row["runs"], row["steps"]) == (2, "160000")
    assert row["miou_ss measured"] == (0.5 + 0.25) / 2
    assert row["miou_ss difference"] == pytest.approx(0.375 - 0.513)
    assert row["miou_small measured"] == 0.25
    assert row["miou_large published"] == pytest.approx(0.5706)
    others = [row for row in table if row["method"] != "Seg-L-Mask/16"]
    assert all(row["runs"] == 0 and row["miou_ss measured"] is None for row in others)
    (pascal,) = [row for row in paper_table("table7", runs)[0] if row["method"] == "Seg-L-Mask/16"]
    assert pascal["runs"] == 0


def test_shorter_runs_are_remarked(tmp_path: Path) -> None:
    short = run(tmp_path / "0", "dataset=ade20k", "backbone=vit_s16", "decoder=linear", steps=400)
    assert paper_table("table3", [short])[1] == ["Seg-S/16, linear: 400 steps here, 160000 in the publication"]


def test_imagenet_and_parameters_come_from_records_and_checkpoints(tmp_path: Path) -> None:
    table, _ = paper_table("table3", [], [{"backbone": "vit_b8", "top1": 0.875}])
    (row,) = [row for row in table if row["backbone"] == "vit_b8"]
    assert row["imagenet_top1 measured"] == 0.875
    assert row["imagenet_top1 difference"] == pytest.approx(0.875 - 0.857)
    made = run(tmp_path / "0", "dataset=ade20k", "backbone=vit_t16", "decoder=mask", numbers=6_910_000)
    (row,) = [row for row in paper_table("zoo-official", [made])[0] if row["backbone"] == "vit_t16"]
    assert row["params_millions measured"] == 6.91
    assert row["params_millions published"] == 7


def test_every_table_can_be_made() -> None:
    rows = published_rows()
    names = [f"table{n}" for n in range(2, 10)] + ["section4_2"]
    counts = [9, 8, 10, 5, 14, 15, 14, 4, 2]
    assert [len(paper_table(name, [])[0]) for name in names] == counts
    for name, source in (("zoo-official", "official_repository"), ("zoo-paddlevit", "paddlevit")):
        assert len(paper_table(name, [])[0]) == len([row for row in rows if row.source == source])
    with pytest.raises(ValueError, match="--paper table1: there is table2, table3"):
        paper_table("table1", [])


def test_other_tables_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: give the table"):
        published_rows(tmp_path / "none.csv")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is no table of published numbers"):
        published_rows(tmp_path / "odd.csv")
