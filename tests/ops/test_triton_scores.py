"""Triton's kernels for the last steps of a prediction, against float64; those of plain torch beside them."""

import pytest
import torch

from segmenter_pl.ops import torch_scores
from segmenter_pl.ops.bands import View, banded_labels, banded_scores, mixing_matrix
from tests.ops.kernels import DEVICE, INTERPRETED, passed_under_the_interpreter, runs_cuda, runs_kernels

triton_scores = pytest.importorskip("segmenter_pl.ops.triton_scores")  # Triton is made for Linux only

SHAPES = [(2, 2, 33, 3), (19, 3, 40, 2), (150, 2, 3, 2), (171, 4, 5, 2), (1, 1, 1, 1)]  # K, r, columns, rows
MODULES = [torch_scores, pytest.param(triton_scores, marks=runs_kernels)]


def make_tile(classes, r, columns, rows, scale=3.0):
    """Coarse rows (r, columns, K), weights (rows, r) with zeros, and the logits that they make, in float64."""
    generator = torch.Generator().manual_seed(classes)
    wide = scale * torch.randn(r, columns, classes, generator=generator)
    weights = torch.rand(rows, r, generator=generator)
    weights[0, 1:] = 0
    weights /= weights.sum(1, keepdim=True)
    return wide, weights, torch.einsum("yr,rck->yck", weights.double(), wide.double())


@pytest.mark.skipif(INTERPRETED, reason="is run by itself")
def test_kernels_under_the_interpreter():
    assert passed_under_the_interpreter(__file__) >= 4 * len(SHAPES)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_labels(module, shape):
    wide, weights, logits = make_tile(*shape)
    found = module.labels(wide.to(DEVICE), weights.to(DEVICE))
    assert found.dtype == torch.int64
    assert torch.equal(found.cpu(), logits.argmax(-1))


@pytest.mark.parametrize("module", MODULES)
def test_the_first_of_equals(module):
    wide = torch.zeros(1, 3, 70)
    wide[0, 1, [5, 6, 40]] = 1  # in one chunk of classes and in the next
    wide[0, 2, [40, 69]] = -1
    assert module.labels(wide.to(DEVICE), torch.ones(1, 1, device=DEVICE)).tolist() == [[0, 5, 0]]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("scale", [3.0, 300.0])  # within and beyond what exponentials alone can hold
@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities(module, shape, scale):
    tiles = [make_tile(*shape, scale), make_tile(*shape, 1.0), make_tile(*shape, 2.0)]
    expected = sum(logits.softmax(-1) for _, _, logits in tiles) / 3
    wide = [torch_scores.exponents(cells).to(DEVICE) for cells, _, _ in tiles]
    found = module.probabilities(wide, [weights.to(DEVICE) for _, weights, _ in tiles])
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=1e-6 * scale)


@runs_cuda
@pytest.mark.parametrize("classes", [2, 19, 150, 1000])
@pytest.mark.parametrize("flips", [(False,), (False, True, False)])
def test_a_picture(classes, flips):
    """All tiles of 300 × 517 pixels in windows of 128 and steps of 100, seen at another size."""
    generator, views = torch.Generator().manual_seed(0), []
    for mirrored in flips:
        rows, columns = (
            mixing_matrix(size, seen, tuple(range(0, seen - 127, 100)), 128, 16)
            for size, seen in ((300, 328), (517, 528))
        )
        logits = 3 * torch.randn(rows.shape[1], columns.shape[1], classes, generator=generator)
        views.append(View(logits.to(DEVICE), rows, columns, mirrored))
    expected = sum(
        (scores if len(flips) == 1 else scores.softmax(-1) / len(flips))
        for scores in (
            torch.einsum("hy,wx,yxk->hwk", view.rows.double(), view.across.double(), view.logits.cpu().double())
            for view in views
        )
    )
    seen = torch.zeros(300, 517)
    for rows, columns, scores in banded_scores(views, (70, 200)):
        torch.testing.assert_close(scores.cpu().double(), expected[rows, columns], rtol=1e-5, atol=1e-5)
    for rows, columns, labels in banded_labels(views, (70, 200)):
        seen[rows, columns] += 1
        truth = expected[rows, columns]
        lost = truth.amax(-1) - truth.gather(-1, labels.cpu()[..., None])[..., 0]
        assert lost.max() < 1e-5
    assert bool((seen == 1).all())
