"""Changes of whole bands: bands that are missing, gain and offset, haze."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.intensity import Intensity, mean_within, widen
from medseg.transforms.transform import Params, PatchSpec, Transform, check_range

REFERENCE_NM = 550.0
"""Wavelength at which an optical depth is given, as is usual for aerosols."""


@dataclass(frozen=True)
class ChannelDropout(Transform):
    """Take channels away, as if the case lacked them: ``present`` becomes False and the image 0.

    Channels that are absent already stay so, and at least one that is present stays. An index that was
    computed from a dropped band keeps its values: it is a channel of its own, dropped on its own. Of a time
    series a channel goes on every date.

    Attributes:
        p: Probability, per sample; the number of channels is then uniform in [1, largest].
        most: Largest number of channels to drop; below 1 as a share of those present (rounded, at least one).
    """

    sees_dates: ClassVar[bool] = True

    p: float = 0.0
    most: float = 0.5

    def __post_init__(self) -> None:
        check_drop("transform.channel_drop", self.p, self.most, "channels")

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``rank`` [c], in which bands go; ``share`` [] in (0, 1] of the largest number, 0 where not chosen."""
        on, share = rng.random() < self.p, 1 - rng.random()
        return {"rank": rng.permutation(channels), "share": np.asarray(share if on else 0.0)}

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The batch without the bands."""
        if not params["share"].any():
            return batch
        rank = torch.from_numpy(params["rank"]).to(batch.present.device)
        share = torch.from_numpy(params["share"]).to(rank.device, torch.float32)
        if batch.dates:
            present = drop(batch.present.any(1), rank, share, self.most)
            return without(batch, batch.present & present[:, None])
        return without(batch, drop(batch.present, rank, share, self.most))


def check_drop(where: str, p: float, most: float, what: str) -> None:
    """Refuse settings by which nothing can be dropped.

    Raises:
        InputError: No probability, or neither a number nor a share.
    """
    check_range(where, p, 0, 0)
    if not (0 < most < 1 or (most >= 1 and most % 1 == 0)):
        raise InputError(
            f"{where}: got most={most}, expected a whole number of {what}, or a share of them between 0 and 1 (p=0 "
            "switches it off)"
        )


def without(batch: Batch, present: Bool[Tensor, "b *c"]) -> Batch:
    """The batch with no more than these channels; the others are 0."""
    gone = ~present.view(*present.shape, *[1] * (batch.valid.ndim - 1))
    return replace(batch, image=batch.image.masked_fill(gone, 0), present=present)


def drop(
    present: Bool[Tensor, "b c"], rank: Int[Tensor, "b c"], share: Float[Tensor, " b"], most: float
) -> Bool[Tensor, "b c"]:
    """Bands (or dates) that are left when ``share`` of the largest number goes, rounded up, of low ``rank`` first.

    Example:
        >>> ranks = torch.tensor([[2, 0, 1]])
        >>> drop(torch.tensor([[True, True, True]]), ranks, torch.tensor([1.0]), most=2).tolist()
        [[True, False, False]]
        >>> drop(torch.tensor([[True, False, True]]), ranks, torch.tensor([1.0]), most=2).tolist()
        [[True, False, False]]
    """
    n_present = present.sum(1)
    largest = (most * n_present).round().clamp(min=1) if most < 1 else torch.full_like(share, most)
    largest = torch.minimum(largest.to(share), (n_present - 1).clamp(min=0).to(share))
    order = rank.masked_fill(~present, rank.shape[1]).argsort(1).argsort(1)  # absent bands last
    return present & (order >= (share * largest).ceil()[:, None])


@dataclass(frozen=True)
class Gain(Intensity):
    """Multiply each band by a factor and add an offset: sensor, sun and exposure differ between scenes.

    Both have a part of the band's own and a part that all bands of a sample share (illumination):

    .. math:: z' = g_{common} g_{own} z + o_{common} + o_{own}

    The logarithm of a factor is uniform, so it is above 1 as often as below. In a normalised image
    (L - mean) / std a factor changes the contrast about the data's mean; more light, L' = g L, is a
    factor g *and* an offset (g - 1) mean / std, which is why there are both.

    Where the wavelength of some channels is known, the common part reaches those alone: neither radar
    nor an index depends on the light. Cells that are not valid stay as they are.

    Attributes:
        p: Probability, per sample.
        factor: Largest factor of a band's own, 1 / factor the least; 1 for none.
        offset: Largest offset of a band's own, in units of the normalised image; to either side.
        common_factor: Largest factor of all bands.
        common_offset: Largest offset of all bands.
        lit: Whether the common part reaches each channel; ``bind`` sets it. Empty for all.
    """

    p: float = 0.3
    factor: float = 1.1
    offset: float = 0.1
    common_factor: float = 1.2
    common_offset: float = 0.2
    lit: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        check_range("transform.gain", self.p, 0, 0)
        if not min(self.offset, self.common_offset) >= 0:
            raise InputError(
                f"transform.gain: offset={self.offset}, common_offset={self.common_offset}, expected 0 or more "
                "(0 switches it off)"
            )
        if not min(self.factor, self.common_factor) >= 1:
            raise InputError(
                f"transform.gain: got factor={self.factor}, common_factor={self.common_factor}, "
                "expected 1 or more (1 switches it off)"
            )

    def bind(self, spec: PatchSpec) -> Gain:
        """Learn which channels depend on the light."""
        lit = tuple(w is not None for w in spec.wavelengths_nm)
        return replace(self, lit=lit if any(lit) else ())

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``factor`` [c], 1 where not chosen, and ``offset`` [c], 0 where not chosen."""
        on, common, own = rng.random() < self.p, rng.uniform(-1, 1, 2), rng.uniform(-1, 1, (2, channels))
        reached = np.asarray(_one_each(self.lit, channels) if self.lit else True)
        exponent = np.log(self.common_factor) * common[0] * reached + np.log(self.factor) * own[0]
        offset = self.common_offset * common[1] * reached + self.offset * own[1]
        return {"factor": np.exp(exponent * on), "offset": offset * on}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where the factor is not 1 or the offset not 0."""
        return (params["factor"] != 1) | (params["offset"] != 0)

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Multiply and add."""
        factor, offset = (widen(torch.from_numpy(params[name]).to(maps), maps) for name in ("factor", "offset"))
        return torch.where(valid, maps * factor + offset, maps)


