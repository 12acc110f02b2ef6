"""Intensity changes cell by cell: noise, brightness, contrast, gamma."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.sample import Batch
from medseg.transforms.transform import Params, Transform, check_range, draw_factor

_FLAT = 1e-8  # a range or deviation below this is that of a constant image


def scale_contrast(
    maps: Float[Tensor, "n *s"], valid: Bool[Tensor, "n *s"], factor: Float[Tensor, " n"]
) -> Float[Tensor, "n *s"]:
    """Stretch each map about its mean by ``factor``, clipped to its original range.

    Mean and range are those of the valid cells; a map without any is returned as it is.
    """
    values, inside = _seen(maps, valid)
    low, high = _range(values, inside)
    mean = mean_within(values, inside)
    stretched = (values - mean) * widen(factor, maps) + mean
    return torch.where(valid, stretched.clamp(low, high), maps)


def apply_gamma(
    maps: Float[Tensor, "n *s"], valid: Bool[Tensor, "n *s"], gamma: Float[Tensor, " n"]
) -> Float[Tensor, "n *s"]:
    r"""Raise each map to the power ``gamma`` within its range, then restore its mean and deviation.

    .. math:: ((i - min) / (max - min))^\gamma (max - min) + min

    Below 1 dark cells are spread, above 1 bright ones. Statistics are those of the valid cells; constant
    maps and cells that are not valid are returned as they are.
    """
    values, inside = _seen(maps, valid)
    low, high = _range(values, inside)
    span = high - low
    unit = ((values - low) / span.clamp(min=_FLAT)).clamp(0, 1)
    bent = unit ** widen(gamma, maps) * span + low
    mean, new_mean = mean_within(values, inside), mean_within(bent, inside)
    spread, new_spread = (
        mean_within((values - mean) ** 2, inside).sqrt(),
        mean_within((bent - new_mean) ** 2, inside).sqrt(),
    )
    restored = (bent - new_mean) * (spread / new_spread.clamp(min=_FLAT)) + mean
    return torch.where(valid & (span > _FLAT), restored, maps)


def gaussian_noise(seed: Int[Tensor, " n"], shape: tuple[int, ...]) -> Float[Tensor, "n *s"]:
    """Standard normal noise of ``shape`` for each seed; generated on the CPU, so the same everywhere."""
    maps = torch.empty(len(seed), *shape)
    for i, one in enumerate(seed.tolist()):
        maps[i].normal_(generator=torch.Generator().manual_seed(one))
    return maps


def widen(value: Tensor, maps: Tensor) -> Tensor:
    """A value for each map, in the shape that acts on its cells."""
    return value.view(-1, *[1] * (maps.ndim - 1))


def _seen(maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Maps with 0 where not valid, and validity as numbers: a product costs a tenth of a masked fill."""
    return maps.masked_fill(~valid, 0), valid.to(maps)


