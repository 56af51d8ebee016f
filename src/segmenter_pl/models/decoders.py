"""Decoders: patch tokens to patch logits.

Shapes: B batch, K classes, D width, h w grid of patches, N = h·w.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models.attention import choose_attention
from segmenter_pl.models.depth import use_stochastic_depth
from segmenter_pl.models.dropped_attention import DroppingBlock


def require_tokens(width: object) -> int:
    """The width D of an encoder that puts out tokens. Raises ValueError for one that puts out maps of several sizes."""
    if not isinstance(width, int):
        raise ValueError(
            "this decoder needs tokens of a plain ViT: choose decoder=deeplabv3plus or upernet, or another backbone"
        )
    return width


class LinearDecoder(nn.Module):
    """One linear map per patch (Segmenter, section 3.2, baseline)."""

    scale = 1  # cells of the logits per patch, along each side

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.head = nn.Linear(require_tokens(width), num_classes)
        _init_linear(self.head)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) on an (h, w) grid to logits (B, K, h, w)."""
        return _to_map(self.head(tokens), grid)


class MaskDecoder(nn.Module):
    """Mask transformer (Segmenter, section 3.2): one learned embedding per class, whose product with the patches is
    the class's mask. As in the authors' code, patches and class embeddings attend jointly, both are projected and
    L2-normalised, and the scores are normalised over the classes at patch resolution.

    Args:
        width: D. num_classes: K. depth: number of blocks.
        num_heads: attention heads; None is one per 64 channels.
        dropout: rate of attention, projection and MLP dropout. drop_path_rate: stochastic depth of the last block.
        mask_norm: "layer" is the paper's LayerNorm over the K scores of a patch. Over two scores it yields ±1
            whatever they are and lets hardly any gradient through, so "scale" multiplies the cosines by a learned
            number instead; "auto" takes "scale" for two classes, "layer" for any other number.
        block_norm_eps, norm_eps: LayerNorm epsilon in the blocks; of the decoder's and of the mask norm.

    Raises:
        ValueError: ``mask_norm`` is unknown, or ``num_heads`` does not divide ``width``.
    """

    scale = 1

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        depth: int = 2,
        num_heads: int | None = None,
        dropout: float = 0.1,
        drop_path_rate: float = 0.0,
        mask_norm: str = "auto",
        block_norm_eps: float = 1e-5,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if mask_norm not in ("auto", "layer", "scale"):
            raise ValueError(f"decoder.mask_norm={mask_norm}: choose auto, layer or scale")
        num_heads = num_heads or max(1, require_tokens(width) // 64)
        if width % num_heads:
            raise ValueError(f"decoder.num_heads={num_heads} does not divide the encoder's width {width}")
        self.num_classes = num_classes
        self.proj_dec = nn.Linear(width, width)
        self.cls_emb = nn.Parameter(torch.empty(1, num_classes, width))
        self.blocks = nn.ModuleList(
            DroppingBlock(
                width,
                num_heads,
                qkv_bias=True,
                attn_drop=dropout,
                proj_drop=dropout,
                drop_path=rate,
                norm_layer=partial(nn.LayerNorm, eps=block_norm_eps),  # type: ignore[arg-type] # timm asks for a class
            )
            for rate in torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        )
        use_stochastic_depth(self.blocks)
        self.decoder_norm = nn.LayerNorm(width, eps=norm_eps)
        # Multiplied from the right, unlike nn.Linear: the layout of the authors' checkpoints.
        self.proj_patch = nn.Parameter(torch.empty(width, width))
        self.proj_classes = nn.Parameter(torch.empty(width, width))
        use_scale = mask_norm == "scale" or (mask_norm == "auto" and num_classes == 2)
        self.mask_norm = LogitScale() if use_scale else nn.LayerNorm(num_classes, eps=norm_eps)
        self.apply(_init_linear)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)
        nn.init.normal_(self.proj_patch, std=width**-0.5)
        nn.init.normal_(self.proj_classes, std=width**-0.5)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, D) on an (h, w) grid to logits (B, K, h, w)."""
        # cls_emb[0], not cls_emb: of a single picture its gradient would have foreign strides, of which DDP complains.
        x = torch.cat([self.proj_dec(tokens), self.cls_emb[0].expand(tokens.shape[0], -1, -1)], dim=1)  # (B, N+K, D)
        choose_attention(self.blocks, x)
        for block in self.blocks:
            x = block(x)
        patches, classes = self.decoder_norm(x).split([tokens.shape[1], self.num_classes], dim=1)
        patches = F.normalize(patches @ self.proj_patch, dim=-1)  # (B, N, D)
        classes = F.normalize(classes @ self.proj_classes, dim=-1)  # (B, K, D)
        return _to_map(self.mask_norm(patches @ classes.transpose(1, 2)), grid)


class LogitScale(nn.Module):
    """Multiply cosines by a learned positive number.

    Stored as a logarithm, so that steps are relative and the sign cannot flip. It starts at 10: a softmax over two
    cosines then spans 2e-9 to 1 but is not saturated at the small differences of a fresh model, and logits have the
    size the LayerNorm gives them at K = 100 (at most sqrt(K - 1)).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, scores: Tensor) -> Tensor:
        """Scale scores of any shape."""
        return scores * self.log_scale.exp()


def _to_map(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    return scores.transpose(1, 2).unflatten(2, grid)  # (B, N, K) -> (B, K, h, w)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
