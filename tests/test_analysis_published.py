"""Published numbers beside ours: every Segmenter row is matched by the run that its recipe makes, and by no other."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from segmenter_pl.analysis.matching import Published, departures, facts, matches, recipe_of
from segmenter_pl.analysis.published import paper_table, published_rows
from segmenter_pl.analysis.runs import Run, read_run
from segmenter_pl.recipes import recipe_settings
from tests.made_runs import make_run, settings

SETTINGS = {
    "pretraining=none": ("backbone.pretrained=false",),
    "optimizer=adamw": ("optimizer=adamw_scratch",),
    "weights=original ViT (random cropping only)": ("backbone=vit_b16_orig",),
}
KEYS = {"dropout": "backbone.dropout", "stochastic_depth": "backbone.drop_path_rate"}
KEYS |= {"train_images": "dataset.train_images"}


def command(row: Published) -> Sequence[str]:
    """What a person would type for a row."""
    words = [f"experiment={recipe_of(row)}"]
    for part in filter(None, row.setting.split(";")):
        key, _, value = part.partition("=")
        words += SETTINGS.get(part, [f"{KEYS[key]}={value}"] if key in KEYS else [])
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
        assert departures(runs[tuple(command(row))], row, recipe_settings) == []


@pytest.mark.parametrize(
    "change",
    [
        "backbone=vit_t16",
        "backbone.patch_size=32",
        "decoder=mask",
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


@pytest.mark.parametrize(
    "change",
    [
        "optimizer.lr=0.1",
        "optimizer.nesterov=false",
        "loss.class_weights=inverse_log",
        "dataset.sampling=rare",
        "dataset.scale=[0.9,1.1]",
        "backbone.freeze=true",
        "backbone.norm_eps=1e-6",
        "backbone.position_mode=bicubic",
        "callbacks=ema",
        "decoder_lr_scale=10",
        "trainer.gradient_clip_val=1.0",
    ],
)
def test_the_same_model_trained_otherwise_does_not_count_and_is_named(change: str, tmp_path: Path) -> None:
    (row,) = [row for row in ours() if row.table == "table3_backbones" and row.backbone == "vit_s16"]
    good = run(tmp_path / "good", *command(row), miou=0.25, steps=160000)
    other = run(tmp_path / "other", *command(row), change, miou=0.75, steps=160000)
    table, remarks = paper_table("table3", [good, other])
    (found,) = [cells for cells in table if cells["method"] == "Seg-S/16"]
    assert (found["runs"], found["miou_ss measured"]) == (1, 0.25)
    (remark,) = remarks
    key = "callbacks.ema.decay" if change == "callbacks=ema" else change.partition("=")[0]
    assert remark.startswith(f"{tmp_path / 'other'} does not count for Seg-S/16, linear: ")
    assert f"{key}=" in remark


def test_where_when_and_how_exactly_do_not_matter(tmp_path: Path) -> None:
    (row,) = [row for row in ours() if row.table == "table3_backbones" and row.backbone == "vit_s16"]
    for k, word in enumerate(
        ("seed=3", "logger=none", "trainer.precision=bf16-mixed", "optimizer.fused=false", "tag=x")
    ):
        assert departures(run(tmp_path / str(k), *command(row), word), row, recipe_settings) == []


def test_per_cent_become_fractions_and_nothing_else_does() -> None:
    rows = [row for row in published_rows() if row.source == "official_repository" and row.backbone == "vit_t16"]
    assert rows[0].values == {"miou_ss": 0.381, "miou_ms": 0.388, "params_millions": 7.0, "frames_per_second": 52.4}


def test_measured_numbers_stand_beside_the_published(tmp_path: Path) -> None:
    """Evaluations of the last weights, else the training's validation; the mean of seeds; the difference."""
    words = ("experiment=ade20k_seg_l16_mask",)
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
    assert row["miou_ss deviation"] == pytest.approx(0.25 / math.sqrt(2))
    assert row["miou_ss difference"] == pytest.approx(0.375 - 0.513)
    assert row["miou_small measured"] == 0.25
    assert row["miou_large published"] == pytest.approx(0.5706)
    others = [row for row in table if row["method"] != "Seg-L-Mask/16"]
    assert all(row["runs"] == 0 and row["miou_ss measured"] is None for row in others)
    (pascal,) = [row for row in paper_table("table7", runs)[0] if row["method"] == "Seg-L-Mask/16"]
    assert pascal["runs"] == 0


def test_runs_of_another_length_are_remarked(tmp_path: Path) -> None:
    for steps in (400, 640000):
        other = run(tmp_path / str(steps), "experiment=ade20k_seg_s16_linear", steps=steps)
        assert paper_table("table3", [other])[1] == [f"Seg-S/16, linear: {steps} steps here, 160000 in the publication"]


def test_imagenet_and_parameters_come_from_records_and_checkpoints(tmp_path: Path) -> None:
    table, _ = paper_table("table3", [], [{"backbone": "vit_b8", "top1": 0.875}])
    (row,) = [row for row in table if row["backbone"] == "vit_b8"]
    assert row["imagenet_top1 measured"] == 0.875
    assert row["imagenet_top1 difference"] == pytest.approx(0.875 - 0.857)
    made = run(tmp_path / "0", "experiment=ade20k_seg_t16_mask", numbers=6_910_000)
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
