"""The banded cross-entropy against F.interpolate + F.cross_entropy in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from segmenter_pl.ops import pixel_weight, torch_cross_entropy, upsampled_cross_entropy
from segmenter_pl.ops.upsample import interpolation_matrix, source_span

IGNORE = 255


def make_case(batch=2, classes=5, h=3, w=4, stride=8, crop=(3, 5), scale=3.0, seed=0):
    """Coarse logits (float64) and a target with ignored areas, `crop` pixels short of the full size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = scale * torch.randn(batch, classes, h, w, generator=generator, dtype=torch.float64)
    size = (batch, h * stride - crop[0], w * stride - crop[1])
    target = torch.randint(0, classes, size, generator=generator)
    target[:, : size[1] // 3, : size[2] // 2] = IGNORE
    return coarse, target


def reference(coarse, target, stride, *, ignore_index=IGNORE, class_weights=None, **options):
    size = [side * stride for side in coarse.shape[2:]]
    logits = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    logits = logits[..., : target.shape[1], : target.shape[2]]
    return F.cross_entropy(logits, target.long(), weight=class_weights, ignore_index=ignore_index, **options)


def value_and_gradient(loss, coarse, *arguments, **options):
    leaf = coarse.detach().clone().requires_grad_()
    value = loss(leaf, *arguments, **options)
    value.backward()
    return value.detach(), leaf.grad


def assert_agrees(coarse, target, stride, **options):
    expected_value, expected_gradient = value_and_gradient(reference, coarse, target, stride, **options)
    value, gradient = value_and_gradient(upsampled_cross_entropy, coarse, target, stride, **options)
    torch.testing.assert_close(value, expected_value, rtol=1e-10, atol=0)
    atol = 1e-12 * expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=atol)


@pytest.mark.parametrize(
    ("batch", "classes", "h", "w", "stride", "crop"),
    [
        (2, 5, 3, 4, 8, (3, 5)),
        (1, 2, 4, 3, 16, (0, 0)),
        (3, 19, 5, 2, 14, (13, 1)),  # 19 classes are padded to 32
        (1, 33, 2, 6, 4, (1, 3)),  # 33 are not
        (2, 3, 7, 5, 1, (0, 0)),
        (1, 4, 1, 1, 32, (31, 9)),  # a single cell and a single row
        (1, 150, 2, 3, 5, (2, 2)),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_agrees_with_interpolate_and_cross_entropy(batch, classes, h, w, stride, crop, reduction):
    coarse, target = make_case(batch, classes, h, w, stride, crop)
    assert_agrees(coarse, target, stride, reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [5, 19])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_and_label_smoothing(classes, weighted, label_smoothing, reduction):
    coarse, target = make_case(classes=classes)
    weights = torch.linspace(0, 2, classes, dtype=torch.float64) if weighted else None  # one class weighs nothing
    options = {"class_weights": weights, "label_smoothing": label_smoothing, "reduction": reduction}
    assert_agrees(coarse, target, 8, **options)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_target_dtypes(dtype):
    coarse, target = make_case()
    assert_agrees(coarse, target.to(dtype), 8)


def test_ignore_index_that_is_no_uint8():
    coarse, target = make_case(classes=160)
    # -100 is 156 modulo 256, which is a class here.
    target = torch.where(target == IGNORE, 156, target).to(torch.uint8)
    assert_agrees(coarse, target, 8, ignore_index=-100)


def test_strongly_disagreeing_logits_stay_finite():
    coarse, target = make_case(scale=1e4)
    assert_agrees(coarse, target, 8)


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 16, 32])
@pytest.mark.parametrize("spread", [1.0, 55.0, 400.0])  # natural logits; 62 is where the series of exponentials ends
def test_spread_of_logits(stride, spread):
    coarse, target = make_case(classes=7, stride=stride, crop=(0, 0))
    coarse = (coarse - coarse.amin(1, keepdim=True)) / (coarse.amax(1, keepdim=True) - coarse.amin(1, keepdim=True))
    assert_agrees(coarse * spread + 1000, target, stride, label_smoothing=0.1)
    expected_value, expected = value_and_gradient(reference, (coarse * spread).float().double(), target, stride)
    value, gradient = value_and_gradient(upsampled_cross_entropy, (coarse * spread).float(), target, stride)
    assert value.double() == pytest.approx(expected_value.item(), rel=2e-6)
    assert (gradient - expected).norm() <= 2e-6 * expected.norm()


