"""CutMix: a box of one sample, pasted from another of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.sample import Batch
from medseg.transforms.transform import Params, PatchSpec, Transform, check_range


@dataclass(frozen=True)
class CutMix(Transform):
    """Replace a box of a sample by the same box of another sample of the batch: image, label and validity.

    Labels are those of the cells, so nothing is blended, and the loss needs to know nothing. A channel is
    present, and a class annotated, only if both samples have it. Samples are taken from the input batch: a pasted
    box is not pasted again.

    This is the one transform whose result depends on the neighbours in the batch. Its parameters are
    still a function of the key alone, and the result one of the batch: a resumed run, which makes the
    same batches, makes the same mixtures. A batch of one is left as it is. Not for time series: two of them
    have been seen on different days, which a mixture could not tell.

    Attributes:
        p: Probability, per sample.
        low: Least share of the patch's cells that is replaced.
        high: Largest. The box has the patch's proportions, each edge the d-th root of the share, and lies
            uniformly inside the patch.

    References:
        Yun et al., CutMix, 2019 (there the share is uniform and boxes are cut at the border); French et
        al., Semi-supervised semantic segmentation needs strong, varied perturbations, 2020.
    """

    p: float = 0.0
    low: float = 0.1
    high: float = 0.5

    def __post_init__(self) -> None:
        check_range("transform.cutmix", self.p, self.low, self.high, least=0)
        check_range("transform.cutmix", self.high, 0, 0)

    def bind(self, spec: PatchSpec) -> CutMix:
        """The transform, for single images.

        Raises:
            InputError: Time series.
        """
        if self.p and spec.dates:
            raise InputError("transform.cutmix: the days of two series differ; switch it off by transform.cutmix=null")
        return self

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``share`` [] of the cells, 0 where not chosen; ``place`` [d] and ``partner`` [], both in [0, 1)."""
        on, share = rng.random() < self.p, rng.uniform(self.low, self.high)
        place, partner = rng.random(len(space)), rng.random()
        return {"share": np.asarray(share * on), "place": place, "partner": np.asarray(partner)}

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The mixed batch; the partner of sample i is i + 1 + floor(partner * (b - 1)), modulo b."""
        pastes = self.pastes(params, batch.valid.shape[1:])
        if not pastes:
            return batch
        image, label, valid = (pasted(t, pastes) for t in (batch.image, batch.label, batch.valid))
        present = batch.present.clone()
        annotated = None if batch.annotated is None else batch.annotated.clone()
        soft = None if batch.soft is None else pasted(batch.soft, pastes)
        for one in pastes:
            present[one.to] &= batch.present[one.source]
            if annotated is not None and batch.annotated is not None:
                annotated[one.to] &= batch.annotated[one.source]
        return replace(batch, image=image, label=label, valid=valid, present=present, annotated=annotated, soft=soft)

    def pastes(self, params: Params, space: Sequence[int]) -> list[Paste]:
        """What ``apply`` pastes in patches of these cells; nothing in a batch of one."""
        b = len(params["share"])
        return [
            Paste(
                to=int(i),
                source=int(i + 1 + np.floor(params["partner"][i] * (b - 1))) % b,
                box=pasted_box(space, float(params["share"][i]), params["place"][i]),
            )
            for i in np.flatnonzero(params["share"])
            if b > 1
        ]


@dataclass(frozen=True)
class Paste:
    """A box of sample ``to`` that gets the cells of sample ``source``."""

    to: int
    source: int
    box: Box


def pasted(values: Shaped[Tensor, "b *more"], pastes: Sequence[Paste]) -> Shaped[Tensor, "b *more"]:
    """A copy of an array whose last axes are those of space, with the boxes pasted from the original."""
    mixed = values.clone()
    for one in pastes:
        place: tuple[EllipsisType | slice, ...] = (..., *one.box.slices)
        mixed[one.to][place] = values[one.source][place]
    return mixed


def pasted_box(patch_shape: Sequence[int], share: float, place: Float[np.ndarray, " d"]) -> Box:
    """Box of about ``share`` of the cells, at least one, at a ``place`` between first (0) and last (1) possible.

    Example:
        >>> pasted_box((8, 12), 0.25, np.array([0.0, 0.99])).slices
        (slice(0, 4, None), slice(6, 12, None))
    """
    cells = np.asarray(patch_shape)
    edges = np.maximum(np.round(cells * share ** (1 / len(cells))), 1).astype(int)
    starts = np.floor(place * (cells - edges + 1)).astype(int)
    return Box.at(starts.tolist(), edges.tolist())
