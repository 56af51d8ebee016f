"""The published model stated again as the other implementations run it: what the benchmarks compare with.

Explicit attention with all N×N weights, logits upsampled to full size, nothing fused. Parameters are taken over from a
model of the project, so that both compute the same function.

Shapes: B batch, K classes, D width, P patch side, h w grid of patches, N = h·w.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmenter_pl.models import Segmenter


class Block(nn.Module):
    """A transformer block of pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.drop, self.rate = nn.Dropout(dropout), drop_path

    def path(self, x: Tensor) -> Tensor:
        """Stochastic depth: the branch of a whole picture left out, or made up for."""
        if not self.training or not self.rate:
            return x
        kept = (torch.rand(len(x), 1, 1, device=x.device) < 1 - self.rate).to(x.dtype)
        return x * kept / (1 - self.rate)

    def forward(self, x: Tensor) -> Tensor:
        count, length, _ = x.shape
        split = self.attn["qkv"](self.norm1(x)).reshape(count, length, 3, self.heads, self.width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (self.width // self.heads) ** -0.5
        mixed = (self.drop(scores.softmax(-1)) @ value).transpose(1, 2).reshape(count, length, self.width)
        x = x + self.path(self.drop(self.attn["proj"](mixed)))
        hidden = self.drop(F.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + self.path(self.drop(self.mlp["fc2"](hidden)))


class PlainSegmenter(nn.Module):
    """A ViT with a class token and a mask transformer; `stride` and `num_classes` as the project's models."""

    def __init__(self, ours: Segmenter) -> None:
        super().__init__()
        vit, decoder = ours.encoder.vit, ours.decoder
        self.stride, self.num_classes = ours.stride, ours.num_classes
        self.register_buffer("mean", ours.encoder.pixel_mean, persistent=False)
        self.register_buffer("std", ours.encoder.pixel_std, persistent=False)
        width = ours.encoder.width
        self.conv = nn.Conv2d(3, width, self.stride, self.stride)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros_like(vit.pos_embed))
        heads, depth = vit.blocks[0].attn.num_heads, len(vit.blocks)
        self.encoder = nn.ModuleList(Block(width, heads, 0.0, 0.1 * i / (depth - 1)) for i in range(depth))
        self.norm = nn.LayerNorm(width)
        self.proj_dec = nn.Linear(width, width)
        self.cls_emb = nn.Parameter(torch.zeros(1, self.num_classes, width))
        self.decoder = nn.ModuleList(Block(width, width // 64, 0.1, 0.0) for _ in decoder.blocks)
        self.decoder_norm, self.mask_norm = nn.LayerNorm(width), nn.LayerNorm(self.num_classes)
        self.proj_patch = nn.Parameter(torch.zeros(width, width))
        self.proj_classes = nn.Parameter(torch.zeros(width, width))
        self.load_state_dict(renamed(ours.state_dict()))
        for mine, theirs in ((self.encoder, vit.blocks), (self.decoder, decoder.blocks)):
            for block, source in zip(mine, theirs, strict=True):
                block.norm1.eps, block.norm2.eps = source.norm1.eps, source.norm2.eps
        self.norm.eps = vit.norm.eps

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, h·P, w·P), 0…255, of the size the position table is for, to logits (B, K, h, w)."""
        x = self.conv((images.float() - self.mean) / self.std)
        grid = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.encoder:
            x = block(x)
        x = torch.cat([self.proj_dec(self.norm(x)[:, 1:]), self.cls_emb.expand(len(x), -1, -1)], 1)
        for block in self.decoder:
            x = block(x)
        patches, classes = self.decoder_norm(x).split([x.shape[1] - self.num_classes, self.num_classes], 1)
        patches, classes = patches @ self.proj_patch, classes @ self.proj_classes
        patches = patches / patches.norm(dim=-1, keepdim=True)
        classes = classes / classes.norm(dim=-1, keepdim=True)
        masks = self.mask_norm(patches @ classes.transpose(1, 2))
        return masks.transpose(1, 2).unflatten(2, grid)

    def forward(self, images: Tensor) -> Tensor:
        """The same to logits (B, K, h·P, w·P)."""
        return F.interpolate(self.coarse_logits(images), size=images.shape[-2:], mode="bilinear")


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the project by the names above."""
    inside = {"encoder.vit.patch_embed.proj": "conv", "encoder.vit.blocks": "encoder", "decoder.blocks": "decoder"}
    inside |= {"encoder.vit.": "", "decoder.decoder_norm": "decoder_norm"}
    found = {}
    for name, value in state.items():
        old = next((old for old in inside if name.startswith(old)), None)
        found[name.removeprefix("decoder.") if old is None else inside[old] + name[len(old) :]] = value
    return found
