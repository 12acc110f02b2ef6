"""Joined: several encoders, each on channels of its own, fused level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import lcm, log2, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError, rename_keys
from medseg.models.decoders.blocks import resize
from medseg.models.decoders.neck import to_grid
from medseg.models.encoders.branches import KEY, check_names, check_shared, places_of
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.fusion import Fusion
from medseg.models.layers import CONV, CellNorm
from medseg.models.network import ModelSpec
from medseg.weights.report import Report, joined

_AVERAGE = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


class Joined(Encoder):
    """Several encoders whose features are fused level by level; in two and three dimensions, as its encoders are.

    The first branch leads: the features have its strides and widths, always as grids. Of each other branch the feature
    nearest in stride is taken (of plain transformers, whose strides are all equal, that of the same depth), normalised
    in each cell, brought to the width by a layer of kernel 1, and interpolated to the grid.

    **A branch may be missing.** An image lacks a branch if all of the branch's channels are 0 everywhere, as channels
    are that ``present`` of a batch is False for; its features have no influence then. In training batch normalisation
    of such a branch still sees the zeros.

    Args:
        spec: Data and plan.
        branches: Makes the encoder of each branch, by name; the first one leads.
        channels: Names of the channels of each branch. One without an entry takes those of its group, whose names begin
            with its own and a dot, such as ``pre.B4``, which its encoder knows as ``B4``.
        resolution: Cells of the image along a cell of the branch's input, which is averaged; 1 without an entry. So an
            encoder of bands of 20 m computes on their own grid, where the image has cells of 10 m.
        shared: Branches without an encoder of their own, and the branch whose encoder they use; its weights learn from
            both.
        fusion: Makes the fusion of a level from width, number of branches and number of axes.

    Raises:
        InputError: No branch; channels that are unknown, or in no branch; branches that do not fit each other; what one
            of the encoders rejects.

    References:
        Hong et al., GAMUS, 2023 (height next to colours). Valada et al., SSMA, 2019. Zhu et al., PIIP, 2024 (large
        encoders on coarser images).
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        branches: Mapping[str, Callable[[ModelSpec], Encoder]],
        fusion: Callable[[int, int, int], Fusion],
        channels: Mapping[str, Sequence[str]] | None = None,
        resolution: Mapping[str, int] | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        channels, resolution, shared = channels or {}, resolution or {}, shared or {}
        check_names(branches, channels, resolution, shared)
        strides = {name: resolution.get(name, 1) for name in [*branches, *shared]}
        places = places_of(list(strides), spec, channels)
        check_shared(shared, places, strides)
        encoders = {name: _made(name, make, spec, places[name], strides[name]) for name, make in branches.items()}
        used = {name: encoders[shared.get(name, name)] for name in strides}
        scaled = {name: [_scaled(f, strides[name]) for f in encoder.features] for name, encoder in used.items()}
        first, *others = strides
        super().__init__(spec, scaled[first], _divisor(used, strides), fixed_shape=_fixed_shape(used, strides))
        self.places, self.strides, self.shared = places, strides, dict(shared)
        self.branches = nn.ModuleDict(encoders)
        self.align = nn.ModuleDict({name: _Aligned(scaled[first], scaled[name]) for name in others})
        self.fusions = nn.ModuleList(fusion(f.channels, len(strides), spec.ndim) for f in scaled[first])

    @property
    def trunk(self) -> nn.Module:
        """The encoders of the branches."""
        return self.branches

    @property
    def stem(self) -> None:
        """None: each branch has its own; see ``initialise``."""

    @property
    def parallel(self) -> tuple[nn.Module, ...]:
        """The encoders of the branches."""
        return tuple(self.branches.children())

    @property
    def fresh(self) -> tuple[nn.Module, ...]:
        """What aligns and fuses."""
        return (self.align, self.fusions)

    @property
    def settled(self) -> Mapping[str, object]:
        """Resolved settings of the encoders; see ``Network.settled``."""
        resolved = {name: encoder.settled for name, encoder in self._encoders().items() if encoder.settled}
        return {"branches": resolved} if resolved else {}

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of each branch that has some; see ``Encoder.initialise``."""
        reports = {}
        for name, encoder in self._encoders().items():
            own = {key: [values[i] for i in self.places[name]] for key, values in (statistics or {}).items()}
            with _renamed(name):
                reports[name] = encoder.initialise(own or None)
        loaded = {name: report for name, report in reports.items() if report is not None}
        return joined(loaded) if loaded else None

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        grids: list[list[Tensor]] = []
        present: list[Tensor] = []
        for name, places in self.places.items():
            own = image[:, list(places)]
            present.append((own != 0).flatten(1).any(1))
            given = self._grids(name, own)
            grids.append(self.align[name](given, [grid.shape[2:] for grid in grids[0]]) if grids else given)
        there = torch.stack(present, dim=1).to(image.dtype)
        return [fusion(level, there) for fusion, level in zip(self.fusions, zip(*grids, strict=True), strict=True)]

    def _encoders(self) -> dict[str, Encoder]:
        return {name: encoder for name, encoder in self.branches.items() if isinstance(encoder, Encoder)}

    def _grids(self, name: str, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of a branch on their grids."""
        encoder, stride = self._encoders()[self.shared.get(name, name)], self.strides[name]
        if stride > 1:
            image = _AVERAGE[image.ndim - 2](image, stride)
        return [
            to_grid(output, feature, image.shape[2:])
            for output, feature in zip(encoder(image), encoder.features, strict=True)
        ]


