"""ClassChannel: the last channel of patches where it holds class numbers, such as the prediction of a first stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medseg.sample import Batch


@dataclass(frozen=True)
class ClassChannel:
    """How patches with a last channel of class numbers are split and joined.

    Attributes:
        count: Number of classes, n; the channel holds 0 to n.
    """

    count: int

    def indicated(self, batch: Batch) -> Batch:
        """The batch with an indicator of each class instead of the numbers, so that it can be interpolated."""
        classes = torch.arange(1, self.count + 1, device=batch.image.device).view(-1, *[1] * (batch.valid.ndim - 1))
        indicators = (batch.image[:, -1:] == classes).to(batch.image.dtype)
        present = torch.cat([batch.present[:, :-1], batch.present[:, -1:].expand(-1, self.count)], dim=1)
        return replace(batch, image=torch.cat([batch.image[:, :-1], indicators], dim=1), present=present)

    def split(self, batch: Batch) -> tuple[Batch, Int[Tensor, "b *s"]]:
        """The batch without indicators, and the class numbers: of interpolated indicators, those of the largest share.

        Of equal shares a class counts rather than none, and the later one of two.
        """
        shares = batch.image[:, -self.count :]
        numbers = numbers_of(shares)
        quantities = replace(
            batch, image=batch.image[:, : -self.count].contiguous(), present=batch.present[:, : -self.count]
        )
        return quantities, numbers

    @staticmethod
    def joined(batch: Batch, numbers: Int[Tensor, "b *s"]) -> Batch:
        """The batch with the class numbers as its last channel; 0 where cells are not valid."""
        last = torch.where(batch.valid, numbers, 0)[:, None].to(batch.image.dtype)
        present = torch.cat([batch.present, torch.ones_like(batch.present[:, :1])], dim=1)
        return replace(batch, image=torch.cat([batch.image, last], dim=1), present=present)


def numbers_of(shares: Float[Tensor, "b n *s"]) -> Int[Tensor, "b *s"]:
    """Number of the class with the largest share, 0 where all together leave a larger one to none.

    Example:
        >>> numbers_of(torch.tensor([[[0.2, 0.5, 0.4], [0.2, 0.0, 0.4]]])).tolist()
        [[0, 1, 2]]
    """
    count = shares.shape[1]
    largest, from_the_end = shares.flip(1).max(dim=1)
    return torch.where(largest >= 1 - shares.sum(dim=1), count - from_the_end, 0)
