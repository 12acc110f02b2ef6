"""Encoder: what every encoder promises its decoder; Feature: what it declares of each feature."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.weights import load
from medseg.weights.options import WeightOptions
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report

Stride = int | Fraction
"""Cells of the image for one of a feature: whole of an encoder, 7/2 of a neck where tokens have 14 cells."""
_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers?)\.(\d+)\.")


@dataclass(frozen=True)
class Feature:
    """One of the features of an encoder.

    Attributes:
        channels: Its width.
        stride: Cells of the image for one of the feature, on each axis.
        tokens: Whether it comes as ``[b, n, c]`` (``prefix`` tokens, then the grid in row-major order)
            instead of ``[b, c, *s]``.
        prefix: Tokens without a place (class, registers), ahead of the grid's.
    """

    channels: int
    stride: tuple[Stride, ...]
    tokens: bool = False
    prefix: int = 0


class Encoder(nn.Module, ABC):
    """Maps an image to features, from fine to coarse (or, of a plain transformer, from early to late).

    Subclasses take ``(spec: ModelSpec, *, settings, **loading)`` (``loading``: the fields of ``WeightOptions``),
    and their yaml stands in ``conf/model/encoder`` with ``_partial_: true``. **Construction never reads weights**:
    ``initialise`` does, once, at the start of a training. So a checkpoint loads where the file of the
    weights is long gone.

    Attributes:
        features: Features of the output of ``forward``, in order.
        divisor: Cells of the image must be a multiple of this on each axis.
        fixed_shape: The only shape taken; None where shapes are free.
        ndims: Numbers of spatial axes that it is built for.
        takes_dates: Whether it takes the channels of several dates as they are (``spec.dates``), with ``present``
            and ``days`` of ``SeriesNetwork`` as further arguments of ``forward``; see ``temporal.native``.
        full_depth: Blocks of the upstream's plain transformer, of which fewer may be built; None for other networks.

    Args:
        spec: Data and plan.
        features: Declared; the encoder-decoder holds ``forward`` to it before any data is read.
        divisor: See above.
        fixed_shape: See above.
        loading: Fields of ``WeightOptions``: ``weights`` (None for random ones; a file of torch or safetensors, a
            checkpoint of medseg; or what the family's ``fetch`` knows: ``pretrained``, an enum of torchgeo),
            ``adapt``, ``least_share`` and so on.
    """

    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    takes_dates: ClassVar[bool] = False

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        divisor: Sequence[int],
        *,
        fixed_shape: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.divisor = tuple(divisor)
        self.fixed_shape = None if fixed_shape is None else tuple(fixed_shape)
        self.margin = (0,) * len(self.divisor)
        self.channels: tuple[Channel, ...] = spec.channels or tuple(
            Channel(f"channel{i}") for i in range(spec.in_channels)
        )
        self.full_depth: int | None = None
        self.loading = WeightOptions(**loading)

    @abstractmethod
    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""

    @property
    @abstractmethod
    def trunk(self) -> nn.Module:
        """The upstream's own network, with its own names of parameters, which weights are loaded into."""

    @property
    @abstractmethod
    def stem(self) -> str | tuple[str, ...] | None:
        """Name in ``trunk`` of the kernel ``[o, c, *k]`` that takes the image; None where it fits any channels.

        Several where branches that all take the image are added up.
        """

    @property
    def grids(self) -> Grids | None:
        """Grids of the learned positions, where the encoder knows them; None to guess that they are square."""
        return None

    @property
    def parallel(self) -> tuple[nn.Module, ...]:
        """Parts of which none comes after another, each with depths of its own: the branches, where there are some."""
        return (self,)

    @property
    def fresh(self) -> tuple[nn.Module, ...]:
        """Parts that no weights are published of, which learn as the decoder does, also where the rest is frozen."""
        return ()

    @property
    def settled(self) -> Mapping[str, object]:
        """Settings that construction found elsewhere; see ``Network.settled``."""
        return {}

    def fetch(self, source: str) -> Pretrained:
        """Weights by the words of ``model.encoder.weights``; families with a hub of their own add to it.

        Raises:
            InputError: No such file, or one that is not safe to read; no network.
        """
        return read(source)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under the names of ``trunk``; families whose files name them otherwise change this."""
        return dict(state)

    def left_out(self, name: str) -> bool:
        """Whether the upstream's network has a tensor of this name that this encoder leaves out on purpose.

        Such are the blocks of a plain transformer after the last feature; the file of a larger network is refused.
        """
        block = _BLOCK.search(name)
        return self.full_depth is not None and block is not None and int(block[1]) < self.full_depth

    @property
    def upstream(self) -> Mapping[str, Sequence[int]]:
        """Shapes of all tensors of the upstream's network by name, in its order, where the encoder leaves some out."""
        return {}

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of the settings, and report every tensor.

        Args:
            statistics: ``mean`` and ``std`` of the data's channels in raw units, compared with those that
                the weights were trained with; None to compare nothing.

        Raises:
            InputError: Weights that cannot be had, or that cover less than the least share or lack essential parts.
        """
        if self.loading.weights is None:
            return None
        pretrained = self.fetch(str(self.loading.weights))
        pretrained = pretrained.with_state(self.rename(pretrained.state))
        return load.load(
            self.trunk,
            pretrained,
            stem=self.stem,
            channels=self.channels,
            options=self.loading,
            statistics=statistics,
            grids=self.grids,
            left_out=self.left_out,
            upstream=self.upstream,
        )


def check_features(encoder: Encoder, in_channels: int, shape: Sequence[int]) -> None:
    """Hold what an encoder gives for an image of ``shape`` to what it declares; on the meta device, at no cost.

    Raises:
        InputError: Another number of features, or another shape of one.
    """
    name = type(encoder).__name__
    tensors = [*encoder.named_parameters(), *encoder.named_buffers()]  # buffers that are not saved too
    meta = {key: torch.empty_like(t, device="meta") for key, t in tensors}
    trained = encoder.training
    try:
        with torch.no_grad():
            outputs = functional_call(encoder.eval(), meta, (torch.empty((1, in_channels, *shape), device="meta"),))
    finally:
        encoder.train(trained)
    if len(outputs) != len(encoder.features):
        raise InputError(f"{name}: got {len(outputs)} features, {len(encoder.features)} are declared")
    for i, (feature, tensor) in enumerate(zip(encoder.features, outputs, strict=True)):
        inside = [s - 2 * m for s, m in zip(shape, encoder.margin, strict=True)]
        grid = tuple(int(s // d) for s, d in zip(inside, feature.stride, strict=True))
        expected = (1, feature.channels, *grid)
        if feature.tokens:
            expected = (1, feature.prefix + prod(grid), feature.channels)
        if tuple(tensor.shape) != expected:
            raise InputError(
                f"{name}: feature {i} of an image of shape {tuple(shape)} has the shape {tuple(tensor.shape)}, "
                f"declared is {expected}"
            )
