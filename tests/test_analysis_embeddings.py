"""Class embeddings: projections, similarities and neighbours against closed forms, NumPy and brute force."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Segmenter, create_segmenter, load_segmenter
from segmenter_pl.analysis.embeddings import (
    Method,
    class_embeddings,
    nearest,
    project_neighbours,
    project_svd,
    require_method,
    similarities,
)
from segmenter_pl.analysis.embeddings_plot import draw_projection, draw_similarity, grouped
from segmenter_pl.cli import app
from segmenter_pl.visualize import default_palette
from tests import test_predictor
from tests.test_attention_command import save_checkpoint
from tests.test_predictor import NAMES


def vectors(count: int = 6, width: int = 9) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0)) + 1


def model(decoder: str) -> Segmenter:
    return create_segmenter("vit_micro", decoder, num_classes=4, image_size=32)


def test_what_stands_for_a_class() -> None:
    mask, linear = model("mask"), model("linear")
    assert torch.equal(class_embeddings(mask), mask.decoder.cls_emb[0])
    assert torch.equal(class_embeddings(linear), linear.decoder.head.weight)


def test_similarities_are_cosines() -> None:
    given = torch.tensor([[1.0, 0], [1, 1], [-2, 0], [0, 0]])
    half = 0.5**0.5
    expected = torch.tensor([[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(similarities(given), expected)


def test_the_nearest_are_others() -> None:
    similarity = similarities(vectors())
    numbers, cosines = nearest(similarity, 3)
    for k in range(6):
        expected = sorted((j for j in range(6) if j != k), key=lambda j: -similarity[k, j])[:3]
        assert numbers[k].tolist() == expected
        assert cosines[k].tolist() == [similarity[k, j] for j in expected]
    assert nearest(similarity, 99)[0].shape == (6, 5)
    assert nearest(similarities(vectors(1)), 5)[0].shape == (1, 0)


@pytest.mark.parametrize("centred", [True, False])
def test_svd_equals_the_eigenvectors_of_products(centred: bool) -> None:
    given = vectors().double().numpy()
    if centred:
        given = given - given.mean(0)
    values, directions = np.linalg.eigh(given.T @ given)
    expected = given @ directions[:, [-1, -2]]
    found, shares = project_svd(vectors(), centred=centred)
    np.testing.assert_allclose(np.abs(found.numpy()), np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(shares.numpy(), values[[-1, -2]] / values.sum(), rtol=1e-5)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_points_of_a_plane_keep_their_distances() -> None:
    """However the plane lies in the space of the embeddings."""
    plane = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    basis, _ = torch.linalg.qr(torch.randn(20, 2, generator=torch.Generator().manual_seed(2)))
    found, shares = project_svd(plane @ basis.T + 5)
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(plane, plane), atol=1e-5, rtol=1e-4)
    assert shares.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_few_classes_have_places_too(count: int, tmp_path: Path) -> None:
    found, shares = project_svd(vectors(count))
    assert found.shape == (count, 2)
    assert torch.cat([found.flatten(), shares]).isfinite().all()
    draw_projection(found, NAMES[:count], default_palette(count), ("x", "y"), "title", tmp_path / "a.png")
    draw_similarity(similarities(vectors(count)), NAMES[:count], tmp_path / "b.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_like_classes_stand_together() -> None:
    first, second = torch.eye(2, 8)
    mixed = torch.stack([first, second, first, second, first]) + 0.1 * vectors(5, 8)
    order = grouped(similarities(mixed))
    assert sorted(order) == list(range(5))
    assert sorted(order[:2]) == [1, 3] or sorted(order[-2:]) == [1, 3]


@pytest.mark.parametrize("method", [Method.tsne, Method.umap])
def test_a_missing_library_and_too_few_classes_are_told(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf'--method {method} needs .*pip install "segmenter-pl\[projections\]"'):
        project_neighbours(vectors(), method)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match=rf"--method {method} needs 4 classes or more, and there are 3"):
        require_method(method, 3)


@pytest.mark.parametrize(
    ("method", "package"), [(Method.tsne, "sklearn"), pytest.param(Method.umap, "umap", marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_neighbours_stay_neighbours(method: Method, package: str) -> None:
    pytest.importorskip(package)
    centres = 5 * torch.eye(2, 30)
    given = centres.repeat_interleave(10, 0) + torch.randn(20, 30, generator=torch.Generator().manual_seed(0)) / 5
    found = project_neighbours(given, method)
    assert found.shape == (20, 2)
    assert torch.equal(found, project_neighbours(given, method))
    apart = torch.cdist(found, found).fill_diagonal_(torch.inf)
    assert ((apart.argmin(1) < 10) == (torch.arange(20) < 10)).all()


def embeddings(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["embeddings", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def table(path: Path) -> list[list[Any]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_command_writes_tables_and_plots(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "best.ckpt")
    code, said, told = embeddings(file, tmp_path / "out", "--nearest", 2, "--class", "CAR", "--class", 0)
    assert (code, told) == (0, "")
    given = class_embeddings(load_segmenter(file))
    similarity, (numbers, cosines) = similarities(given), nearest(similarities(given), 2)
    lines = said.splitlines()
    near = ", ".join(f"{NAMES[n]} ({c:+.2f})" for n, c in zip(numbers[2].tolist(), cosines[2].tolist(), strict=True))
    assert lines[0] == f"car: {near}"
    assert lines[1].startswith("sky: ")
    assert lines[2:] == [f"5 classes of 32 numbers, svd → {tmp_path / 'out'}"]
    heading, *rows = table(tmp_path / "out/projection.csv")
    assert heading == ["class", "name", "x", "y", "nearest_1", "nearest_2"]
    assert [row[:2] for row in rows] == [[str(k), name] for k, name in enumerate(NAMES)]
    np.testing.assert_allclose([[float(x) for x in row[2:4]] for row in rows], project_svd(given)[0], rtol=1e-6)
    assert [row[4:] for row in rows] == [[NAMES[n] for n in some] for some in numbers.tolist()]
    heading, *rows = table(tmp_path / "out/similarity.csv")
    assert heading[1:] == [row[0] for row in rows] == list(NAMES)
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), similarity, rtol=1e-6)
    for name in ("projection.png", "similarity.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.format == "PNG"


def test_the_command_takes_linear_decoders_and_uncentred_directions(tmp_path: Path) -> None:
    file = test_predictor.save_checkpoint(tmp_path / "best.ckpt")
    assert embeddings(file, tmp_path / "out", "--uncentred")[0] == 0
    _, *rows = table(tmp_path / "out/projection.csv")
    expected = project_svd(class_embeddings(load_segmenter(file)), centred=False)[0]
    np.testing.assert_allclose([[float(x) for x in row[2:4]] for row in rows], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "pca"), "--method pca: give svd, tsne, umap"),
        (("--method", "tsne", "--uncentred"), "--uncentred is for --method svd, not tsne"),
        (("--class", "ship"), "--class 'ship': there is no such class: give sky, road, car"),
    ],
)
def test_what_does_not_fit_is_told(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "best.ckpt")
    code, _, told = embeddings(file, tmp_path / "out", *words)
    assert (code, message in told) == (1, True), told
    assert not (tmp_path / "out").exists()
    code, _, told = embeddings(file, file)
    assert (code, "best.ckpt is a file: give a folder" in told) == (1, True)