@dataclass(frozen=True)
class Haze(Intensity):
    r"""A layer of haze between ground and sensor: less contrast and more light, most of it at short wavelengths.

    .. math:: z' = t z + (1 - t) (m + a), \quad t = e^{-\tau}, \quad \tau = \tau_{550} (\lambda / 550)^{-\alpha}

    with m the band's mean over the valid cells of the patch, a the ``airlight`` above it, alpha the
    Ångström exponent (about 1.3 for haze, 4 for clear air, 0 for cloud). Contrast goes down to t, and
    the path adds (1 - t) a. Channels without a wavelength (indices, radar) are left alone, as are cells
    that are not valid. One depth and one exponent for a patch: haze is smooth at that scale.

    What this means for physics: the formula is Koschmieder's, linear in radiance, so it holds in any
    image that is normalised band by band with a factor and an offset, as z = (L - mean) / std. Only the
    airlight is then no colour: ``airlight`` deviations above the mean of *each* band, where real haze is
    white against a ground that is not. It does not hold where values were normalised per patch, by
    logarithm or by rank, and an index computed on reading is not that of the hazy bands.

    Attributes:
        p: Probability, per sample.
        low: Least optical depth at 550 nm; 0.1 is clear, 0.3 hazy, 1 thick.
        high: Largest.
        low_exponent: Least exponent alpha.
        high_exponent: Largest.
        airlight: How much brighter than the patch the haze is, in units of the normalised image.
        wavelengths_nm: Wavelength of each channel, None for one without; ``bind`` sets it.
    """

    p: float = 0.2
    low: float = 0.05
    high: float = 0.5
    low_exponent: float = 1.3
    high_exponent: float = 4.0
    airlight: float = 2.0
    wavelengths_nm: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        check_range("transform.haze", self.p, self.low, self.high, least=0)
        if not 0 <= self.low_exponent <= self.high_exponent:
            raise InputError(
                f"transform.haze: low_exponent={self.low_exponent}, high_exponent={self.high_exponent}, expected "
                "0 <= low_exponent <= high_exponent"
            )

    def bind(self, spec: PatchSpec) -> Haze:
        """Learn the wavelengths.

        Raises:
            InputError: No channel has one.
        """
        if self.p and not any(spec.wavelengths_nm):
            raise InputError(
                "transform.haze: no channel has a wavelength, and haze depends on it; switch it off by "
                "transform.haze=null, or give the bands their wavelengths"
            )
        return replace(self, wavelengths_nm=spec.wavelengths_nm)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``transmission`` [c], 1 where not chosen and for channels without wavelength."""
        on, depth = rng.random() < self.p, rng.uniform(self.low, self.high)
        exponent = rng.uniform(self.low_exponent, self.high_exponent)
        wavelengths = _one_each(self.wavelengths_nm, channels) if self.p else [None] * channels
        depths = [on * depth * (nm / REFERENCE_NM) ** -exponent if nm else 0.0 for nm in wavelengths]
        return {"transmission": np.exp(-np.array(depths))}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where not everything is transmitted."""
        return params["transmission"] != 1

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Blend with the light of the haze."""
        transmission = widen(torch.from_numpy(params["transmission"]).to(maps), maps)
        haze = mean_within(maps.masked_fill(~valid, 0), valid.to(maps)) + self.airlight
        return torch.where(valid, transmission * maps + (1 - transmission) * haze, maps)


def _one_each(values: tuple[Any, ...], channels: int) -> tuple[Any, ...]:
    if len(values) != channels:
        raise InputError(
            f"transform: got an image of {channels} channels, wavelengths_nm names {len(values)}; "
            "give one a channel, null for a channel without"
        )
    return values