def _range(values: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    axes = tuple(range(1, values.ndim))
    beyond = (1 - inside) * torch.finfo(values.dtype).max
    return (values + beyond).amin(axes, keepdim=True), (values - beyond).amax(axes, keepdim=True)


def mean_within(values: Tensor, inside: Tensor) -> Tensor:
    """Mean of each map over the cells where ``inside`` is 1 (it is 0 elsewhere), 0 where there is none."""
    axes = tuple(range(1, values.ndim))
    return (values * inside).sum(axes, keepdim=True) / inside.sum(axes, keepdim=True).clamp(min=1)


class Intensity(Transform):
    """A change of single channels that leaves label and geometry alone.

    Each parameter has a row per channel. Only the (sample, channel) maps that a parameter changes are
    gathered, stacked, changed in float32 and written back. Channels that a sample lacks stay as they are.

    The dates of a time series are independent images: every parameter, be it a probability, an illumination
    or a haze, is drawn anew for each. Cells that are 0 in all channels of a date have no data there, and stay 0.
    """

    sees_dates: ClassVar[bool] = True

    def draw(self, rngs: Sequence[np.random.Generator], shape: Sequence[int], dates: int = 0) -> Params:
        """Parameters of every sample; of time series of every date of it, ``[b, t, c, ...]``."""
        if not dates:
            return super().draw(rngs, shape)
        of_dates = super().draw([rng for rng in rngs for _ in range(dates)], (len(rngs) * dates, *shape[2:]))
        return {name: value.reshape(len(rngs), dates, *value.shape[1:]) for name, value in of_dates.items()}

    @abstractmethod
    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """``[b, c]`` (of time series ``[b, t, c]``): whose parameters are not neutral."""

    @abstractmethod
    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Changed ``maps`` ``[n, *s]``, with ``valid`` ``[n, *s]`` and parameters that lead with n."""

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The batch with the changed image, of the same type and on the same device."""
        mask = self.changes(params) & batch.present.cpu().numpy()
        if not mask.any():
            return batch
        image = batch.image.flatten(0, mask.ndim - 1)
        index = np.flatnonzero(mask)
        rows = torch.from_numpy(index).to(image.device)
        with_data = batch.valid
        if batch.dates:
            with_data = (with_data[:, None] & (batch.image != 0).any(2)).flatten(0, 1)
        valid = with_data[torch.from_numpy(index // mask.shape[-1]).to(image.device)]
        original = image[rows].float()
        maps = self.adjust(original, valid, {name: value[mask] for name, value in params.items()})
        if batch.dates:
            maps = torch.where(valid, maps, original)
        return replace(batch, image=image.index_copy(0, rows, maps.to(image)).view_as(batch.image))


@dataclass(frozen=True)
class Noise(Intensity):
    """Gaussian noise, independent in each cell and channel; one deviation for all channels.

    Attributes:
        p: Probability, per sample.
        low: Least standard deviation, in units of the normalised image.
        high: Largest. (nnU-Net draws a "variance" up to 0.1 and uses it as the deviation; so do we.)
    """

    p: float = 0.1
    low: float = 0.0
    high: float = 0.1

    def __post_init__(self) -> None:
        check_range("transform.noise", self.p, self.low, self.high, least=0)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``std`` [c], 0 where not chosen; ``seed`` [c] of the noise itself."""
        on, std = rng.random() < self.p, rng.uniform(self.low, self.high)
        return {"std": np.full(channels, std * on), "seed": rng.integers(2**63, size=channels)}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where the deviation is not 0."""
        return params["std"] != 0

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Add the noise of each seed."""
        noise = gaussian_noise(torch.from_numpy(params["seed"]), tuple(maps.shape[1:])).to(maps)
        return maps + noise * widen(torch.from_numpy(params["std"]).to(maps), maps)


@dataclass(frozen=True)
class _Factor(Intensity):
    """A factor for each channel, below and above 1 equally often (``draw_factor``).

    Attributes:
        p: Probability, per sample; all its channels change, each by its own factor.
        low: Least factor.
        high: Largest factor.
    """

    p: float = 0.15
    low: float = 0.75
    high: float = 1.25

    def __post_init__(self) -> None:
        check_range(f"transform.{type(self).__name__.lower()}", self.p, self.low, self.high, least=1e-3)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``factor`` [c], 1 where not chosen."""
        on, factor = rng.random() < self.p, draw_factor(rng, self.low, self.high, channels)
        return {"factor": factor if on else np.ones(channels)}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where the factor is not 1."""
        return params["factor"] != 1


@dataclass(frozen=True)
class Brightness(_Factor):
    """Multiply each channel by a factor."""

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Multiply."""
        return maps * widen(torch.from_numpy(params["factor"]).to(maps), maps)


@dataclass(frozen=True)
class Contrast(_Factor):
    """Stretch each channel about its mean (``scale_contrast``)."""

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Stretch about the mean of the valid cells."""
        return scale_contrast(maps, valid, torch.from_numpy(params["factor"]).to(maps))


@dataclass(frozen=True)
class Gamma(_Factor):
    """Power of each channel within its range, keeping mean and deviation (``apply_gamma``).

    Attributes:
        p: Probability, per sample; all its channels change, each by its own exponent.
        low: Least exponent.
        high: Largest exponent.
        invert: Apply it to the negative image, and negate back.
    """

    p: float = 0.3
    low: float = 0.7
    high: float = 1.5
    invert: bool = False

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Raise to the power."""
        sign = -1 if self.invert else 1
        return sign * apply_gamma(sign * maps, valid, torch.from_numpy(params["factor"]).to(maps))
