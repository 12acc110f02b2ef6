"""Views: how much of an image each branch of joined encoders sees, and at which resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, lcm

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.encoders.encoder import Encoder, Feature

_AVERAGE = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class View:
    """What a branch sees of an image.

    Attributes:
        stride: Cells of the image along one of its input.
        cut: Cells of the image on either side of each axis that it does not see.
    """

    stride: int
    cut: tuple[int, ...]

    def __call__(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *t"]:
        """The image without its border, averaged where cells are larger."""
        inside = without_border(image, self.cut)
        return inside if self.stride == 1 else _AVERAGE[image.ndim - 2](inside, self.stride)

    def shape(self, patch: Sequence[int]) -> tuple[int, ...]:
        """Cells of its input, of a patch."""
        return tuple(ceil((p - 2 * c) / self.stride) for p, c in zip(patch, self.cut, strict=True))

    def scaled(self, feature: Feature) -> Feature:
        """As a grid, with its stride in cells of the image."""
        return Feature(feature.channels, tuple(s * self.stride for s in feature.stride))


def without_border(grid: Float[Tensor, "b c *s"], cut: Sequence[int]) -> Float[Tensor, "b c *t"]:
    """The cells further from the border than ``cut``."""
    for axis, cells in enumerate(cut, start=2):
        if cells:
            grid = grid.narrow(axis, cells, grid.shape[axis] - 2 * cells)
    return grid


def views_of(
    branches: Sequence[str], patch: Sequence[int], resolution: Mapping[str, int], context: Mapping[str, int]
) -> dict[str, View]:
    """View of each branch: the branch with the widest sees the whole patch, the others their share of its centre.

    Args:
        branches: Names, the first one leads.
        patch: Cells of a training patch.
        resolution: Cells of the image along one of a branch's input, without its context; 1 without an entry.
        context: How many times as much a branch sees along each axis as the first one, in cells as many times as large.

    Raises:
        InputError: A context that is no whole number, or of the first branch; a patch that can't be divided so.

    Example:
        >>> views_of(["near", "far"], (64, 64), {}, {"far": 2})
        {'near': View(stride=1, cut=(16, 16)), 'far': View(stride=2, cut=(0, 0))}
    """
    for name, wide in context.items():
        if not isinstance(wide, int) or wide < 1 or (name == branches[0] and wide > 1):
            raise InputError(
                f"model.encoder.context.{name}={wide}: expected a whole number, 1 or more, and 1 of the first branch "
                f"({branches[0]}), which the others surround"
            )
    widest = max(context.values(), default=1)
    views = {}
    for name in branches:
        wide = context.get(name, 1)
        cut = [(widest - wide) * p / (2 * widest) for p in patch]
        if any(c % 1 for c in cut):
            raise _refused(patch, 2 * widest, name)
        views[name] = View(resolution.get(name, 1) * wide, tuple(int(c) for c in cut))
    return views


def check_aligned(views: Mapping[str, View], features: Sequence[Feature], patch: Sequence[int]) -> None:
    """Raise unless the border of each branch is whole cells of every feature of the first one.

    Raises:
        InputError: With the nearest patch for which it is.
    """
    first, *others = views.values()
    coarsest = [max(strides) for strides in zip(*(f.stride for f in features), strict=True)]
    for name, view in zip(list(views)[1:], others, strict=True):
        apart = [a - b for a, b in zip(first.cut, view.cut, strict=True)]
        if any(cells % stride for cells, stride in zip(apart, coarsest, strict=True)):
            widest = max(v.stride for v in views.values())
            raise _refused(patch, int(2 * widest * max(coarsest)), name)


def _refused(patch: Sequence[int], step: int, name: str) -> InputError:
    fitting = [ceil(p / step) * step for p in patch]
    return InputError(
        f"model.encoder.context: a patch of {tuple(patch)} can't be divided for branch {name} and the first one; set "
        f"plan.patch=[{','.join(map(str, fitting))}]"
    )


def divisor_of(encoders: Mapping[str, Encoder], views: Mapping[str, View]) -> tuple[int, ...]:
    """The least divisor of image shapes that suits every branch."""
    scaled = [[d * views[name].stride for d in encoder.divisor] for name, encoder in encoders.items()]
    return tuple(lcm(*axis) for axis in zip(*scaled, strict=True))


def fixed_shape_of(encoders: Mapping[str, Encoder], views: Mapping[str, View]) -> tuple[int, ...] | None:
    """The only shape of images that the branches take; None where shapes are free.

    Raises:
        InputError: Branches of different shapes.
    """
    shapes = {
        name: tuple(n * views[name].stride + 2 * c for n, c in zip(encoder.fixed_shape, views[name].cut, strict=True))
        for name, encoder in encoders.items()
        if encoder.fixed_shape is not None
    }
    if len(set(shapes.values())) > 1:
        taken = ", ".join(f"{name} images of {shape}" for name, shape in shapes.items())
        raise InputError(f"model/encoder=joined: got branches that take {taken} only; expected the same shape of all")
    return next(iter(shapes.values()), None)
