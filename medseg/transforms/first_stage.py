"""FirstStageErrors: errors as a first stage makes on new cases, added to its predictions while the second trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.transforms.transform import Params, check_range

_POOLS = {2: functional.max_pool2d, 3: functional.max_pool3d}


@dataclass(frozen=True)
class FirstStageErrors:
    """Some classes become thicker, thinner, smoother or lose a component, as in nnU-Net's cascade.

    The first stage is better on the cases that the second one trains on than it will be on new ones, even out of fold.
    Structuring elements are cubes, not balls, so that they are cheap on any device.

    Attributes:
        p: Probability that the classes of a patch change their shape: dilation, erosion, closing or opening.
        class_p: Probability of each class to be among them.
        radius: Largest radius of the structuring element, in cells; it is uniform from 1.
        removal_p: Probability that a component is removed.
        removal_below: Only components of less than this share of the patch are removed.

    Raises:
        InputError: A probability outside 0 to 1, or a radius below 1.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021 (supplement: cascade).
    """

    p: float = 0.4
    class_p: float = 0.5
    radius: int = 8
    removal_p: float = 0.2
    removal_below: float = 0.15

    def __post_init__(self) -> None:
        for name in ("p", "class_p", "removal_p", "removal_below"):
            check_range(f"transform.first_stage.{name}", getattr(self, name), 0, 0)
        if self.radius < 1:
            raise InputError(f"transform.first_stage: radius={self.radius}, expected 1 or more")

    def draw(self, rngs: Sequence[np.random.Generator], count: int) -> Params:
        """Parameters of every sample: ``operation`` (0 none, see ``_OPERATIONS``), ``radius``, ``classes`` ``[b, n]``,
        ``removed`` ``[b, n]`` (which component, in [0, 1); -1 for none).

        Args:
            rngs: One generator a sample.
            count: Number of classes, n.
        """
        drawn = [self._draw_one(rng, count) for rng in rngs]
        return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}

    def _draw_one(self, rng: np.random.Generator, count: int) -> Params:
        changed, operation = rng.random() < self.p, rng.integers(1, len(_OPERATIONS) + 1)
        radius, classes = rng.integers(1, self.radius + 1), rng.random(count) < self.class_p
        removes, place = rng.random() < self.removal_p, rng.random(count)
        of_classes = rng.random(count) < self.class_p
        return {
            "operation": np.asarray(operation * changed),
            "radius": np.asarray(radius),
            "classes": classes,
            "removed": np.where(of_classes & removes, place, -1.0),
        }

    def apply(self, numbers: Int[Tensor, "b *s"], params: Params) -> Int[Tensor, "b *s"]:
        """Class numbers with errors; the input is not modified."""
        changed = numbers.clone()
        for i, cells in enumerate(changed):
            if operation := int(params["operation"][i]):
                for number in np.flatnonzero(params["classes"][i]) + 1:
                    _reshape(cells, int(number), operation, int(params["radius"][i]))
            for number in np.flatnonzero(params["removed"][i] >= 0) + 1:
                self._remove(cells, int(number), float(params["removed"][i][number - 1]))
        return changed

    def _remove(self, cells: Int[Tensor, " *s"], number: int, place: float) -> None:
        """Set one component of a class to 0, in place."""
        mask = (cells == number).cpu().numpy()
        if not mask.any():
            return
        components: npt.NDArray[np.integer] = cc3d.connected_components(mask)
        sizes = np.bincount(components.ravel())
        small = [c for c in range(1, len(sizes)) if sizes[c] < self.removal_below * mask.size]
        if small:
            component = small[int(place * len(small))]
            cells[torch.from_numpy(components == component).to(cells.device)] = 0


def dilated(mask: Bool[Tensor, " *s"], radius: int) -> Bool[Tensor, " *s"]:
    """Cells within a cube of edge ``2 * radius + 1`` around a cell of the mask."""
    pool, ndim = _POOLS[mask.ndim], mask.ndim
    cells = mask[None, None].float()
    for axis in range(ndim):
        edge = [2 * radius + 1 if a == axis else 1 for a in range(ndim)]
        cells = pool(cells, edge, stride=1, padding=[radius if a == axis else 0 for a in range(ndim)])
    return cells[0, 0] > 0


def eroded(mask: Bool[Tensor, " *s"], radius: int) -> Bool[Tensor, " *s"]:
    """Cells whose whole cube lies in the mask, as far as the patch reaches."""
    return ~dilated(~mask, radius)


_OPERATIONS = (
    dilated,
    eroded,
    lambda mask, radius: eroded(dilated(mask, radius), radius),
    lambda mask, radius: dilated(eroded(mask, radius), radius),
)


def _reshape(cells: Int[Tensor, " *s"], number: int, operation: int, radius: int) -> None:
    """Change the shape of a class, in place: what it gains is taken from the others, what it loses becomes 0."""
    mask = cells == number
    if mask.any():
        reshaped = _OPERATIONS[operation - 1](mask, radius)
        cells[mask & ~reshaped] = 0
        cells[reshaped] = number
