"""Attention weights of any layer, read while the model runs as ever: only the rows that are asked for are computed.

Shapes: B batch, K classes, A heads, d width of a head, h w grid of patches, N = h·w, E prefix tokens (class,
distillation and register tokens); T tokens of a layer: the encoder's are E prefix tokens and then N patches, the mask
decoder's N patches and then K class embeddings. R rows, that is tokens that look at others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segmenter_pl.models import MaskDecoder, Segmenter

Part = Literal["enc", "dec"]
Layer = tuple[Part, int]  # number of a block, from 0
Result = TypeVar("Result")
CHUNK_BYTES = 2**26  # of weights held at a time


@dataclass(frozen=True)
class Attention:
    """What one layer attends with.

    Attributes:
        query, key: (B, A, T, d) as the attention kernel gets them: normalised and rotated where the model does that.
        scale: of their products. patches: which of the T tokens stand for patches. grid: (h, w).
    """

    query: Tensor
    key: Tensor
    scale: float
    patches: slice
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        """T."""
        return self.query.shape[2]

    def weights(self, rows: Sequence[int] | slice = slice(None)) -> Tensor:
        """Attention weights (B, A, R, T) float32 of some rows; each row sums to 1."""
        with torch.autocast(self.query.device.type, enabled=False):
            return (self.query[:, :, rows].float() @ self.key.float().mT * self.scale).softmax(-1)

    def maps(self, rows: Sequence[int]) -> Tensor:
        """What some rows give to each patch (B, A, R, h, w) float32; what other tokens get is missing in the sum."""
        return self.weights(rows)[..., self.patches].unflatten(-1, self.grid)

    def chunks(self, rows: slice) -> Iterator[tuple[slice, Tensor]]:
        """Slices of a range of rows, and their weights (B, A, r, T), which never take more than some 64 MiB."""
        first, last, _ = rows.indices(self.tokens)
        batch, heads = self.query.shape[:2]
        step = max(1, CHUNK_BYTES // (4 * batch * heads * self.tokens))
        for start in range(first, last, step):
            some = slice(start, min(start + step, last))
            yield some, self.weights(some)


def require_attention(model: object) -> Segmenter:
    """The model, if its encoder attends from every patch to every other. Raises ValueError for any other model."""
    if not isinstance(model, Segmenter):
        raise ValueError("this model's encoder is no plain ViT: it has no attention between all patches to show")
    return model


def number_of_layers(model: Segmenter, part: Part) -> int:
    """Blocks that attend in the encoder or the decoder: none in a linear decoder."""
    return len(_blocks(model, part))


def number_of_heads(model: Segmenter, layer: Layer) -> int:
    """A."""
    return int(_attending(model, layer).num_heads)


@torch.inference_mode()
def read_attention(
    model: Segmenter, images: Tensor, layers: Sequence[Layer], read: Callable[[Attention], Result]
) -> list[Result]:
    """Run the model on pictures and have `read` called on the attention of each layer, as it happens.

    Everything runs on the fused kernel, also the layers that are read: their queries and keys are taken on the way in.
    Token merging is off meanwhile, so that every patch has a row and a column of its own.

    Args:
        model: in evaluation mode. images: RGB (B, 3, H, W), 0…255, of any size, on the model's device.
        layers: part and number from 0. read: what it returns is kept; of the `Attention` itself 2·B·T·A·d numbers are.

    Returns: the results in the order of `layers`.
    Raises: ValueError: a layer's attention is none that one soft-max describes.
    """
    grid = model.encoder.grid(*images.shape[-2:])
    count, prefix = grid[0] * grid[1], model.encoder.vit.num_prefix_tokens
    patches = {"enc": slice(prefix, prefix + count), "dec": slice(0, count)}
    results: dict[Layer, Result] = {}
    with ExitStack() as stack:
        stack.enter_context(_without_merging(model.encoder))
        for layer in layers:

            def take(query: Tensor, key: Tensor, scale: float, layer: Layer = layer) -> None:
                if layer in results:
                    raise ValueError(f"block {layer[1]} attends more than once: its weights are not one soft-max")
                results[layer] = read(Attention(query, key, scale, patches[layer[0]], grid))

            stack.enter_context(_heard(_attending(model, layer), take))
        if any(part == "dec" for part, _ in layers):
            model.coarse_logits(images)
        else:
            model.encoder(images)
    if lacking := [number for part, number in layers if (part, number) not in results]:
        raise ValueError(f"block {lacking[0]} does not use torch's attention kernel: its weights cannot be read")
    return [results[layer] for layer in layers]


def _blocks(model: Segmenter, part: Part) -> Sequence[nn.Module]:
    if part == "enc":
        return list(model.encoder.vit.blocks)
    return list(model.decoder.blocks) if isinstance(model.decoder, MaskDecoder) else []


def _attending(model: Segmenter, layer: Layer) -> Any:
    """The module of a layer that calls the attention kernel: parallel blocks do so themselves."""
    part, number = layer
    block = _blocks(model, part)[number]
    return getattr(block, "attn", block)


class _Kernel(TorchFunctionMode):
    """Tells what goes into scaled_dot_product_attention, and lets it through."""

    def __init__(self, take: Callable[[Tensor, Tensor, float], None]) -> None:
        super().__init__()
        self._take = take

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[:2]
            self._take(query, key, keywords.get("scale") or query.shape[-1] ** -0.5)
        return func(*args, **keywords)


@contextmanager
def _heard(attention: Any, take: Callable[[Tensor, Tensor, float], None]) -> Iterator[None]:
    """Within the block, `take` is told what a module's attention kernel gets."""
    forward = attention.forward

    def listening(*args: Any, **keywords: Any) -> Any:
        before = getattr(attention, "fused_attn", True)
        attention.fused_attn = True  # the explicit product, which bf16 has on a CPU, does not pass through the kernel
        try:
            with _Kernel(take):
                return forward(*args, **keywords)
        finally:
            attention.fused_attn = before

    attention.forward = listening
    try:
        yield
    finally:
        del attention.forward


@contextmanager
def _without_merging(encoder: Any) -> Iterator[None]:
    merging, encoder.merging = encoder.merging, None
    try:
        yield
    finally:
        encoder.merging = merging
