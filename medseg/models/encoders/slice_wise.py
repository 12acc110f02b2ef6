"""SliceWise: any encoder of images on the slices of volumes, whose features a decoder of volumes combines (2.5D)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError, rename_keys
from medseg.models.decoders.neck import to_grid
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec
from medseg.weights.report import Report

_COARSE = 2.0
"""An axis is coarse if its spacing is at least this many times that of each other axis."""
OF = ("model.encoder.", "model.encoder.of.")
"""Prefix of the keys in messages of the inner encoder, and their prefix in the configuration."""


class SliceWise(Encoder):
    """An encoder of images applied to every slice of a volume, alone or with its neighbours as channels.

    Slices are folded into the batch while the encoder runs; its features are then stacked to grids ``[b, c, *s]``
    of stride 1 along the axis of the slices. Tokens become grids; class and register tokens are left out.

    With ``neighbours`` n, the channels of an image are those of the slices -n to n, one slice after another;
    beyond the ends the outermost slice is repeated. So one modality and one neighbour make the three channels of
    photographs, whose kernels ``adapt=repeat`` gives to the slice before, the slice and the slice after.

    Weights, ``adapt`` and ``least_share`` are settings of the inner encoder.

    Args:
        spec: Data and plan.
        of: Makes the encoder of images.
        axis: Axis of the slices: 0, 1, 2, or from the end. None for the axis whose spacing is at least twice that of
            the others, or else the last (superior: axial slices).
        neighbours: Number of slices on either side that become channels.

    Raises:
        InputError: Images instead of volumes, no such axis, or what the inner encoder rejects.

    Example:
        ``medseg-train model=encoder_decoder model/encoder=sliced model/encoder@model.encoder.of=timm
        model.encoder.of.name=resnet18 model/decoder=unet``
    """

    ndims = (3,)
    option: ClassVar[str] = "sliced"
    """Its name in ``conf/model/encoder``."""

    def __init__(
        self, spec: ModelSpec, *, of: Callable[[ModelSpec], Encoder], axis: int | None = None, neighbours: int = 0
    ) -> None:
        if spec.ndim != 3:
            raise InputError(
                f"model/encoder={self.option}: slices are of volumes, the data has {spec.ndim} spatial axes; "
                "take model.encoder.of"
            )
        if axis is not None and not -3 <= axis < 3:
            raise InputError(f"model.encoder.axis={axis}: expected 0, 1, 2 or null")
        if neighbours < 0:
            raise InputError(f"model.encoder.neighbours={neighbours}: expected 0 or more slices")
        axis = coarse_axis(spec.spacing) if axis is None else axis % 3
        flat = of_slices(spec, axis, neighbours)
        with rename_keys(OF):
            inner = of(flat)
        self.axis = axis
        super().__init__(
            spec,
            [Feature(f.channels, self.along(f.stride, 1)) for f in inner.features],
            self.along(inner.divisor, 1),
            fixed_shape=None if inner.fixed_shape is None else self.along(inner.fixed_shape, spec.patch_shape[axis]),
        )
        self.inner, self.neighbours = inner, neighbours

    def along(self, plane: Sequence[object], value: object) -> tuple[Any, ...]:
        """Values of the two axes of a slice, with ``value`` inserted at the axis of slices."""
        return (*plane[: self.axis], value, *plane[self.axis :])

    @property
    def trunk(self) -> nn.Module:
        """The trunk of the inner encoder."""
        return self.inner.trunk

    @property
    def stem(self) -> Any:
        """The stem of the inner encoder."""
        return self.inner.stem

    @property
    def settled(self) -> Mapping[str, object]:
        """Resolved settings of the inner encoder; see ``Network.settled``."""
        return {"of": self.inner.settled} if self.inner.settled else {}

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the weights of the inner encoder; see ``Encoder.initialise``."""
        if statistics is not None:
            statistics = {key: list(values) * (2 * self.neighbours + 1) for key, values in statistics.items()}
        with rename_keys(OF):
            return self.inner.initialise(statistics)

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        last = image.movedim(self.axis + 2, -1)
        slices = fold(with_neighbours(last, self.neighbours))
        grids = [
            to_grid(output, feature, slices.shape[2:])
            for output, feature in zip(self.inner(slices), self.inner.features, strict=True)
        ]
        return [unfold(grid, len(image)).movedim(-1, self.axis + 2) for grid in grids]


def coarse_axis(spacing: Sequence[float]) -> int:
    """The axis of volumes along which slices lie.

    Example:
        >>> coarse_axis((1.0, 1.0, 1.0)), coarse_axis((4.0, 0.7, 0.7)), coarse_axis((1.2, 0.8, 0.8))
        (2, 0, 2)
    """
    widest = max(range(3), key=lambda axis: spacing[axis])
    others = max(s for axis, s in enumerate(spacing) if axis != widest)
    return widest if spacing[widest] >= _COARSE * others else 2


def of_slices(spec: ModelSpec, axis: int, neighbours: int) -> ModelSpec:
    """The spec of the slices of a volume, with neighbours as channels."""

    def plane(values: Sequence[object]) -> tuple[Any, ...]:
        return tuple(v for i, v in enumerate(values) if i != axis)

    offsets = range(-neighbours, neighbours + 1)
    return replace(
        spec,
        in_channels=spec.in_channels * len(offsets),
        patch_shape=plane(spec.patch_shape),
        spacing=plane(spec.spacing),
        kernels=tuple(plane(kernel) for kernel in spec.kernels),
        strides=tuple(plane(stride) for stride in spec.strides),
        channels=tuple(replace(c, name=_named(c.name, i)) for i in offsets for c in spec.channels),
    )


def _named(channel: str, offset: int) -> str:
    return channel if offset == 0 else f"{channel} {'before' if offset < 0 else 'after'} {abs(offset)}"


def with_neighbours(volume: Float[Tensor, "b c h w d"], neighbours: int) -> Float[Tensor, "b k h w d"]:
    """Each slice with the channels of those before and after it, in the order of the slices.

    Example:
        >>> with_neighbours(torch.tensor([7.0, 8, 9]).reshape(1, 1, 1, 1, 3), 1).squeeze()
        tensor([[7., 7., 8.],
                [7., 8., 9.],
                [8., 9., 9.]])
    """
    if neighbours == 0:
        return volume
    place = torch.arange(volume.shape[-1], device=volume.device)
    shifted = [(place + i).clamp(0, len(place) - 1) for i in range(-neighbours, neighbours + 1)]
    return torch.cat([volume.index_select(-1, at) for at in shifted], dim=1)


def fold(volume: Float[Tensor, "b c h w d"]) -> Float[Tensor, "bd c h w"]:
    """Slices as images of a batch: all of the first volume, then all of the second."""
    return volume.movedim(-1, 1).flatten(0, 1)


def unfold(slices: Float[Tensor, "bd c h w"], batch: int) -> Float[Tensor, "b c h w d"]:
    """``batch`` volumes from their slices; the inverse of ``fold``."""
    return slices.unflatten(0, (batch, -1)).movedim(1, -1)
