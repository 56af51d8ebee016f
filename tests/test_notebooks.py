"""The notebooks run on small real runs, and are kept without outputs."""

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.inspection import inspect, mistakes, sheet, survey, validation_set
from segmenter_pl.train import train
from tests.made_runs import make_run
from tests.test_train import tiny_run

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one on another dataset, one that has just begun, one that is none, and a note."""
    folder = tmp_path_factory.mktemp("runs")
    for name, depth in (("shallow", 1), ("deep", 2)):
        train(tiny_run(folder / name / "seed-0", f"backbone.depth={depth}"))
    (folder / "begun" / "seed-0").mkdir(parents=True)
    (folder / "begun" / "seed-0" / "config.yaml").write_text((folder / "deep/seed-0/config.yaml").read_text())
    make_run(folder / "other" / "seed-0", "dataset=ade20k", miou=0.125, classes={"wall": 0.125})
    started = make_run(folder / "started" / "seed-0", "tag=started", miou=None)
    (started / "metrics.csv").write_text("step,train/loss\n10,2.0\n")
    (folder / "notes.txt").touch()
    return folder


def executed(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of a notebook's cells, in order."""
    monkeypatch.setenv("SEGMENTER_RUNS", str(runs))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [one for one in outputs if one.output_type == "stream" and one.name == "stderr"]
    return outputs


def texts(outputs: list[Any], kind: str) -> str:
    return "\n".join(one.data[kind] for one in outputs if kind in one.get("data", {}))


def streams(outputs: list[Any]) -> str:
    return "".join(one.text for one in outputs if one.output_type == "stream")


