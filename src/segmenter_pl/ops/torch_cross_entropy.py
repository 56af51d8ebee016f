"""Summed cross-entropy of upsampled logits in plain torch, some blocks of pixels at a time, with its gradient.

Legend: B batch, K classes, H W pixels, h w coarse cells, s stride. A block is the s × s pixels between the centres of
four neighbouring cells, its corners; V × S = (h + 1) × (w + 1) blocks cover an image and a border of half a cell. A
tile is m neighbouring blocks of a row, n = m·s·s pixels.

Along a row of a block, bilinear logits change by the same amount from pixel to pixel, so their exponentials are a
geometric series: exponentials of the first pixel and of the steps of 1, 2, 4, … pixels make all others by products. The
pixels of a block are ordered (column, row), so that a product runs over rows and classes at once. Softmax, loss and
gradient of a tile are made while it lies in the cache, and its gradient goes straight back to the corners.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers in a tile (n·K). CPU: within 8 % of the fastest of 2^18, …, 2^22 at K = 19, 59, 150. A GPU wants fewer.
TILE_CPU, TILE_GPU = 2**20, 2**24

# How far the logits of a cell may spread (to base 2) for a series: no power, ratio or sum of them leaves the type.
SERIES_SPREAD = {torch.float32: 90, torch.float64: 900}


@dataclass(frozen=True)
class Weighting:
    """Which pixels count, and how much, as in `F.cross_entropy`.

    Attributes:
        ignore_index: label of pixels that do not count.
        classes: weight of a pixel of each class, (K,); None: 1.
        smoothing: part of a pixel's weight that is taken from its label, 0…1.
        spread: what each class gets of every pixel that counts, whatever its label, (K,); None: nothing.
    """

    ignore_index: int
    classes: Tensor | None
    smoothing: float
    spread: Tensor | None


def validity(target: Tensor, ignore_index: int) -> Tensor:
    """Which pixels count: bool, shaped like `target`."""
    limits = torch.iinfo(target.dtype)
    if limits.min <= ignore_index <= limits.max:
        return target != ignore_index
    return torch.ones_like(target, dtype=torch.bool)  # a comparison would wrap: -100 is 156 for uint8


def summed_cross_entropy(
    logits: Tensor, target: Tensor, weighting: Weighting, stride: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Sum over the pixels of mass · log2(Σ 2^x) - share · x[label], with x the upsampled logits.

    `share` is what a pixel gives to its label and `mass` what it gives to all classes, the same without smoothing.

    Args:
        logits: coarse logits to base 2, the largest of each cell 0, (B, h, w, K).
        target: (B, H, W), covered by the cells.

    Returns: the sum, and its gradient for natural logits (B, h, w, K), or no elements where it is not asked for.
    """
    room = _Room(logits, stride)
    gradient = torch.empty_like(logits) if with_gradient else logits.new_empty(0)
    losses = [logits.new_zeros(())]
    for image, (cells, labels) in enumerate(zip(logits, target, strict=True)):
        pixels = _Pixels.of(labels, weighting, room, cells)
        at_corners = cells.new_zeros(*pixels.used.shape, 4, cells.shape[-1]) if with_gradient else None  # (V, S, 4, K)
        losses += _losses(cells, pixels, room, at_corners)
        if at_corners is not None:
            gradient[image] = gathered(at_corners)
    return torch.stack(losses).sum(), gradient


def gathered(at_corners: Tensor) -> Tensor:
    """Sums at the corners of all blocks (…, V, S, 4, K) as sums at the cells (…, h, w, K)."""
    rows, columns, _, classes = at_corners.shape[-4:]
    total = at_corners.new_zeros(*at_corners.shape[:-4], rows + 1, columns + 1, classes)
    for corner, (y, x) in enumerate(product((0, 1), (0, 1))):
        total[..., y : y + rows, x : x + columns, :] += at_corners[..., corner, :]
    # Beyond the border lie copies of the outermost cells.
    total[..., 1, :, :] += total[..., 0, :, :]
    total[..., -2, :, :] += total[..., -1, :, :]
    total[..., 1, :] += total[..., 0, :]
    total[..., -2, :] += total[..., -1, :]
    return total[..., 1:-1, 1:-1, :]