class _Aligned(nn.Module):
    """Features of a branch as those of the first one.

    Args:
        wanted: Features of the first branch.
        given: Features of this branch.
    """

    def __init__(self, wanted: Sequence[Feature], given: Sequence[Feature]) -> None:
        super().__init__()
        self.sources = _sources(wanted, given)
        ndim = len(wanted[0].stride)
        self.project = nn.ModuleList(
            nn.Sequential(CellNorm(given[i].channels), CONV[ndim](given[i].channels, feature.channels, 1))
            for i, feature in zip(self.sources, wanted, strict=True)
        )

    def forward(self, grids: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """A grid for each of the first branch, of the ``shapes`` of those."""
        pairs = zip(self.project, self.sources, shapes, strict=True)
        return [resize(project(grids[i]), shape) for project, i, shape in pairs]


def _sources(wanted: Sequence[Feature], given: Sequence[Feature]) -> list[int]:
    """Which feature of a branch goes with each of the first branch: the nearest in stride, or else of the same depth.

    Example:
        >>> pyramid = [Feature(8, (4, 4)), Feature(16, (8, 8)), Feature(32, (16, 16))]
        >>> _sources(pyramid, [Feature(9, (8, 8)), Feature(9, (16, 16))])
        [0, 0, 1]
        >>> _sources(pyramid, [Feature(9, (16, 16))] * 5)
        [0, 2, 4]
    """
    if len({feature.stride for feature in given}) == 1:
        steps = max(len(wanted) - 1, 1)
        return [round(i * (len(given) - 1) / steps) for i in range(len(wanted))]
    sizes = [_log_size(feature) for feature in given]
    return [min(range(len(given)), key=lambda i: abs(sizes[i] - _log_size(feature))) for feature in wanted]


def _log_size(feature: Feature) -> float:
    return log2(prod(feature.stride))


def _scaled(feature: Feature, stride: int) -> Feature:
    """As a grid, and in cells of the image, of which a cell of the branch's input has ``stride``."""
    return Feature(feature.channels, tuple(s * stride for s in feature.stride))


def _made(
    name: str, make: Callable[[ModelSpec], Encoder], spec: ModelSpec, places: Sequence[int], stride: int
) -> Encoder:
    """The encoder of a branch, whose messages name its settings."""
    with _renamed(name):
        return make(_spec_of(name, spec, places, stride))


def _spec_of(name: str, spec: ModelSpec, places: Sequence[int], stride: int) -> ModelSpec:
    """What the encoder of a branch is built for."""
    channels = [spec.channels[i] for i in places] if spec.channels else []
    return replace(
        spec,
        in_channels=len(places),
        patch_shape=tuple(-(-n // stride) for n in spec.patch_shape),
        spacing=tuple(s * stride for s in spec.spacing),
        channels=tuple(replace(channel, name=channel.name.removeprefix(f"{name}.")) for channel in channels),
    )


def _divisor(encoders: Mapping[str, Encoder], strides: Mapping[str, int]) -> tuple[int, ...]:
    """The least divisor of image shapes that suits every branch."""
    scaled = [[d * strides[name] for d in encoder.divisor] for name, encoder in encoders.items()]
    return tuple(lcm(*axis) for axis in zip(*scaled, strict=True))


def _fixed_shape(encoders: Mapping[str, Encoder], strides: Mapping[str, int]) -> tuple[int, ...] | None:
    """The only shape of images that the branches take; None where shapes are free.

    Raises:
        InputError: Branches of different shapes.
    """
    shapes = {
        name: tuple(n * strides[name] for n in encoder.fixed_shape)
        for name, encoder in encoders.items()
        if encoder.fixed_shape is not None
    }
    if len(set(shapes.values())) > 1:
        taken = ", ".join(f"{name} images of {shape}" for name, shape in shapes.items())
        raise InputError(f"model/encoder=joined: got branches that take {taken} only; expected the same shape of all")
    return next(iter(shapes.values()), None)


def _renamed(name: str) -> AbstractContextManager[None]:
    """Around what an encoder of a branch may refuse, whose messages name its settings."""
    return rename_keys(("model.encoder.", f"{KEY}.{name}."))