def test_results_shows_tables_and_plots(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("01_results.ipynb", runs, monkeypatch)
    said = streams(outputs)
    assert "5 runs, 3 finished" in said
    assert "crashed: begun/seed-0: no progress" in said
    assert "unfinished: started/seed-0: step 10 of 300" in said
    assert "passed over: notes.txt: belongs to no run" in said
    assert "unfinished: has no val/miou over step" in said
    tables = texts(outputs, "text/markdown")
    for name in ("shallow", "deep"):
        results = json.loads((runs / name / "seed-0/results.json").read_text())
        assert f"{results['val']['miou']:.4f}" in tables
        assert f"{results['best']['miou']:.4f}" in tables
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 4


def test_predictions_shows_overlays_worst_pictures_and_calibration(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = runs / "shallow/seed-0/checkpoints/best.ckpt"
    os.utime(checkpoint, (2e9, 2e9))  # the newest
    outputs = executed("02_predictions.ipynb", runs, monkeypatch)
    said = streams(outputs)
    assert "shallow/seed-0/checkpoints/best.ckpt: 64 pictures to validate, 6 classes" in said
    assert sum("image/jpeg" in one.get("data", {}) for one in outputs) == 2
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 2
    scores, calibration = survey(Predictor(load_segmenter(checkpoint)), validation_set(checkpoint), range(64))
    assert f"expected calibration error {float(calibration['error']):.4f}" in said
    assert f"{scores[0].name}: mIoU {scores[0].miou:.4f}" in said


def test_attention_shows_maps_distances_and_embeddings(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(runs / "deep/seed-0/checkpoints/best.ckpt", (2e9 + 1, 2e9 + 1))  # the newest
    monkeypatch.setenv("SEGMENTER_PICTURE", "3")
    monkeypatch.setenv("SEGMENTER_PIXEL", "100 20")
    outputs = executed("03_attention.ipynb", runs, monkeypatch)
    # Patches of 16 pixels of a picture that is seen at twice its 128 pixels.
    assert "deep/seed-0/checkpoints/best.ckpt: 2 layers; val_003, patch 12, 2 of 16x16" in streams(outputs)
    assert sum("image/jpeg" in one.get("data", {}) for one in outputs) == 4
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    content = json.loads(path.read_text())
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert set(content["metadata"]["language_info"]) == {"name"}
    for cell in content["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path: Path) -> None:
    """They import, call and plot: no functions, no long cells."""
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert not re.search(r"^\s*(def|class) ", source, flags=re.MULTILINE)
            assert len(source.splitlines()) <= 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_has_a_rendered_copy_of_small_size(path: Path) -> None:
    """Of the same cells."""
    page = ROOT / "docs/notebooks" / f"{path.stem}.md"
    text = page.read_text()
    for cell in json.loads(path.read_text())["cells"]:
        assert "".join(cell["source"]).strip() in text
    pictures = re.findall(r"!\[\w+\]\((\S+)\)", text) + re.findall(r'<img src="(\S+?)"', text)
    assert pictures
    assert sum((page.parent / one).stat().st_size for one in [page.name, *pictures]) < 300_000
    kept = {one.name for one in page.with_name(f"{path.stem}_files").iterdir()}
    assert kept == {Path(one).name for one in pictures}


# What the second one calls


@pytest.fixture(scope="module")
def seen(runs: Path) -> tuple[Predictor, SegmentationDataset]:
    checkpoint = runs / "deep/seed-0/checkpoints/last.ckpt"
    return Predictor(load_segmenter(checkpoint)), validation_set(checkpoint)


def test_the_validation_pictures_are_those_of_the_training(runs: Path, seen: tuple[Any, SegmentationDataset]) -> None:
    """The survey's labels over all of them give the run's own mIoU."""
    from segmenter_pl.metrics import SegmentationMetrics

    predictor, pictures = seen
    metrics = SegmentationMetrics(len(pictures.classes))
    for index in range(len(pictures)):
        one = inspect(predictor, pictures, index)
        metrics.update(torch.from_numpy(one.labels), torch.from_numpy(one.truth).long())
    expected = json.loads((runs / "deep/seed-0/results.json").read_text())["val"]["miou"]
    assert float(metrics.compute()["miou"]) == pytest.approx(expected, abs=1e-6)


def test_a_picture_is_inspected_as_it_is_predicted(seen: tuple[Predictor, SegmentationDataset]) -> None:
    predictor, pictures = seen
    one = inspect(predictor, pictures, 5)
    probabilities = predictor.probabilities(one.image)
    np.testing.assert_array_equal(one.labels, probabilities.argmax(0))
    np.testing.assert_allclose(one.confidence, probabilities.max(0), atol=1e-6)
    assert one.pixel_accuracy == pytest.approx((one.labels == one.truth).mean(), abs=1e-12)
    ious = [
        ((one.labels == k) & (one.truth == k)).sum() / union
        for k in range(len(pictures.classes))
        if (union := ((one.labels == k) | (one.truth == k)).sum())
    ]
    assert one.miou == pytest.approx(np.mean(ious), abs=1e-12)


def test_a_survey_sorts_and_calibrates(seen: tuple[Predictor, SegmentationDataset]) -> None:
    predictor, pictures = seen
    scores, calibration = survey(predictor, pictures, range(10))
    assert sorted(score.index for score in scores) == list(range(10))
    assert [score.miou for score in scores] == sorted(score.miou for score in scores)
    alone = [inspect(predictor, pictures, index) for index in range(10)]
    assert {score.name: score.miou for score in scores} == {one.name: one.miou for one in alone}
    sure = np.concatenate([one.confidence.ravel() for one in alone])
    hits = np.concatenate([(one.labels == one.truth).ravel() for one in alone])
    bins = np.clip(np.ceil(sure * 15).astype(int) - 1, 0, 14)  # in float32, which decides at the edges
    gaps = [abs((hits[bins == k] - sure[bins == k].astype(float)).sum()) for k in range(15)]
    assert float(calibration["error"]) == pytest.approx(sum(gaps) / sure.size, abs=1e-6)


def test_mistakes_are_red_and_ignored_pixels_grey(seen: tuple[Predictor, SegmentationDataset]) -> None:
    from dataclasses import replace

    predictor, pictures = seen
    one = inspect(predictor, pictures, 0)
    truth = one.truth.copy()
    truth[:4] = 255
    shown = mistakes(replace(one, truth=truth)).astype(int)
    grey = np.ptp(shown, axis=-1) == 0
    assert grey[:4].all()
    np.testing.assert_array_equal(~grey[4:], (one.labels != truth)[4:])
    right = grey[4:]
    assert shown[:4].max() <= 150
    assert (shown[4:][~right][:, 0] > shown[4:][~right][:, 1]).all()


def test_a_sheet_has_a_row_for_each_picture_and_a_legend(seen: tuple[Predictor, SegmentationDataset]) -> None:
    predictor, pictures = seen
    shown = [inspect(predictor, pictures, index) for index in (0, 1)]
    made = sheet(shown, pictures)
    assert made.shape[0] >= 2 * 128 + 3 * 4
    assert made.shape[1] > 5 * 128 + 6 * 4
    np.testing.assert_array_equal(made[4:132, 4:132], shown[0].image)
    np.testing.assert_array_equal(made[136:264, 4:132], shown[1].image)
    np.testing.assert_array_equal(made[136:264, 4 + 3 * 132 :][:, :128], mistakes(shown[1]))
    np.testing.assert_array_equal(made[4:132, 4 + 4 * 132 :][:, :128, 0], (255 * shown[0].confidence).astype(np.uint8))


def test_only_our_own_datasets_are_built(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset os\.system is not one of"):
        validation_set(runs / "deep/seed-0/checkpoints/last.ckpt", _target_="os.system")
