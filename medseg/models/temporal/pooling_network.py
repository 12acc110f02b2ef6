"""Pooled: features of every date by shared weights, pooled over the dates that are there, decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from medseg.models.network import ModelSpec
from medseg.models.temporal.network import Make, SeriesNetwork, hidden, numbered
from medseg.models.temporal.pools import Pool, mean_of
from medseg.models.unused import drop_idle, trace

GUIDE_STRIDE = 4
"""Largest stride of the feature by which dates are weighed. Fields and roofs are lost beyond it: on the drawn series
(a small U-Net, 300 steps, one seed each) the mean IoU of unseen cases was 0.87 with 4, 0.81 with 8 and with 32."""


class Pooled(SeriesNetwork):
    """Every date by itself through the same weights, then one image of features.

    A network that has ``encode(image) -> features`` and ``decode(features, image) -> logits`` encodes every
    date and decodes once; its decoder is shown the mean image for skips at full resolution. Of any other
    network the logits themselves are pooled. Only dates that are there run, so missing ones cost nothing, and
    statistics of batch normalisation leave them out.

    Args:
        spec: Spec of one date.
        make: Builds the network for images.
        dates: Slots, t.
        pool: Makes the pool; see ``Pool``.

    Raises:
        InputError: Settings of the network or the pool that do not fit.
    """

    def __init__(self, spec: ModelSpec, make: Make, *, dates: int, pool: Callable[..., Pool]) -> None:
        super().__init__(make(spec), spec.in_channels, dates)
        self.splits = hasattr(self.inner, "encode")
        if not self.splits:
            self.pool = pool([spec.out_channels], guide=0, dates=dates)
            return
        twice = self.nearest([2 * n for n in spec.patch_shape])  # some normalise groups that need more than one cell
        shape = (1, spec.in_channels, *(self.fixed_shape or twice))
        shapes = feature_shapes(self.inner, shape)
        widths = [s[1] if len(s) == len(shape) else s[-1] for s in shapes]
        self.pool = pool(widths, guide=guide_of(shapes, shape), dates=dates)
        used = trace(self, (1, dates, *shape[1:]))[1]
        drop_idle(self.pool, {name.removeprefix("pool.") for name in used})  # maps of features that are not decoded

    def forward(
        self,
        image: Float[Tensor, "b t c *s"],
        present: Bool[Tensor, "b t c"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits of each cell."""
        self.check_series(image, slots=self.pool.fixed)
        days = numbered(image) if days is None else days
        dates, rows = image.flatten(0, 1), None
        seen = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        if present is not None:
            seen = present.any(2)
            rows = seen.flatten().nonzero()[:, 0]
            dates = hidden(dates[rows], present.flatten(0, 1)[rows])
        if not self.splits:
            logits = self.inner(dates)
            levels = self._pooled(logits if isinstance(logits, list) else [logits], rows, seen, days)
            return levels if isinstance(logits, list) else levels[0]
        inner: Any = self.inner
        pooled = self._pooled(inner.encode(dates), rows, seen, days)
        return inner.decode(pooled, mean_of(placed(dates, rows, seen.shape), seen))

    def _pooled(
        self, features: Sequence[Tensor], rows: Tensor | None, present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Features of the series from those of the dates that are there; tokens are turned to ``[n, w, p]``."""
        tokens = [f.ndim != 2 + len(self.divisor) for f in features]
        grids = [f.transpose(1, 2) if t else f for f, t in zip(features, tokens, strict=True)]
        pooled = self.pool([placed(grid, rows, present.shape) for grid in grids], present, days)
        return [p.transpose(1, 2) if t else p for p, t in zip(pooled, tokens, strict=True)]


def placed(feature: Float[Tensor, "n *r"], rows: Tensor | None, slots: Sequence[int]) -> Float[Tensor, "b t *r"]:
    """Features in their slots; 0 in those that are missing.

    Args:
        feature: Feature of the dates that are present.
        rows: Number of the slot of each, of all b times t; None if each has one.
        slots: (b, t).
    """
    b, t = slots
    if rows is None or len(rows) == b * t:
        return feature.unflatten(0, (b, t))
    return feature.new_zeros((b * t, *feature.shape[1:])).index_copy(0, rows, feature).unflatten(0, (b, t))


def guide_of(shapes: Sequence[Sequence[int]], image: Sequence[int]) -> int:
    """Which feature says what a date shows: the coarsest grid of at most ``GUIDE_STRIDE``, else the last of the finest.

    Args:
        shapes: Shapes of the features; those with other axes than the image are tokens.
        image: Its shape.

    Example:
        >>> guide_of([(1, 8, 32, 32), (1, 16, 16, 16), (1, 32, 8, 8)], (1, 3, 64, 64))
        1
    """
    strides = {
        i: max(n // m for n, m in zip(image[2:], shape[2:], strict=True))
        for i, shape in enumerate(shapes)
        if len(shape) == len(image) and shape[1]
    }
    finest = max(GUIDE_STRIDE, min(strides.values(), default=0))
    return max((i for i, stride in strides.items() if stride <= finest), default=len(shapes) - 1)


def feature_shapes(net: nn.Module, shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of what ``net.encode`` gives for an image of this shape, found on the meta device."""
    encoder = _Encode(net)
    meta = {name: torch.empty_like(t, device="meta") for name, t in encoder.named_parameters()}
    meta |= {name: torch.empty_like(t, device="meta") for name, t in encoder.named_buffers()}
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            outputs = functional_call(encoder.eval(), meta, (torch.empty(tuple(shape), device="meta"),))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [tuple(feature.shape) for feature in outputs]


class _Encode(nn.Module):
    """``encode`` of a network as a module of its own."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.net.encode(image)
        return features
