"""Blur and simulated low resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.transforms.intensity import Intensity
from medseg.transforms.separable import gaussian_matrix, low_resolution_matrix, separable
from medseg.transforms.transform import Params, PatchSpec, check_range

_LEAST = 1e-3  # weight of valid cells below which a filtered cell has seen none


def filter_within(
    maps: Float[Tensor, "n *s"], valid: Bool[Tensor, "n *s"], matrices: Sequence[Tensor | None]
) -> Float[Tensor, "n *s"]:
    """``separable`` with rows that sum to 1, over the valid cells alone.

    Cells that are not valid have no weight, and the others share it: a constant stays constant next to
    nodata, where zeros would bleed in. They are returned as they are, as is a cell that sees no valid one.
    """
    if valid.all():
        return separable(maps, matrices)
    weight = separable(valid.to(maps), matrices)
    filtered = separable(maps.masked_fill(~valid, 0), matrices) / weight.clamp(min=_LEAST)
    return torch.where(valid & (weight > _LEAST), filtered, maps)


@dataclass(frozen=True)
class Blur(Intensity):
    """Gaussian blur whose width is drawn for each channel and axis, in cells.

    Attributes:
        p: Probability, per sample.
        channel_p: Probability that a channel of a chosen sample is blurred.
        low: Least standard deviation, in cells.
        high: Largest.
    """

    p: float = 0.2
    channel_p: float = 0.5
    low: float = 0.5
    high: float = 1.0

    def __post_init__(self) -> None:
        check_range("transform.blur", self.p, self.low, self.high, least=0)
        check_range("transform.blur.channel_p", self.channel_p, 0, 0)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``sigma_cells`` [c, d], 0 where not chosen."""
        on = (rng.random() < self.p) & (rng.random(channels) < self.channel_p)
        sigma = rng.uniform(self.low, self.high, (channels, len(space)))
        return {"sigma_cells": sigma * on[:, None]}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where a width is not 0."""
        return (params["sigma_cells"] != 0).any(-1)

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Blur along each axis, over the valid cells."""
        sigma = params["sigma_cells"].T
        taps = [gaussian_matrix(s, n) for s, n in zip(sigma, maps.shape[1:], strict=True)]
        return filter_within(maps, valid, taps)


@dataclass(frozen=True)
class LowResolution(Intensity):
    """Show a channel as if it had been acquired with fewer cells: nearest down, linear up.

    Attributes:
        p: Probability, per sample.
        channel_p: Probability that a channel of a chosen sample is changed.
        low: Least share of the cells that is kept along each axis; one share for all axes.
        high: Largest.
        skip_axis: Axis that is left alone; ``bind`` sets it to the coarse axis.
    """

    p: float = 0.25
    channel_p: float = 0.5
    low: float = 0.5
    high: float = 1.0
    skip_axis: int | None = None

    def __post_init__(self) -> None:
        check_range("transform.low_resolution", self.p, self.low, self.high, least=1e-3)
        check_range("transform.low_resolution.channel_p", self.channel_p, 0, 0)

    def bind(self, spec: PatchSpec) -> LowResolution:
        """Leave the coarse axis alone."""
        return replace(self, skip_axis=spec.coarse_axis)

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``zoom`` [c], 1 where not chosen."""
        on = (rng.random() < self.p) & (rng.random(channels) < self.channel_p)
        return {"zoom": np.where(on, rng.uniform(self.low, self.high, channels), 1.0)}

    def changes(self, params: Params) -> npt.NDArray[np.bool_]:
        """Where the share of cells is not 1."""
        return params["zoom"] != 1

    def adjust(self, maps: Tensor, valid: Tensor, params: Params) -> Tensor:
        """Reduce and bring back along each axis, over the valid cells."""
        zoom = params["zoom"]
        axes = [None if a == self.skip_axis else low_resolution_matrix(zoom, n) for a, n in enumerate(maps.shape[1:])]
        return filter_within(maps, valid, axes)
