"""Transform: parameters of each sample are drawn from its own generator, then applied to the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from medseg.errors import InputError
from medseg.sample import Batch

Params = dict[str, np.ndarray]
"""Drawn parameters: name to an array on the CPU whose leading axis is the sample, b."""


@dataclass(frozen=True)
class PatchSpec:
    """Shape, spacing and channels of the patches that a transform gets.

    Attributes:
        patch_shape: Cells of a patch on each axis, as the network sees it.
        spacing: Distance between cell centres along each axis, in the unit of the data's frame.
        coarse_axis: Axis without interpolation, because its cells are far apart or
            few (``window.coarse_axis``); None where all axes are alike.
        wavelengths_nm: Centre wavelength of each channel in nanometres, None for one without (an index,
            radar); empty if unknown.
        dates: Number of dates of time series; 0 without a time axis.
        groups: Image groups of each channel, of a formula several; empty if images have none.
    """

    patch_shape: tuple[int, ...]
    spacing: tuple[float, ...]
    coarse_axis: int | None
    wavelengths_nm: tuple[float | None, ...] = ()
    dates: int = 0
    groups: tuple[tuple[str, ...], ...] = ()


class Transform(ABC):
    """A random change of patches: ``apply(batch, draw(rngs, batch.image.shape))``.

    All randomness is in ``draw``, which sees one generator per sample and no pixels; ``apply`` is
    deterministic and runs on the batch's device. So a sample does not depend on its neighbours in the
    batch (but for what ``mix.CutMix`` pastes), and is replayed from its parameters. What a sample was
    *not* chosen for is drawn as the neutral value (factor 1, deviation 0), and a draw always consumes
    the same random numbers: raising one probability does not change anything else about a sample.

    Attributes:
        sees_dates: Whether it handles time series. The others get the dates one after another
            as more channels ``[b, t*c, *s]``, all of which they change alike (``Compose`` folds and unfolds).
    """

    sees_dates: ClassVar[bool] = False

    def bind(self, spec: PatchSpec) -> Transform:
        """The transform for patches of ``spec``; most return themselves."""
        del spec
        return self

    @abstractmethod
    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """Parameters of one sample (no leading axis), for an image of ``[channels, *space]``."""

    @abstractmethod
    def apply(self, batch: Batch, params: Params) -> Batch:
        """The changed batch; the input is not modified."""

    def draw(self, rngs: Sequence[np.random.Generator], shape: Sequence[int], dates: int = 0) -> Params:
        """Parameters of every sample.

        Args:
            rngs: One generator per sample.
            shape: Shape of the batch's image, ``[b, c, *s]``; with ``dates`` ``[b, t, c, *s]``.
            dates: Number of dates of time series, for transforms that see dates.
        """
        channels, *space = shape[2 if dates else 1 :]
        params = [self.draw_one(rng, int(channels), tuple(int(s) for s in space)) for rng in rngs]
        return {name: np.stack([np.asarray(one[name]) for one in params]) for name in params[0]}


def check_range(where: str, p: float, low: float, high: float, *, least: float = -np.inf) -> None:
    """Check a probability and a range.

    Raises:
        InputError: Unless ``0 <= p <= 1`` and ``least <= low <= high``.
    """
    if not 0 <= p <= 1:
        raise InputError(f"{where}: got p={p}, expected a probability between 0 and 1 (0 switches it off)")
    if not least <= low <= high:
        raise InputError(f"{where}: got low={low}, high={high}, expected {least} <= low <= high")


def draw_factor(rng: np.random.Generator, low: float, high: float, size: int) -> npt.NDArray[np.float64]:
    """Factors that are below and above 1 equally often.

    Half of them are uniform in [low, 1], half uniform in [1, high]; all uniform in [low, high] where
    that range lies on one side of 1.
    """
    below, share = rng.random(size) < 0.5, rng.random(size)
    if low >= 1 or high <= 1:
        return low + share * (high - low)
    return np.where(below, low + share * (1 - low), 1 + share * (high - 1))
