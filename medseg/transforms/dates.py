"""DateDrop: dates of a time series that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.spectral import check_drop, drop, without
from medseg.transforms.transform import Params, PatchSpec, Transform


@dataclass(frozen=True)
class DateDrop(Transform):
    """Take dates away, as if the case lacked them: ``present`` becomes False, image and day 0.

    Dates that are missing already stay so, and at least one stays. For series whose length will differ, as
    clouds have it; the network cannot lean on a single date.

    Attributes:
        p: Probability, per sample; the number of dates is then uniform in [1, largest].
        most: Largest number of dates to drop; below 1 as a share of those present (rounded, at least one).
    """

    sees_dates: ClassVar[bool] = True

    p: float = 0.0
    most: float = 0.5

    def __post_init__(self) -> None:
        check_drop("transform.date_drop", self.p, self.most, "dates")

    def bind(self, spec: PatchSpec) -> DateDrop:
        """The transform, for time series.

        Raises:
            InputError: The data has no time axis.
        """
        if self.p and not spec.dates:
            raise InputError(
                "transform.date_drop: the data has no dates; switch it off by transform.date_drop=null, or say by "
                "data.dates how dates lie in files"
            )
        return self

    def draw(self, rngs: Sequence[np.random.Generator], shape: Sequence[int], dates: int = 0) -> Params:
        """Parameters of every sample."""
        return super().draw(rngs, (len(rngs), dates, *shape[3:]))

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``rank`` [t], in which dates go; ``share`` [] in (0, 1] of the largest number, 0 where not chosen."""
        on, share = rng.random() < self.p, 1 - rng.random()
        return {"rank": rng.permutation(channels), "share": np.asarray(share if on else 0.0)}

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The batch without the dates."""
        if batch.days is None or not params["share"].any():
            return batch
        rank = torch.from_numpy(params["rank"]).to(batch.present.device)
        share = torch.from_numpy(params["share"]).to(rank.device, torch.float32)
        present = drop(batch.present.any(2), rank, share, self.most)
        return replace(without(batch, batch.present & present[..., None]), days=batch.days * present)
