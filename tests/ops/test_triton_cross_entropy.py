"""The loss by Triton's kernels against F.interpolate + F.cross_entropy in float64."""

import pytest
import torch

from segmenter_pl.ops import cross_entropy, torch_cross_entropy, upsampled_cross_entropy
from tests.ops.kernels import DEVICE, INTERPRETED, passed_under_the_interpreter, runs_cuda, runs_kernels
from tests.ops.test_cross_entropy import IGNORE, make_case, reference, value_and_gradient

triton_cross_entropy = pytest.importorskip("segmenter_pl.ops.triton_cross_entropy")  # Triton is made for Linux only

SHAPES = [  # classes, h, w, stride, pixels cut off: below and beyond 32 classes or pixels of a row, odd and even
    (2, 2, 3, 4, (1, 2)),
    (19, 1, 2, 5, (0, 3)),
    (150, 1, 1, 4, (3, 0)),
    (171, 2, 1, 3, (2, 1)),
    (5, 3, 4, 1, (0, 0)),
    (3, 1, 1, 33, (9, 20)),
]
OPTIONS = [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"weighted": True}]
OPTIONS += [{"label_smoothing": 0.3, "weighted": True}, {"label_smoothing": 1.0}]


@pytest.fixture(autouse=True)
def _by_triton(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_implementation", lambda _: triton_cross_entropy.summed_cross_entropy)


def assert_agrees(coarse, target, stride, weighted=False, **options):
    """In float32 on the device, to 1e-6 of the loss and of the gradient's length."""
    weights = torch.linspace(0, 2, coarse.shape[1], dtype=torch.float64) if weighted else None
    coarse = coarse.float().double()
    expected_value, expected = value_and_gradient(reference, coarse, target, stride, class_weights=weights, **options)
    if weights is not None:
        options["class_weights"] = weights.to(DEVICE, torch.float32)
    low = coarse.to(DEVICE, torch.float32)
    value, gradient = value_and_gradient(upsampled_cross_entropy, low, target.to(DEVICE), stride, **options)
    assert value.cpu().double() == pytest.approx(expected_value.item(), rel=1e-6)
    assert (gradient.cpu() - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.skipif(INTERPRETED, reason="is run by itself")
def test_kernels_under_the_interpreter():
    assert passed_under_the_interpreter(__file__) >= len(SHAPES) + len(OPTIONS)


@runs_kernels
@pytest.mark.parametrize(("classes", "h", "w", "stride", "crop"), SHAPES)
def test_shapes(classes, h, w, stride, crop):
    assert_agrees(*make_case(1, classes, h, w, stride, crop), stride)


@runs_kernels
@pytest.mark.parametrize("options", OPTIONS)
def test_options(options):
    assert_agrees(*make_case(2, 5, 2, 2, 4, (1, 3)), 4, **options)


@runs_kernels
@pytest.mark.parametrize(("dtype", "ignore_index"), [(torch.uint8, 255), (torch.int16, -100), (torch.int64, -100)])
def test_types_of_labels(dtype, ignore_index):
    coarse, target = make_case(1, 4, 2, 2, 4, (1, 2))
    target = torch.where(target == IGNORE, ignore_index, target).to(dtype)
    assert_agrees(coarse, target, 4, ignore_index=ignore_index)


@runs_kernels
def test_ignore_index_beyond_the_type_of_labels():
    coarse, target = make_case(1, 160, 1, 2, 2, (0, 1))
    target = torch.where(target == IGNORE, 156, target)  # -100 modulo 256, a class here
    assert_agrees(coarse, target.to(torch.uint8), 2, ignore_index=-100)


@runs_kernels
def test_logits_of_any_size():
    assert_agrees(*make_case(1, 40, 2, 2, 4, (1, 2), scale=1e4), 4)


@runs_kernels
def test_no_valid_pixel_gives_zero():
    coarse, target = make_case(1, 4, 2, 2, 4, (1, 2))
    value, gradient = value_and_gradient(
        upsampled_cross_entropy, coarse.to(DEVICE, torch.float32), target.fill_(IGNORE).to(DEVICE), 4
    )
    assert value == 0
    assert not gradient.any()


@runs_kernels
def test_label_out_of_range_makes_the_loss_nan():
    coarse, target = make_case(1, 4, 2, 2, 4, (1, 2))
    total, _ = triton_cross_entropy.summed_cross_entropy(
        coarse.permute(0, 2, 3, 1).to(DEVICE, torch.float32),
        target.where(target != 3, 4).to(DEVICE),
        torch_cross_entropy.Weighting(IGNORE, None, 0.0, None),
        4,
        False,
    )
    assert total.isnan()


@runs_cuda
@pytest.mark.parametrize("classes", [2, 19, 150, 171, 1000])
def test_a_training_batch(classes):
    coarse, target = make_case(2, classes, 32, 32, 16, (0, 0))
    assert_agrees(coarse, target, 16)
    assert_agrees(coarse, target, 16, label_smoothing=0.1, weighted=True)


@runs_cuda
def test_the_same_bits_again():
    coarse, target = make_case(4, 150, 32, 32, 16, (0, 0))
    low, target = coarse.to(DEVICE, torch.float32), target.to(DEVICE)
    runs = [value_and_gradient(upsampled_cross_entropy, low, target, 16) for _ in range(3)]
    for value, gradient in runs[1:]:
        assert torch.equal(value, runs[0][0])
        assert torch.equal(gradient, runs[0][1])


@runs_cuda
def test_memory_and_choice(monkeypatch):
    monkeypatch.undo()
    coarse, target = make_case(4, 150, 32, 32, 16, (0, 0))
    low, target = coarse.to(DEVICE, torch.float32).requires_grad_(), target.to(DEVICE, torch.uint8)
    assert cross_entropy._implementation(low) is triton_cross_entropy.summed_cross_entropy
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    upsampled_cross_entropy(low, target, 16).backward()
    full_size = 4 * 150 * target.numel()
    assert torch.cuda.max_memory_allocated() - before < full_size / 20


@runs_cuda
def test_plain_torch_on_cuda(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_implementation", lambda _: torch_cross_entropy.summed_cross_entropy)
    assert_agrees(*make_case(2, 150, 8, 8, 16), 16, label_smoothing=0.1, weighted=True)