def test_images_of_either_kind_in_one_batch():
    coarse, target = make_case(batch=3, classes=7)
    coarse[1] *= 1e3
    assert_agrees(coarse, target, 8)


@pytest.mark.parametrize("numbers", [1, 2 * 64 * 5, 3 * 64 * 5, 10**6])
def test_any_cut_into_tiles(monkeypatch, numbers):
    monkeypatch.setattr(torch_cross_entropy, "TILE_CPU", numbers)
    coarse, target = make_case()
    assert_agrees(coarse, target, 8, class_weights=torch.linspace(0, 1, 5, dtype=torch.float64))


def test_only_one_pixel_counts():
    coarse, target = make_case()
    label = target[1, 20, 9].item()
    target.fill_(IGNORE)[1, 20, 9] = label
    assert_agrees(coarse, target, 8, label_smoothing=0.1)


def test_compiles_without_a_break():
    coarse, target = make_case()
    options = {"label_smoothing": 0.1, "class_weights": torch.ones(5, dtype=torch.float64)}
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(upsampled_cross_entropy, fullgraph=True, backend="aot_eager")
    for reduction in ("mean", "sum"):
        value, gradient = value_and_gradient(compiled, coarse, target, 8, reduction=reduction, **options)
        expected = value_and_gradient(upsampled_cross_entropy, coarse, target, 8, reduction=reduction, **options)
        torch.testing.assert_close((value, gradient), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the operator's own code is left alone
    torch._dynamo.reset()


def test_operator_says_what_it_returns():
    coarse, target = make_case(classes=3)
    for with_gradient in (False, True):
        leaf = coarse.detach().requires_grad_(with_gradient)
        arguments = (leaf, target.clamp(max=2), 8, IGNORE, None, 0.1, with_gradient)
        kinds = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.segmenter_pl.summed_cross_entropy, arguments, test_utils=kinds)


