"""Joined: several encoders, each on channels of its own, fused level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import log2, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import rename_keys
from medseg.models.decoders.blocks import resize
from medseg.models.decoders.neck import to_grid
from medseg.models.encoders.branches import KEY, check_names, check_shared, places_of
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.encoders.fusion import Fusion
from medseg.models.encoders.views import View, check_aligned, divisor_of, fixed_shape_of, views_of, without_border
from medseg.models.layers import CONV, CellNorm
from medseg.models.network import ModelSpec
from medseg.weights.report import Report, joined


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
        context: How many times as much along each axis a branch sees as the first one, in cells so many times as large;
            1 without an entry. The network then has no logits of a border of the image (``margin``): a patch of 256
            cells with a context of 2 trains on the 128 in its centre, and windows of images overlap by the border.
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
        context: Mapping[str, int] | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        channels, resolution, context, shared = channels or {}, resolution or {}, context or {}, shared or {}
        check_names(branches, {"channels": channels, "resolution": resolution, "context": context}, shared)
        views = views_of([*branches, *shared], spec.patch_shape, resolution, context)
        places = places_of(list(views), spec, channels)
        check_shared(shared, places, {name: view.stride for name, view in views.items()})
        encoders = {name: _made(name, make, spec, places[name], views[name]) for name, make in branches.items()}
        used = {name: encoders[shared.get(name, name)] for name in views}
        scaled = {name: [views[name].scaled(f) for f in encoder.features] for name, encoder in used.items()}
        first, *others = views
        check_aligned(views, scaled[first], spec.patch_shape)
        super().__init__(spec, scaled[first], divisor_of(used, views), fixed_shape=fixed_shape_of(used, views))
        self.margin = views[first].cut
        self.places, self.views, self.shared = places, views, dict(shared)
        self.branches = nn.ModuleDict(encoders)
        self.align = nn.ModuleDict({name: _Aligned(scaled[first], scaled[name], self._border(name)) for name in others})
        self.fusions = nn.ModuleList(fusion(f.channels, len(views), spec.ndim) for f in scaled[first])

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
            own = self.views[name](image[:, list(places)])
            present.append((own != 0).flatten(1).any(1))
            given = self._grids(name, own)
            grids.append(self.align[name](given, [grid.shape[2:] for grid in grids[0]]) if grids else given)
        there = torch.stack(present, dim=1).to(image.dtype)
        return [fusion(level, there) for fusion, level in zip(self.fusions, zip(*grids, strict=True), strict=True)]

    def _border(self, name: str) -> tuple[int, ...]:
        """Cells of the image that a branch sees beyond the first one, on either side of each axis."""
        return tuple(a - b for a, b in zip(self.margin, self.views[name].cut, strict=True))

    def _encoders(self) -> dict[str, Encoder]:
        return {name: encoder for name, encoder in self.branches.items() if isinstance(encoder, Encoder)}

    def _grids(self, name: str, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of a branch on their grids."""
        encoder = self._encoders()[self.shared.get(name, name)]
        return [
            to_grid(output, feature, image.shape[2:])
            for output, feature in zip(encoder(image), encoder.features, strict=True)
        ]


class _Aligned(nn.Module):
    """Features of a branch as those of the first one.

    Args:
        wanted: Features of the first branch.
        given: Features of this branch, in cells of the image too.
        border: Cells of the image that this branch sees beyond the first one, on either side of each axis.
    """

    def __init__(self, wanted: Sequence[Feature], given: Sequence[Feature], border: Sequence[int]) -> None:
        super().__init__()
        self.borders = [[int(b // s) for b, s in zip(border, feature.stride, strict=True)] for feature in wanted]
        self.sources = _sources(wanted, given)
        ndim = len(wanted[0].stride)
        self.project = nn.ModuleList(
            nn.Sequential(CellNorm(given[i].channels), CONV[ndim](given[i].channels, feature.channels, 1))
            for i, feature in zip(self.sources, wanted, strict=True)
        )

    def forward(self, grids: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """A grid for each of the first branch, of the ``shapes`` of those."""
        aligned = []
        for project, i, shape, border in zip(self.project, self.sources, shapes, self.borders, strict=True):
            whole = [n + 2 * b for n, b in zip(shape, border, strict=True)]
            aligned.append(without_border(resize(project(grids[i]), whole), border))
        return aligned


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


def _made(
    name: str, make: Callable[[ModelSpec], Encoder], spec: ModelSpec, places: Sequence[int], view: View
) -> Encoder:
    """The encoder of a branch, whose messages name its settings."""
    with _renamed(name):
        return make(_spec_of(name, spec, places, view))


def _spec_of(name: str, spec: ModelSpec, places: Sequence[int], view: View) -> ModelSpec:
    """What the encoder of a branch is built for."""
    channels = [spec.channels[i] for i in places] if spec.channels else []
    return replace(
        spec,
        in_channels=len(places),
        patch_shape=view.shape(spec.patch_shape),
        spacing=tuple(s * view.stride for s in spec.spacing),
        channels=tuple(replace(channel, name=channel.name.removeprefix(f"{name}.")) for channel in channels),
    )


def _renamed(name: str) -> AbstractContextManager[None]:
    """Around what an encoder of a branch may refuse, whose messages name its settings."""
    return rename_keys(("model.encoder.", f"{KEY}.{name}."))