class _Room:
    """What is the same for all tiles, and memory for one: touching fresh memory costs more than computing in it."""

    def __init__(self, logits: Tensor, stride: int) -> None:
        columns, classes = logits.shape[2] + 1, logits.shape[3]  # S, K
        most = max(1, (TILE_CPU if logits.device.type == "cpu" else TILE_GPU) // (stride * stride * classes))
        self.stride = stride
        self.blocks = -(-columns // -(-columns // most))  # m: a row of blocks is cut into equal tiles
        self.first = 0.0 if stride % 2 else 0.5 / stride  # where the first pixel lies
        pixels = torch.arange(stride, dtype=logits.dtype, device=logits.device)
        self.between = pixels / stride + self.first  # (s,) 0…1, where pixels lie between two cells
        shares = torch.stack([1 - self.between, self.between])  # (2, s)
        self.weights = torch.einsum("yj,xi->yxij", shares, shares).reshape(4, -1)  # (4, s·s) of the corners
        self.jumps = [2**i for i in range((stride - 1).bit_length())]  # 1, 2, 4, … pixels, below s
        self.parts = logits.new_tensor(self.jumps).div_(stride).view(-1, 1, 1, 1)  # of the way between two cells
        self.tile = logits.new_empty(self.blocks, stride, stride, classes)
        self.lines = logits.new_empty(self.blocks + 1, stride, classes)
        self.step = logits.new_empty(self.blocks, stride, classes)
        self.ratios = logits.new_empty(len(self.jumps), self.blocks, stride, classes)


@dataclass(frozen=True)
class _Pixels:
    """An image by blocks: label, share, mass (None: as share) (V, S, s·s); used (V, S): does any pixel of it count?"""

    label: Tensor
    share: Tensor
    mass: Tensor | None
    used: Tensor

    @classmethod
    def of(cls, target: Tensor, weighting: Weighting, room: _Room, cells: Tensor) -> "_Pixels":
        """Of labels (H, W) over coarse cells (h, w, K)."""
        s, before = room.stride, (room.stride + 1) // 2  # pixels of the first block that lie beyond the border
        rows, columns = cells.shape[0] + 1, cells.shape[1] + 1  # V, S
        bottom, right = (n * s - before - side for n, side in zip((rows, columns), target.shape, strict=True))

        def by_blocks(x: Tensor) -> Tensor:
            padded = F.pad(x, (before, right, before, bottom))  # (V·s, S·s)
            return padded.view(rows, s, columns, s).permute(0, 2, 3, 1).flatten(2)  # (V, S, s·s)

        valid = validity(target, weighting.ignore_index)
        label, valid = by_blocks(torch.where(valid, target, 0)).long(), by_blocks(valid)
        share, mass = valid.to(cells.dtype), None
        if weighting.classes is not None:
            share *= weighting.classes[label]
        if weighting.spread is not None:
            share *= 1 - weighting.smoothing
            mass = share + valid * weighting.spread.sum()
        return cls(label, share, mass, valid.any(2))


def _losses(cells: Tensor, pixels: _Pixels, room: _Room, at_corners: Tensor | None) -> list[Tensor]:
    """Losses of the tiles of an image with coarse logits (h, w, K); fills the gradient at the corners of all blocks."""
    h, w, classes = cells.shape
    on_cpu = cells.device.type == "cpu"  # a GPU is not waited for
    softmax = _series if on_cpu and bool(cells.amin() > -SERIES_SPREAD[cells.dtype]) else _directly
    used = pixels.used.tolist() if on_cpu else [[True] * (w + 1)] * (h + 1)
    padded = torch.cat([cells[:, :1], cells, cells[:, -1:]], 1)  # (h, w + 2, K)
    losses = []
    for row, start in product(range(h + 1), range(0, w + 1, room.blocks)):
        stop = min(start + room.blocks, w + 1)
        if not any(used[row][start:stop]):
            continue
        above, below = (padded[min(max(y, 0), h - 1), start : stop + 1, None] for y in (row - 1, row))
        lines = torch.lerp(above, below, room.between[:, None], out=room.lines[: stop - start + 1])  # (m + 1, s, K)
        label, share = pixels.label[row, start:stop].view(-1, 1), pixels.share[row, start:stop].view(-1, 1)  # (n, 1)
        powers, partition, gap, level = softmax(lines, label, room)
        losses.append((share * gap).sum())
        mass, away = share, partition  # `away` is what the label's power has less: share · partition / mass
        if pixels.mass is not None:
            mass = pixels.mass[row, start:stop].view(-1, 1)
            losses.append(((mass - share) * (partition.log2() + level)).sum())
            away = partition * (share / mass).nan_to_num_()
        if at_corners is not None:
            powers.scatter_add_(1, label, -away)
            scale = (mass / partition).view(stop - start, 1, -1)  # (m, 1, s·s)
            torch.bmm(room.weights * scale, powers.view(stop - start, -1, classes), out=at_corners[row, start:stop])
    return losses


def _series(lines: Tensor, label: Tensor, room: _Room) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """Of the pixels between logits x on lines (m + 1, s, K) down the columns of cells, by products of exponentials.

    Returns: 2^x (n, K); and (n, 1) each: partition = Σ 2^x, log2(partition) - x[label], 0.
    """
    m, s = len(lines) - 1, room.stride
    tile = room.tile[:m]  # (m, s, s, K)
    step = torch.sub(lines[1:], lines[:-1], out=room.step[:m])  # (m, s, K)
    torch.add(lines[:-1], step, alpha=room.first, out=tile[:, 0]).exp2_()
    ratios = torch.mul(step, room.parts, out=room.ratios[:, :m]).exp2_()  # (i, m, s, K)
    for done, ratio in zip(room.jumps, ratios.unsqueeze(2).unbind(), strict=True):
        more = min(done, s - done)
        torch.mul(tile[:, :more], ratio, out=tile[:, done : done + more])
    powers = tile.view(-1, tile.shape[-1])
    partition = powers.sum(1, keepdim=True)
    return powers, partition, (partition / powers.gather(1, label)).log2_(), 0.0


def _directly(lines: Tensor, label: Tensor, room: _Room) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """As `_series`, by one exponential for each number, for logits of any size; 2^x is less a factor 2^(the last)."""
    tile = room.tile[: len(lines) - 1]
    torch.lerp(lines[:-1, None], lines[1:, None], room.between[:, None, None], out=tile)  # (m, s, s, K)
    powers = tile.view(-1, tile.shape[-1])
    largest = powers.amax(1, keepdim=True)
    score = powers.sub_(largest).gather(1, label)
    partition = powers.exp2_().sum(1, keepdim=True)
    return powers, partition, partition.log2() - score, largest
