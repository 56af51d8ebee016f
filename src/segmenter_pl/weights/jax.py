"""The .npz files of the original JAX release: ViT (Dosovitskiy et al., 2021) and AugReg (Steiner et al., 2021)."""

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK = "Transformer/encoderblock_"
ATTENTION = "MultiHeadDotProductAttention_1"
# Ours → theirs, and what their kernel is called.
NORMS = {"norm1": "LayerNorm_0", "norm2": "LayerNorm_2"}
LINEAR = {"mlp.fc1": "MlpBlock_3/Dense_0", "mlp.fc2": "MlpBlock_3/Dense_1"}


def from_jax(arrays: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """An encoder's tensors by timm's names, float32, and the names that belong to none.

    The classification head (`head`, `pre_logits`) is left out. Raises: KeyError for a missing array.
    """
    left = {name: value.float() for name, value in arrays.items() if not name.startswith(("head/", "pre_logits/"))}
    take = left.pop
    state = {
        "cls_token": take("cls"),
        "pos_embed": take("Transformer/posembed_input/pos_embedding"),
        "patch_embed.proj.weight": take("embedding/kernel").permute(3, 2, 0, 1),  # (P, P, 3, D) -> (D, 3, P, P)
        "patch_embed.proj.bias": take("embedding/bias"),
        "norm.weight": take("Transformer/encoder_norm/scale"),
        "norm.bias": take("Transformer/encoder_norm/bias"),
    }
    depth = len({name.split("/")[1] for name in left if name.startswith(BLOCK)})
    for i in range(depth):
        theirs, ours = f"{BLOCK}{i}", f"blocks.{i}"
        parts = [f"{theirs}/{ATTENTION}/{part}" for part in ("query", "key", "value")]
        state[f"{ours}.attn.qkv.weight"] = torch.cat([take(f"{p}/kernel").flatten(1).T for p in parts])  # (3·D, D)
        state[f"{ours}.attn.qkv.bias"] = torch.cat([take(f"{p}/bias").flatten() for p in parts])
        state[f"{ours}.attn.proj.weight"] = take(f"{theirs}/{ATTENTION}/out/kernel").flatten(0, 1).T  # (D, D)
        state[f"{ours}.attn.proj.bias"] = take(f"{theirs}/{ATTENTION}/out/bias")
        for name, norm in NORMS.items():
            state[f"{ours}.{name}.weight"] = take(f"{theirs}/{norm}/scale")
            state[f"{ours}.{name}.bias"] = take(f"{theirs}/{norm}/bias")
        for name, dense in LINEAR.items():
            state[f"{ours}.{name}.weight"] = take(f"{theirs}/{dense}/kernel").T
            state[f"{ours}.{name}.bias"] = take(f"{theirs}/{dense}/bias")
    return state, list(left)
