"""RandomRotate90: rotations by multiples of 90 degrees, without interpolation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.transform import Params, PatchSpec, Transform, check_range
from medseg.transforms.window import Planes, rotation_planes


@dataclass(frozen=True)
class RandomRotate90(Transform):
    """Turn a patch by 0, 90, 180 or 270 degrees, each equally often, in each of its planes of rotation.

    Nothing is interpolated and no more than the patch is read; image, label and validity stay exact.
    With ``Mirror`` on both axes a 2D patch comes in each of its eight symmetries equally often.

    A quarter turn exchanges two axes, so both need as many cells, as far apart. In a plane where they
    are not so, a patch is turned by 0 or 180 degrees, which is always exact. Planes are those of
    ``window.rotation_planes``: none of them contains a coarse axis.

    Attributes:
        p: Probability, per sample (of which a quarter is turned by 0).
        stretch: Largest ratio of the spacings of two axes that may be exchanged. At 1 objects keep their
            shape; at 1.35 cells of equal degrees may be turned up to a latitude of 42, and objects
            become up to that much longer or shorter.
        planes: (first axis, second axis), turned from the first towards the second as by ``np.rot90``;
            ``bind`` sets it.
        quarters: Whether quarter turns are possible in each plane, or half turns only; ``bind`` sets it.
    """

    p: float = 1.0
    stretch: float = 1.0
    planes: Planes = ()
    quarters: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        check_range("transform.turns", self.p, 0, 0)
        if not self.stretch >= 1:
            raise InputError(f"transform.turns: got stretch={self.stretch}, expected 1 or more")

    def bind(self, spec: PatchSpec) -> RandomRotate90:
        """Find the planes, and which of them are square."""
        planes = rotation_planes(len(spec.patch_shape), spec.coarse_axis)
        return replace(self, planes=planes, quarters=tuple(self._square(spec, plane) for plane in planes))

    def _square(self, spec: PatchSpec, plane: tuple[int, int]) -> bool:
        first, second = (spec.spacing[a] for a in plane)
        alike = max(first, second) <= self.stretch * min(first, second) * (1 + 1e-6)
        return alike and spec.patch_shape[plane[0]] == spec.patch_shape[plane[1]]

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``turns`` [planes], of 90 degrees, 0 where not chosen."""
        on, turns = rng.random() < self.p, rng.integers(4, size=len(self.planes))
        return {"turns": on * np.where(self.quarters, turns, turns // 2 * 2)}

    def apply(self, batch: Batch, params: Params) -> Batch:
        """The turned batch; planes are turned in their order."""
        turned = np.flatnonzero(params["turns"].any(1))
        if not len(turned):
            return batch
        image, label, valid = batch.image.clone(), batch.label.clone(), batch.valid.clone()
        soft = None if batch.soft is None else batch.soft.clone()
        for i in turned:
            for whole in (image, label, valid, *(() if soft is None else (soft,))):
                whole[i] = self.turned(whole[i], params["turns"][i], batch.valid.ndim - 1)
        return replace(batch, image=image, label=label, valid=valid, soft=soft)

    def turned(
        self, cells: Shaped[Tensor, "*lead_s"], counts: Int[np.ndarray, " p"], ndim: int
    ) -> Shaped[Tensor, "*lead_s"]:
        """Cells whose last ``ndim`` axes are those of space, turned in each plane in their order."""
        for count, plane in zip(counts.tolist(), self.planes, strict=True):
            cells = torch.rot90(cells, int(count), [a - ndim for a in plane])
        return cells
