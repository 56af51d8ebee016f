"""Token merging: behind one of its blocks the encoder works on fewer tokens, as many as the grid's size says.

Of the published ways to fewer tokens on Segmenter, two need no weights of their own and can have a fixed budget: 2×2
windows of like tokens (the first stage of ALGM, Norouzi et al., CVPR 2024; with learned choices CTS, Lu et al., CVPR
2023), and bipartite matching over the whole picture (ToMe, Bolya et al., ICLR 2023; the second stage of ALGM). ALGM
reports 38.1 → 38.9 (T) to 51.8 → 52.7 (L) mIoU on ADE20K after training with both. This is the second alone: of a
CamVid model that never saw merging, half of the tokens behind block 4 leave 97.1 % of the pixels as they were, windows
95.6 %, and a last row or column without a neighbour is no special case. Every second token of every second row is a
target, so that there is one near every token (Bolya and Hoffman, "Token Merging for Fast Stable Diffusion", 2023).
Weighting attention by how many tokens a token stands for, as ToMe does, makes that 97.4 %. It is left out, because it
takes an attention mask, which costs a block 8 to 22 % in bfloat16 on a CPU and shuts out CUDA's flash kernel: a larger
`keep` is as good a use of the time.

Shapes: B batch, D width, h w grid of patches, N = h·w, E prefix tokens; T of the N tokens are targets, S = N - T are
sources, R of them are merged.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segmenter_pl.models.tracing import take

Restore = Callable[[Tensor], Tensor]
LEAST = 0.25  # of an even grid's tokens: its targets


@dataclass(frozen=True)
class TokenMerging:
    """Merges the sources that are most like a target (cosine) into it, and puts every token back at its place.

    A target becomes the mean of itself and of what is merged into it. Where a token is put back, it is what it was,
    plus what the blocks in between have added to the token that stood for it. Every size is a function of the grid, so
    graphs can be compiled and exported; sums over merged tokens are matrix products and no gradient is gathered twice
    from one place, so that a CUDA device gives the same bits each time.

    Args:
        keep: part of the tokens that is left, from 0.25 to 1; on a grid with an odd side slightly more.
        after: number of the block, from 1, behind which tokens are merged.
        prefix: E, tokens in front that stay as they are.
    """

    keep: float
    after: int
    prefix: int

    def __call__(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Restore]:
        """Merge tokens (B, E+N, D) on an (h, w) grid to (B, E+N-R, D).

        Returns: these, and the function that maps them, when blocks have changed them, to (B, E+N, D).
        """
        targets, order = _targets_first(grid, tokens.device)
        count = grid[0] * grid[1]
        sources = count - targets
        left = count - sources * round(4000 * (1 - self.keep)) // 3000  # N - R; whole numbers, for traced sizes
        with _full_precision(tokens.device):
            prefix, x = tokens.split([self.prefix, count], dim=1)
            x = x.index_select(1, order)  # (B, N, D), targets first
            target, source = x.split([targets, sources], dim=1)  # (B, T, D), (B, S, D)
            rank, nearest = _match(target.detach(), source.detach())  # (B, S) each
            joins = (targets + rank >= left)[..., None]  # (B, S, 1)
            numbers = torch.arange(targets, device=x.device)
            shares = ((nearest[..., None] == numbers) & joins).to(x.dtype)  # (B, S, T), 1 where a source joins a target
            means = (target + shares.mT @ source) / (1 + shares.sum(1)[..., None])  # (B, T, D)
            seats = torch.cat([numbers.expand(x.shape[0], -1), targets + rank], dim=1)  # (B, N)
            fewer = _look_up(torch.cat([means, source], dim=1), take(seats.argsort(1), 1, left))  # (B, N-R, D)

        def restore(merged: Tensor) -> Tensor:
            with _full_precision(merged.device):
                front, changed = merged.split([self.prefix, left], dim=1)
                change = changed - fewer  # (B, N-R, D)
                own = _look_up(change, seats.clamp(max=left - 1))  # (B, N, D), of merged sources anything
                to_targets, to_sources = own.split([targets, sources], dim=1)
                to_sources = torch.where(joins, shares @ to_targets, to_sources)  # (B, S, D)
                back = x + torch.cat([to_targets, to_sources], dim=1)  # (B, N, D)
                return torch.cat([front, back.index_select(1, order.argsort())], dim=1)  # (B, E+N, D)

        return torch.cat([prefix, fewer], dim=1), restore


def as_it_is(tokens: Tensor) -> Tensor:
    """What restores tokens that were not merged."""
    return tokens


def make_merging(settings: Mapping[str, Any] | None, *, blocks: int, vit: Any) -> TokenMerging | None:
    """Make `backbone.token_merging` out of its settings; None where all tokens are kept.

    Args:
        settings: `keep` and `after`, as in `TokenMerging`; without `after`, the first third of the blocks is left
            alone. blocks: how many run. vit: timm's model.

    Raises:
        ValueError: a setting is unknown or out of range, or the model rotates positions inside its blocks.
    """
    name = "backbone.token_merging"
    if settings is None:
        return None
    if not isinstance(settings, Mapping) or not set(settings) <= {"keep", "after"}:
        raise ValueError(f"{name}={settings}: give keep and after, such as {name}.keep=0.7, or null")
    keep, after = settings.get("keep", 1.0), settings.get("after")
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not LEAST <= keep <= 1:
        raise ValueError(f"{name}.keep={keep}: give the part of the tokens that is left, {LEAST} to 1 (1: no merging)")
    if keep == 1:
        return None
    if getattr(vit, "rope", None) is not None:
        raise ValueError(
            f"{name}.keep={keep}: this backbone rotates positions inside its blocks, and a merged token has no single "
            f"one. Give {name}.keep=1, or a backbone with a table of positions (vit_*, deit_*, dinov2_*)"
        )
    after = max(1, blocks // 3) if after is None else after
    if type(after) is not int or not 1 <= after < blocks:
        raise ValueError(f"{name}.after={after}: give the number of a block, from 1 to {blocks - 1}, or null")
    return TokenMerging(float(keep), after, vit.num_prefix_tokens)


def _targets_first(grid: tuple[int, int], device: torch.device) -> tuple[int, Tensor]:
    """T, and the places (N,) of targets and then of sources, both row by row."""
    height, width = grid
    odd_row, odd_column = (torch.arange(side, device=device) % 2 for side in grid)
    is_source = (odd_row[:, None] | odd_column).flatten()  # (N,), 0 or 1
    count = height * width
    order = (torch.arange(count, device=device) + count * is_source).argsort()  # no ties: runtimes break them otherwise
    return ((height + 1) // 2) * ((width + 1) // 2), order


def _match(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """For each source (B, S): its rank, from the one that is least like any target; and the target most like it."""
    similarity = F.normalize(source.float(), dim=-1) @ F.normalize(target.float(), dim=-1).mT  # (B, S, T)
    best, nearest = similarity.max(-1)
    return best.argsort(1).argsort(1), nearest


def _look_up(x: Tensor, places: Tensor) -> Tensor:
    """Entries (B, M, D) of x (B, N, D) at places (B, M)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Under bfloat16 many similarities are equal, and copies would be rounded."""
    # Not entered without need: exporters would put it into the graph.
    active = device.type != "meta" and torch.is_autocast_enabled(device.type)  # meta refuses the question
    return torch.autocast(device.type, enabled=False) if active else nullcontext()
