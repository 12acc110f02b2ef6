"""Predictors: an image on any grid -> a label image on the very same grid; arrays only, no files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.geometry.grid import Grid
from medseg.inference.case_logits import CaseLogits, Placement, finite_rows
from medseg.inference.case_network import at_case
from medseg.inference.dates import at_dates
from medseg.inference.postprocess import PostProcess
from medseg.inference.tiling import Tiling
from medseg.sample import DataSpec, Sample, evenly_spaced, in_slots


@runtime_checkable
class Preparation(Protocol):
    """Preprocessing that can be undone; ``medseg.data.preprocessing.preprocess.Preprocess`` is one."""

    def __call__(self, sample: Sample, *, in_place: bool = False) -> tuple[Sample, Any]:
        """The network's view of a sample, whose image may be overwritten, and where its cells lie: a ``Placement``."""
        ...


Prepare = TypeVar("Prepare", bound=Preparation)


class CasePredictor(ABC, Generic[Prepare]):
    """Whole cases to labels, by one network or by several.

    Files are for ``medseg.prediction.file_predictor.FilePredictor``, which holds one of these.

    Attributes:
        spec: Channels and labels of the training.
        postprocess: Applied to the classes of whole cases; None for none.
    """

    def __init__(self, spec: DataSpec, postprocess: PostProcess | None = None) -> None:
        self.spec = spec
        self.postprocess = postprocess

    @property
    @abstractmethod
    def members(self) -> Sequence[Predictor[Prepare]]:
        """The networks with their preprocessing."""

    @abstractmethod
    def logits(self, sample: Sample, *, in_place: bool = False) -> CaseLogits:
        """Logits of a case on its own cells; preprocessing is done when this returns, and the raw image not kept.

        Args:
            sample: The case.
            in_place: Overwrite its image, which nobody else needs.
        """

    def index(self, sample: Sample) -> Int[np.ndarray, " *s"]:
        """Training index of each cell of the sample's own grid; 0 where it is not valid."""
        return self.finished(self.logits(sample).index(), sample.valid, sample.grid)

    def index_and_prob(
        self, sample: Sample, temperature: float = 1.0
    ) -> tuple[Int[np.ndarray, " *s"], Float[np.ndarray, "k *s"]]:
        """What ``index`` gives, and the probability of each class, or of each region, from the same pass.

        Cells that preprocessing crops away are of the first class for certain, and of no region. Post-processing
        changes classes only. Takes 4 k bytes a cell. The temperature of a training is that of its ``FilePredictor``:
        scores and averages of networks are of probabilities without it.
        """
        index, prob = self.logits(sample).index_and_prob(temperature)
        return self.finished(index, sample.valid, sample.grid), prob

    def finished(
        self, index: Int[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"], grid: Grid
    ) -> Int[np.ndarray, " *s"]:
        """Classes of a whole case after post-processing; 0 where cells are not valid. ``index`` is overwritten."""
        index *= valid
        return index if self.postprocess is None else self.postprocess(index, grid, self.spec.labels, valid)

    def __call__(
        self,
        image: Shaped[np.ndarray, "..."],
        grid: Grid,
        days: Sequence[int] | None = None,
        *,
        absent: bool = False,
        facts: Mapping[str, object] | None = None,
    ) -> Shaped[np.ndarray, " *s"]:
        """Label array ``[*s]`` of saved values for an image ``[c, *s]`` (or ``[*s]``) of raw values.

        Cells that are not finite count as invalid and become background; in a time series ``[n, c, *s]`` those
        that no date knows.

        Args:
            image: Of a time series, any number of dates in their order; of more than the network has slots,
                evenly spaced ones are taken.
            grid: Of its cells.
            days: Of a time series, its dates in days since 1970-01-01; None numbers them, as training did where
                it knew no days.
            absent: Whether a channel that is NaN everywhere is absent, of a time series on its date, as the network has
                learned to do without.
            facts: Facts of the case by name, for a network that takes them; those that are left out are missing.

        Raises:
            InputError: The image does not fit its grid, or has other channels than the training had.
        """
        series = self.spec.dates > 0
        image = image[None] if image.ndim == grid.ndim + series else image
        if image.shape[1 + series :] != grid.shape:
            expected = "[dates, channels, *s]" if series else "[c, *s]"
            raise InputError(
                f"got an image of shape {image.shape} with a grid of shape {grid.shape}, expected {expected}"
            )
        if image.shape[series] != len(self.spec.channels):
            names = [c.name for c in self.spec.channels]
            raise InputError(
                f"got an image with {image.shape[series]} channels, the network takes {len(names)}: {names}"
            )
        if series:
            sample = self._series(image, grid, range(len(image)) if days is None else days, absent=absent)
        else:
            sample = _of_array(image, grid, absent=absent)
        if facts is not None:
            sample = replace(sample, facts=CaseFacts.of(facts, self.spec.facts))
        return self.spec.labels.to_saved(self.index(sample))

    def _series(self, image: Shaped[np.ndarray, "n c *s"], grid: Grid, days: Sequence[int], *, absent: bool) -> Sample:
        if len(days) != len(image):
            raise InputError(f"got {len(days)} days with a time series of {len(image)} dates; give each date its day")
        kept = evenly_spaced(len(image), self.spec.dates)
        image = image[kept]
        there: Bool[np.ndarray, "n c"] = np.ones(image.shape[:2], dtype=bool)
        if absent:
            there = ~np.isnan(image).reshape(*image.shape[:2], -1).all(axis=2)
        there |= ~there.any(axis=1, keepdims=True)  # of a date without any data no channel is said to be absent
        planes = there.reshape(*there.shape, *[1] * grid.ndim)
        known: Bool[np.ndarray, "n *s"] = np.logical_and.reduce(np.isfinite(image) | ~planes, axis=1)
        cells = np.where(known[:, None] & planes, image, np.nan).astype(np.float32)
        slots, slot_days, present = in_slots(cells, [days[i] for i in kept], self.spec.dates, there)
        valid: Bool[np.ndarray, " *s"] = np.logical_or.reduce(known)
        return Sample(slots, None, valid, grid, "array", "array", slot_days, present)


def _of_array(image: Shaped[np.ndarray, "c *s"], grid: Grid, *, absent: bool) -> Sample:
    """An image as a case; with ``absent`` without the channels that are NaN everywhere, unless all are."""
    there = ~np.isnan(image).reshape(len(image), -1).all(axis=1) if absent else np.ones(len(image), dtype=bool)
    there = there if there.any() else ~there
    finite: Bool[np.ndarray, " *s"] = np.isfinite(image[there]).all(axis=0)
    known = finite & there.reshape(-1, *[1] * grid.ndim)
    present = None if there.all() else there
    return Sample(np.where(known, image, 0).astype(np.float32), None, finite, grid, "array", "array", None, present)


class Predictor(CasePredictor[Prepare]):
    """Everything between an image and its labels: preprocessing, windows, network, decision, and the way back.

    Args:
        network: Trained network.
        prepare: Preprocessing of the training.
        tiling: Windows, flips and precision.
        spec: Channels and labels of the training.
        device: Where the network runs.
        postprocess: Applied to the classes of whole cases; None for none.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        prepare: Prepare,
        tiling: Tiling,
        spec: DataSpec,
        device: torch.device | str = "cpu",
        postprocess: PostProcess | None = None,
    ) -> None:
        super().__init__(spec, postprocess)
        self.network = network.to(device).eval()
        self.prepare = prepare
        self.tiling = tiling
        self.device = torch.device(device)

    @property
    def members(self) -> Sequence[Predictor[Prepare]]:
        """Itself."""
        return (self,)

    def logits(self, sample: Sample, *, in_place: bool = False) -> CaseLogits:
        """See ``CasePredictor.logits``."""
        prepared, placement = self.prepared(sample, in_place=in_place)
        return self.logits_of(prepared, placement, self.tiling.row_axis(placement.grid.shape, self.n_outputs))

    @property
    def n_outputs(self) -> int:
        """Number of logits, k."""
        return self.spec.labels.n_outputs

    def prepared(self, sample: Sample, *, in_place: bool = False) -> tuple[Sample, Placement]:
        """The network's view of a sample, and where its cells lie."""
        return self.prepare(sample, in_place=in_place)

    def logits_of(self, prepared: Sample, placement: Placement, axis: int) -> CaseLogits:
        """Logits of a prepared case, whose rows follow each other along an axis."""
        image = torch.from_numpy(np.ascontiguousarray(prepared.planes)).to(self.device)
        case_logits: list[Tensor] = []
        rows = self.tiling.rows(image, self.network_at(prepared, case_logits), axis)
        every = (case_logits,) if getattr(self.network, "classifies", False) else ()
        return CaseLogits.resampled(finite_rows(rows, prepared.case), axis, placement, self.spec.labels, every)

    def network_at(self, sample: Sample, case_logits: list[Tensor] | None = None) -> nn.Module:
        """The network for windows of one case, with its facts and dates.

        Args:
            sample: The case, or any window of it.
            case_logits: Where the logits of the class of the case are appended; None to take none.

        Raises:
            InputError: The network takes facts, and the case has none.
        """
        return at_dates(at_case(self.network, sample.facts, self.spec.facts, case_logits), sample)
