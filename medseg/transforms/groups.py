"""Image groups, such as sensors, that are taken away for a training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.spectral import check_drop, drop, without
from medseg.transforms.transform import Params, PatchSpec, Transform


@dataclass(frozen=True)
class GroupDrop(Transform):
    """Take image groups away, as if the case lacked their files: ``present`` becomes False and the image 0.

    A channel that a formula computes from several groups goes with each of them. Groups that are absent already stay
    so, and at least one that is present stays. Of a time series a group goes on every date.

    Attributes:
        p: Probability, per sample; the number of groups is then uniform in [1, largest].
        most: Largest number of groups to drop; below 1 as a share of those present (rounded, at least one).
        groups: Image groups of each channel; ``bind`` sets them.
    """

    sees_dates: ClassVar[bool] = True

    p: float = 0.0
    most: float = 1
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_drop("transform.group_drop", self.p, self.most, "groups")

    def bind(self, spec: PatchSpec) -> GroupDrop:
        """Learn the groups.

        Raises:
            InputError: Images have fewer than two.
        """
        if self.p and len({group for own in spec.groups for group in own}) < 2:
            raise InputError(
                f"transform.group_drop: got p={self.p} with images of fewer than two groups; name them by data.images, "
                "as in {s1: radar, s2: optical}, or switch it off by transform.group_drop.p=0"
            )
        return replace(self, groups=spec.groups)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``rank`` [g], in which groups go; ``share`` [] in (0, 1] of the largest number, 0 where not chosen."""
        on, share = rng.random() < self.p, 1 - rng.random()
        return {"rank": rng.permutation(len(self._names)), "share": np.asarray(share if on else 0.0)}

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The batch without the groups."""
        if not params["share"].any():
            return batch
        rank = torch.from_numpy(params["rank"]).to(batch.present.device)
        share = torch.from_numpy(params["share"]).to(rank.device, torch.float32)
        needs = self._needs.to(rank.device)
        of_case = batch.present.any(1) if batch.dates else batch.present
        there = (of_case[:, :, None] & needs).any(1)
        gone = there & ~drop(there, rank, share, self.most)
        stays = ~(gone[:, None] & needs).any(2)
        return without(batch, batch.present & (stays[:, None] if batch.dates else stays))

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(group for own in self.groups for group in own))

    @property
    def _needs(self) -> Bool[Tensor, "c g"]:
        """Which channel is read from which group."""
        return torch.tensor([[name in own for name in self._names] for own in self.groups], dtype=torch.bool)