def test_gradient_is_scaled_by_what_follows():
    coarse, target = make_case()
    _, gradient = value_and_gradient(upsampled_cross_entropy, coarse, target, 8)
    _, tripled = value_and_gradient(lambda *arguments: 3 * upsampled_cross_entropy(*arguments), coarse, target, 8)
    torch.testing.assert_close(tripled, 3 * gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("class_weights", [None, torch.ones(5, dtype=torch.float64)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_no_valid_pixel_gives_zero(reduction, class_weights, label_smoothing):
    coarse, target = make_case()
    target.fill_(IGNORE)
    options = {"class_weights": class_weights, "label_smoothing": label_smoothing, "reduction": reduction}
    value, gradient = value_and_gradient(upsampled_cross_entropy, coarse, target, 8, **options)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_mean_times_pixel_weight_is_sum():
    coarse, target = make_case()
    weights = torch.rand(5, dtype=torch.float64)
    for class_weights in (None, weights):
        mean, total = (
            upsampled_cross_entropy(coarse, target, 8, class_weights=class_weights, reduction=reduction)
            for reduction in ("mean", "sum")
        )
        torch.testing.assert_close(mean * pixel_weight(target, class_weights=class_weights), total)


def test_pixel_weight_by_hand():
    target = torch.tensor([[[0, 1, 255], [2, 2, 255]]], dtype=torch.uint8)
    assert pixel_weight(target) == 4
    assert pixel_weight(target, ignore_index=2) == 4
    assert pixel_weight(target, class_weights=torch.tensor([1.0, 0.5, 0.25])) == 2.0
    assert pixel_weight(torch.full((1, 2, 2), 255)) == 0


def test_float32_gradient_is_close_to_float64():
    coarse, target = make_case(batch=1, classes=150, h=8, w=8, stride=16)
    _, expected = value_and_gradient(reference, coarse.float().double(), target, 16)
    value, gradient = value_and_gradient(upsampled_cross_entropy, coarse.float(), target, 16)
    assert value.dtype == gradient.dtype == torch.float32
    assert (gradient - expected).norm() / expected.norm() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_computed_in_float32(dtype):
    coarse, target = make_case(classes=19)
    low = coarse.to(dtype)
    expected_value, expected_gradient = value_and_gradient(upsampled_cross_entropy, low.float(), target, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(upsampled_cross_entropy, low, target, 8)
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    assert value == expected_value
    assert torch.equal(gradient, expected_gradient.to(dtype))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradcheck(label_smoothing):
    coarse, target = make_case(batch=1, classes=3, h=2, w=2, stride=3, crop=(1, 2))
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

    def loss(leaf):
        return upsampled_cross_entropy(leaf, target, 3, class_weights=weights, label_smoothing=label_smoothing)

    assert torch.autograd.gradcheck(loss, coarse.requires_grad_())


def test_without_gradient():
    coarse, target = make_case()
    expected = reference(coarse, target, 8)
    assert not upsampled_cross_entropy(coarse, target, 8).requires_grad
    with torch.no_grad():
        value = upsampled_cross_entropy(coarse.clone().requires_grad_(), target, 8)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)


def test_double_backward_is_refused():
    coarse, target = make_case()
    leaf = coarse.requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(upsampled_cross_entropy(leaf, target, 8), leaf, create_graph=True)


@pytest.mark.parametrize("size", [(25, 30), (16, 30), (24, 33), (24, 24)])
def test_wrong_size_names_both(size):
    coarse, _ = make_case(h=3, w=4, stride=8)  # covers 24 x 32 pixels
    target = torch.zeros(2, *size, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"\(2, {size[0]}, {size[1]}\).*\(2, 5, 3, 4\).*24 x 32"):
        upsampled_cross_entropy(coarse, target, 8)


@pytest.mark.parametrize(("label", "dtype"), [(5, torch.uint8), (254, torch.uint8), (-1, torch.int16)])
def test_label_out_of_range_is_named(label, dtype):
    coarse, target = make_case()
    target[0, -1, -1] = label
    for class_weights in (None, torch.ones(5)):
        with pytest.raises(ValueError, match=rf"label {label}, outside 0\.\.4 .* 255"):
            upsampled_cross_entropy(coarse, target.to(dtype), 8, class_weights=class_weights)


def test_wrong_number_of_class_weights():
    coarse, target = make_case()
    with pytest.raises(ValueError, match=r"\(6,\); 5 classes"):
        upsampled_cross_entropy(coarse, target, 8, class_weights=torch.ones(6))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize(
    "options", [{}, {"class_weights": torch.ones(30, dtype=torch.float64), "label_smoothing": 0.1}]
)
def test_never_holds_full_size_logits(options):
    coarse, target = make_case(batch=2, classes=30, h=8, w=8, stride=16)
    full_size = 30 * target[0].numel()
    with LargestTensor() as plain:
        value_and_gradient(reference, coarse, target, 16, **options)
    with LargestTensor() as banded:
        value_and_gradient(upsampled_cross_entropy, coarse, target, 16, **options)
    assert plain.numel >= 2 * full_size  # the recorder sees what it has to see
    assert banded.numel < full_size / 8


@pytest.mark.parametrize(("size_out", "size_in"), [(12, 3), (7, 1), (15, 5), (10, 4), (4, 4)])
def test_interpolation_matrix_is_what_interpolate_does(size_out, size_in):
    identity = torch.eye(size_in, dtype=torch.float64)[None]  # (1, size_in, size_in)
    expected = F.interpolate(identity, size=size_out, mode="linear", align_corners=False)[0].T  # (size_out, size_in)
    matrix = interpolation_matrix(size_out, size_in, dtype=torch.float64)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-14)
    cropped = interpolation_matrix(size_out, size_in, crop=3, dtype=torch.float64)
    assert torch.equal(cropped, matrix[:3])


@pytest.mark.parametrize(("size_out", "size_in"), [(12, 3), (7, 1), (64, 4), (10, 4)])
def test_source_span_covers_all_weights_and_at_most_one_more_row(size_out, size_in):
    matrix = interpolation_matrix(size_out, size_in)
    for start in range(size_out):
        for stop in range(start + 1, size_out + 1):
            first, last = source_span(start, stop, size_out, size_in)
            used = matrix[start:stop].any(0).nonzero().flatten()
            assert first == used[0]
            assert used[-1] < last <= min(used[-1] + 2, size_in)
