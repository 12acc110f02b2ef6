"""Linear interpolation at arbitrary positions: the cells around each, and their weights, found once.

``grid_sample`` finds them again for each call, does not vectorise over volumes, and takes floats only, so
that a label needs one volume a class. For 40 x 56 x 40 cells from a window of 60 x 84 x 60 with three
classes it took 12 ms of one core, grid included, this 4 ms; volumes are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from medseg.labels import IGNORE

WHOLLY = 0.999
"""Share of valid cells in an interpolated cell from which it counts as wholly valid; the rest is rounding."""
_BEFORE, _AFTER = 1, 2  # cells around the window, so that no position within a cell of it needs a check


@dataclass(frozen=True)
class Corners:
    """The ``2^d`` cells around each of p positions in a window of cells.

    Attributes:
        lowest: Index of the lowest corner in the flattened, enlarged window.
        offsets: From the lowest to each corner, last axis fastest.
        weight: Share of each corner, in the same order; they sum to 1.
    """

    lowest: Int[Tensor, " p"]
    offsets: tuple[int, ...]
    weight: tuple[Tensor, ...]

    @classmethod
    def around(cls, grid: Float[Tensor, "*s d"], window_shape: Sequence[int]) -> Corners:
        """Corners of the positions of ``grid``, which ``warp.sampling_grid`` explains."""
        enlarged = [_BEFORE + size + _AFTER for size in window_shape]
        strides = [math.prod(enlarged[axis + 1 :]) for axis in range(len(enlarged))]
        lowest = torch.zeros(grid.shape[:-1], dtype=torch.int32, device=grid.device)
        shares = []
        for size, stride, coordinate in zip(window_shape, strides, reversed(grid.unbind(-1)), strict=True):
            place = (coordinate + 1).mul_(size).sub_(1).div_(2).clamp_(-_BEFORE, size)
            lower = place.floor()
            lowest += lower.int().add_(_BEFORE).mul_(stride)
            shares.append(((lower + 1).sub_(place).flatten(), place.sub_(lower).flatten()))
        weight: tuple[Tensor, ...] = shares[-1]
        for pair in reversed(shares[:-1]):  # last axis first, the order in which grid_sample multiplies
            weight = tuple(w * share for share in pair for w in weight)
        offsets = tuple(sum(used) for used in product(*[(0, stride) for stride in strides]))
        return cls(lowest.flatten().long(), offsets, weight)

    def gather(self, cells: Num[Tensor, " *w"], fill: int) -> list[Tensor]:
        """Value of ``cells`` at each corner, ``fill`` outside the window: ``2^d`` times ``[p]``."""
        flat = F.pad(cells, (_BEFORE, _AFTER) * cells.ndim, value=fill).flatten()
        return [flat[offset:].index_select(0, self.lowest) for offset in self.offsets]

    def blend(self, image: Float[Tensor, "c *w"]) -> Float[Tensor, "c p"]:
        """Linear interpolation of each channel in float32; outside the window is 0."""
        total = image.new_zeros((len(image), len(self.lowest)), dtype=torch.float32)
        for row, channel in zip(total, image.float(), strict=True):
            for value, weight in zip(self.gather(channel, 0), self.weight, strict=True):
                row += value.mul_(weight)
        return total

    def vote(
        self, label: Int[Tensor, " *w"], valid: Bool[Tensor, " *w"]
    ) -> tuple[Int[Tensor, " p"], Bool[Tensor, " p"]]:
        """Class of the largest share, and whether all corners are valid, as ``warp.warp`` explains.

        Most positions lie between cells that agree; shares are only summed for the others.
        """
        both = self.gather(label.int().mul(2).add_(valid), 2 * IGNORE)
        first = both[0]
        differs = both[1] ^ first
        for corner in both[2:]:
            differs |= corner ^ first
        rows = differs.nonzero().flatten()
        near = torch.stack([corner.index_select(0, rows) for corner in both])
        share = torch.stack([weight.index_select(0, rows) for weight in self.weight])
        decided = 2 * _largest(near >> 1, share) + (((near & 1) * share).sum(0) > WHOLLY)
        voted = first.index_copy(0, rows, decided)
        return (voted >> 1).to(label), (voted & 1).bool()


def _largest(label: Int[Tensor, "m p"], share: Float[Tensor, "m p"]) -> Int[Tensor, " p"]:
    counts = torch.bincount((label - IGNORE).flatten())
    value_of = label.to(share)
    best, total = torch.zeros_like(share[0]), torch.zeros_like(share[0])
    winner = torch.full_like(label[0], IGNORE)
    for value in (counts[1:].nonzero().flatten() + IGNORE + 1).to(label):
        mine = value_of.clone().eq_(value).mul_(share).sum(0)  # a product: torch.where takes ten times as long
        winner = torch.where(mine > best, value, winner)
        best = torch.maximum(best, mine)
        total += mine
    return torch.where(1 - total > best, IGNORE, winner)
