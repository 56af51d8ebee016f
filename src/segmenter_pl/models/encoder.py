"""Encoder: RGB pictures to patch tokens, with any plain Vision Transformer of timm.

Shapes: B batch, D width, P patch side, H W pixels, h w = ceil(H/P) ceil(W/P), N = h·w, E prefix tokens
(class, distillation and register tokens).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segmenter_pl.models.attention import choose_attention
from segmenter_pl.models.depth import use_stochastic_depth
from segmenter_pl.models.merging import Restore, as_it_is, make_merging
from segmenter_pl.models.pixels import pixel_statistics
from segmenter_pl.models.tracing import is_traced, take
from segmenter_pl.weights.fitting import load_weights, resize_position_table
from segmenter_pl.weights.hub import hub_weights


class ViTEncoder(nn.Module):
    """A plain ViT without its classification head (Segmenter, section 3.1).

    Args:
        model_name: timm name; pixel statistics are those of its tag (``vit_tiny_patch16_384.augreg_in21k_ft_in1k``).
        image_size: side in pixels, or height and width, whose grid the position table is stored for. Pictures of any
            other size work too: the table is then resized in every forward pass.
        patch_size: P; None is the model's own.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0 at the first.
        dropout: one rate for position, attention, projection and MLP dropout.
        position_mode: "bilinear" (the paper's) or "bicubic" (MMSegmentation's), never antialiased.
        mean, std: pixel statistics (R, G, B) in 0…1; None: those of the tag.
        patch_bias: False leaves the bias of the patch embedding out, as MMSegmentation 1.x does.
        norm_eps, final_norm_eps: epsilon of the blocks' and of the final LayerNorm; None is timm's own.
        taps: block numbers, counted from 1 and ascending, whose output is wanted instead of the final tokens.
        freeze: no gradients, and evaluation mode also while training.
        checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again: less memory, more
            time.
        token_merging: ``keep`` (part of the tokens, 0.25…1) and ``after`` (number of a block), see `merging`; taps and
            the result have all tokens nevertheless.
        pretrained: take the weights of ``model_name`` from the Hugging Face hub or its cache.
        weights: file to load instead (.safetensors, .pth, .pt or AugReg .npz); wins over ``pretrained``.
        timm_keywords: passed to ``timm.create_model``, such as embed_dim, depth, num_heads.

    Attributes:
        width (D), patch_size (P), depth (blocks); buffers pixel_mean, pixel_std (1, 3, 1, 1) in 0…255.

    Raises:
        ValueError: the model is no plain ViT, a setting is out of range, or the weights do not fit.
        FileNotFoundError: the weights are neither at the path nor to be had from the hub.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        model_name: str,
        *,
        image_size: int | Sequence[int] = 512,
        patch_size: int | None = None,
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
        position_mode: str = "bilinear",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        patch_bias: bool = True,
        norm_eps: float | None = None,
        final_norm_eps: float | None = None,
        taps: Sequence[int] = (),
        freeze: bool = False,
        checkpointing: bool = False,
        token_merging: Mapping[str, Any] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        **timm_keywords: Any,
    ) -> None:
        super().__init__()
        if position_mode not in ("bilinear", "bicubic"):
            raise ValueError(f"backbone.position_mode={position_mode}: choose bilinear or bicubic")
        if patch_size is not None:
            timm_keywords["patch_size"] = patch_size
        rates = {f"{place}_drop_rate": dropout for place in ("pos", "attn", "proj")}
        self.vit = _build_vit(model_name, image_size, drop_path_rate=drop_path_rate, **rates, **timm_keywords)
        use_stochastic_depth(self.vit.blocks)
        if not patch_bias:
            self.vit.patch_embed.proj.bias = None
        self.width: int = self.vit.embed_dim
        self.patch_size: int = self.vit.patch_embed.patch_size[0]
        self.depth = len(self.vit.blocks)
        self.position_mode = position_mode
        self.freeze, self.checkpointing = freeze, checkpointing
        self.taps = tuple(taps)
        if list(self.taps) != sorted(set(self.taps) & set(range(1, self.depth + 1))):
            raise ValueError(f"backbone.taps={self.taps}: ascending block numbers from 1 to {self.depth} are needed")
        blocks = self.taps[-1] if self.taps else self.depth
        self.merging = make_merging(token_merging, blocks=blocks, vit=self.vit)
        _set_eps(self.vit.blocks, norm_eps)
        _set_eps(nn.ModuleList([self.vit.norm, self.vit.fc_norm]), final_norm_eps)
        statistics = self.vit.pretrained_cfg
        for name, values in zip(("mean", "std"), pixel_statistics(statistics, mean, std), strict=True):
            self.register_buffer(f"pixel_{name}", values, persistent=False)
        if weights is None and pretrained:
            weights = str(hub_weights(model_name, statistics.get("hf_hub_id"), statistics.get("hf_hub_filename")))
        if weights is not None:
            load_weights(self.vit, weights, position_mode=position_mode)
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        if self.freeze:
            self.requires_grad_(False)
            self.eval()
        elif self.taps:  # what lies behind the last tap gets no gradient, which DDP must know
            for unused in (*self.vit.blocks[self.taps[-1] :], self.vit.norm, self.vit.fc_norm):
                unused.requires_grad_(False)

    def tap(self, streams: int) -> None:
        """Take the tokens of so many depths at equal distances, the last block's among them, unless taps are set.

        Raises: ValueError: more or fewer taps are set, or there are fewer blocks.
        """
        if streams == 1 and not self.taps:
            return
        if streams == 1:
            raise ValueError(f"backbone.taps={list(self.taps)}: this decoder takes tokens of one depth, the last: []")
        if streams > self.depth or len(self.taps) not in (0, streams):
            raise ValueError(
                f"backbone.taps={list(self.taps)}: this decoder needs tokens of {streams} blocks, and the encoder has "
                f"{self.depth}"
            )
        self.taps = self.taps or tuple(self.depth * (n + 1) // streams for n in range(streams))
        self._freeze_unused()

    def train(self, mode: bool = True) -> "ViTEncoder":
        """Set training mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns (h, w) of patches that cover a picture of ``height`` by ``width`` pixels."""
        # Not -(-height // P): ONNX rounds a negative quotient towards zero.
        return (height + self.patch_size - 1) // self.patch_size, (width + self.patch_size - 1) // self.patch_size

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Encode RGB pictures (B, 3, H, W) of any size with values 0…255 (uint8 or float).

        Returns patch tokens (B, N, D), row by row, after the final LayerNorm; with ``taps``, a tuple of such tensors
        as the tapped blocks put them out, not normalised.
        """
        if self.freeze:
            with torch.no_grad():
                return self._encode(images)
        return self._encode(images)

    def _encode(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        grid = self.grid(*images.shape[-2:])
        x = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        x = self._pad(x, grid)  # (B, 3, h·P, w·P)
        x = self._embed(x, grid)  # (B, E+N, D)
        rope = self._rotations(grid)
        choose_attention(self.vit.blocks, x)
        tapped = []
        restore: Restore = as_it_is
        for number, block in enumerate(self.vit.blocks[: self.taps[-1] if self.taps else None], start=1):
            given: dict[str, Any] = {} if rope is None else {"rope": rope[number - 1]}
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False, **given)
            else:
                x = block(x, **given)
            if self.merging is not None and number == self.merging.after:
                x, restore = self.merging(x, grid)  # (B, E+N-R, D)
            if number in self.taps:
                tapped.append(restore(x)[:, self.vit.num_prefix_tokens :])  # (B, N, D)
        if self.taps:
            return tuple(tapped)
        # Models that were trained with average pooling keep their final norm behind it, in fc_norm.
        return self.vit.fc_norm(self.vit.norm(restore(x)))[:, self.vit.num_prefix_tokens :]  # (B, N, D)

    def _pad(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        height, width = (side * self.patch_size for side in grid)
        if is_traced():
            return take(take(x, 2, height), 3, width)
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))

    def _embed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        vit = self.vit
        positions = self.position_table(grid)
        x = vit.patch_embed(x).flatten(1, 2)  # (B, N, D)
        if positions is not None and vit.no_embed_class:
            x = x + positions
        prefix = [getattr(vit, name, None) for name in ("cls_token", "dist_token", "reg_token")]
        # p[0], not p: of a single picture p's gradient would be a view with foreign strides, of which DDP complains.
        x = torch.cat([*(p[0].expand(x.shape[0], -1, -1) for p in prefix if p is not None), x], dim=1)  # (B, E+N, D)
        if positions is not None and not vit.no_embed_class:
            x = x + positions
        return vit.norm_pre(vit.pos_drop(x))

    def position_table(self, grid: tuple[int, int]) -> Tensor | None:
        """Learned position embeddings (1, E+N, D) for an (h, w) grid, None in a purely rotary model.

        (1, N, D) where the model gives its prefix tokens no position. Grids are compared, not token counts: 4 by 64
        patches are as many as 16 by 16, but lie elsewhere.
        """
        table, built = self.vit.pos_embed, self.vit.patch_embed.grid_size
        if table is None or (not is_traced() and grid == built):
            return table
        return resize_position_table(table, built, grid, self.position_mode)

    def _rotations(self, grid: tuple[int, int]) -> Sequence[Tensor] | None:
        rope = getattr(self.vit, "rope", None)
        if rope is None:
            return None
        angles = rope.get_embed(shape=grid)
        return angles if self.vit.rope_mixed else [angles] * self.depth


def _build_vit(model_name: str, image_size: int | Sequence[int], **keywords: Any) -> Any:
    if not timm.is_model(model_name):
        raise ValueError(f"backbone.model_name={model_name} is unknown to timm; timm.list_models('vit*') lists names")
    sides = [image_size, image_size] if isinstance(image_size, int | float | str) else list(image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(
            f"backbone.image_size={image_size} (dataset.crop, unless set) must be one or two whole numbers of pixels"
        )
    height, width = sides
    keywords |= {"num_classes": 0, "img_size": (height, width), "dynamic_img_size": True}
    try:  # no weights here, whatever the keywords say: they come through load_weights alone
        vit: Any = timm.create_model(model_name, pretrained=False, checkpoint_path="", **keywords)
    except (AssertionError, TypeError, RuntimeError) as error:  # a setting or a tag that timm does not know
        raise ValueError(f"backbone.model_name={model_name} cannot be built as a plain ViT: {error}") from error
    plain = isinstance(vit, (VisionTransformer, Eva)) and isinstance(vit.patch_embed, PatchEmbed)
    if not plain:
        raise ValueError(f"backbone.model_name={model_name} is no plain ViT (one patch embedding, one grid of tokens)")
    vit.attn_pool = None  # part of the classification head
    side = vit.patch_embed.patch_size[0]
    if min(height, width) < side:
        raise ValueError(
            f"backbone.image_size={image_size} (dataset.crop, unless set) is smaller than a patch of {side} pixels: "
            f"set dataset.crop to {side} or more, or a smaller backbone.patch_size"
        )
    if height % side or width % side:  # the grid that pictures of this size have once they are padded
        vit.set_input_size(img_size=(-(-height // side) * side, -(-width // side) * side))
    return vit


def _set_eps(modules: nn.Module, eps: float | None) -> None:
    if eps is not None:
        for module in modules.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = eps
