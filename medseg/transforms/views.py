"""Views: a weakly and a strongly augmented patch of the same window, and the map from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch, StrongView
from medseg.transforms.compose import Compose
from medseg.transforms.linear import Corners
from medseg.transforms.mix import CutMix
from medseg.transforms.transform import Params
from medseg.transforms.turns import RandomRotate90
from medseg.transforms.warp import displacement_field, sampling_grid, sampling_matrix

_WHOLLY = 0.9999
"""Share of cells with data among those that a value is interpolated from; the rest is rounding."""
_STRONG = 1
"""Spawn key of the strong view's seed."""


class Views:
    """Cuts two views of each patch from one window; the result is the weak one, which holds the strong one.

    The weak view is ``weak`` without elastic deformation and without changes of intensity: mirrors, turns, rotations
    and scales, which have an inverse. The strong view is all of ``strong``. Each is a function of the sample's key.

    Args:
        weak: Augmentation of which the weak view takes the spatial part.
        strong: Augmentation of the strong view, of the same patch and spacing.
        mirror_outputs: Output of the network that each output becomes where left and right are exchanged
            (``LabelTable.mirror_outputs``); None where no class has a side.

    Raises:
        InputError: The strong view pastes parts of other patches.
    """

    def __init__(self, weak: Compose, strong: Compose, mirror_outputs: Sequence[int] | None = None) -> None:
        pasting = [name for name, t in strong.transforms.items() if isinstance(t, CutMix) and t.p]
        if pasting:
            raise InputError(
                f"transform.{pasting[0]}: pastes parts of other patches, which no map between two views knows; switch "
                f"it off in the strong view by {pasting[0]}: null"
            )
        self.weak, self.strong = weak.without_intensity(), strong
        self.mirror_outputs = None if mirror_outputs is None else tuple(mirror_outputs)
        self.patch_shape = weak.patch_shape
        self.window_shape = tuple(np.maximum(self.weak.window_shape, strong.window_shape).tolist())

    def __call__(self, batch: Batch) -> Batch:
        """The weak view of ``patch_shape`` from windows of ``window_shape``; ``strong`` of it is the other one."""
        other = replace(batch, key=strong_key(batch.key))
        drawn, other_drawn = self.weak.draw(batch), self.strong.draw(other)
        weak, strong = self.weak.apply(batch, drawn), self.strong.apply(other, other_drawn)
        carry = Carry(
            placement(self.weak, drawn),
            placement(self.strong, other_drawn),
            weak.valid,
            strong.valid,
            self._exchanged(drawn, other_drawn),
            self.mirror_outputs,
        )
        return replace(weak, strong=StrongView(strong, carry))

    def _exchanged(self, weak: dict[str, Params], strong: dict[str, Params]) -> Bool[np.ndarray, " b"]:
        """Which samples show left and right exchanged in one of the views only."""
        flips = [params["spatial"]["flip"] for params in (weak, strong)]
        axis = self.weak.spatial.lateral_axis
        if axis is None or self.mirror_outputs is None:
            return np.zeros(len(flips[0]), dtype=bool)
        return np.asarray(flips[0][:, axis] != flips[1][:, axis])


@dataclass(frozen=True)
class Placement:
    """Where the cells of a patch lie in its window.

    Attributes:
        matrix: Offsets from the centre, of cells of the patch -> of the window.
        displacement: Further displacement of each cell of the patch, in cells of the window; None for none.
        bent: Which samples have one.
    """

    matrix: Float[np.ndarray, "b d d"]
    displacement: Float[Tensor, "b d *s"] | None
    bent: Bool[np.ndarray, " b"]


def placement(compose: Compose, params: dict[str, Params]) -> Placement:
    """The placement of patches that are changed with these parameters: by the spatial change, then by turns."""
    spatial, drawn = compose.spatial, params["spatial"]
    matrix = sampling_matrix(
        drawn["degrees"], drawn["scale"], drawn["flip"], spatial.spacing, spatial.planes, spatial.coarse_axis
    )
    displacement, bent = None, np.zeros(len(matrix), dtype=bool)
    if "displacement_cells" in drawn:
        bent = np.asarray(drawn["displacement_cells"].reshape(len(matrix), -1).any(axis=1))
        displacement = displacement_field(torch.from_numpy(drawn["displacement_cells"]).float(), spatial.patch_shape)
    for name, transform in compose.transforms.items():
        if isinstance(transform, RandomRotate90):
            matrix = matrix @ _turns(params[name]["turns"], transform, matrix.shape[1])
            if displacement is not None:
                turned = zip(displacement, params[name]["turns"], strict=True)
                displacement = torch.stack(
                    [transform.turned(field, counts, matrix.shape[1]) for field, counts in turned]
                )
    return Placement(matrix, displacement, bent)


def _turns(counts: Int[np.ndarray, "b p"], transform: RandomRotate90, ndim: int) -> Float[np.ndarray, "b d d"]:
    """Offsets of the cells of turned patches -> of the patches before."""
    matrix = np.tile(np.eye(ndim), (len(counts), 1, 1))
    for number, (first, second) in enumerate(transform.planes):
        quarter = np.eye(ndim)
        quarter[[first, second]] = 0
        quarter[first, second], quarter[second, first] = 1, -1
        powers = np.stack([np.linalg.matrix_power(quarter, int(count)) for count in counts[:, number]])
        matrix = matrix @ powers
    return matrix


@dataclass(frozen=True)
class Carry:
    """Brings values of the weak view onto the cells of the strong one.

    Cells whose place the weak view does not show, or shows without data, and cells of the strong view without data are
    left out by the mask. Where both views differ by mirrors and quarter turns only, values are copied; else they are
    interpolated linearly. Where one view exchanges left and right, the outputs of these classes are exchanged.

    Attributes:
        weak: Placement of the weak view.
        strong: Placement of the strong view.
        weak_valid: Cells of the weak view that have data.
        strong_valid: Cells of the strong view that have data.
        exchanged: Samples of which one view shows left and right exchanged.
        mirror_outputs: See ``Views``.
    """

    weak: Placement
    strong: Placement
    weak_valid: Bool[Tensor, "b *s"]
    strong_valid: Bool[Tensor, "b *s"]
    exchanged: Bool[np.ndarray, " b"]
    mirror_outputs: tuple[int, ...] | None = None

    @torch.no_grad()
    def __call__(self, values: Float[Tensor, "b k *s"]) -> tuple[Float[Tensor, "b k *s"], Bool[Tensor, "b *s"]]:
        """Values on the cells of the strong view, and which cells have one; the others are 0."""
        if values.shape[2:] != self.weak_valid.shape[1:]:
            raise ValueError(f"got values of {tuple(values.shape[2:])} cells, expected {self.weak_valid.shape[1:]}")
        inverse = np.linalg.inv(self.weak.matrix)
        matrices = inverse @ self.strong.matrix
        carried, mask = values.clone(), self.weak_valid.clone()
        for i, matrix in enumerate(matrices):
            moved = None if self.strong.bent[i] else _copied(matrix, values.shape[2:])
            if moved is None:
                carried[i], mask[i] = self._interpolated(values[i], i, matrix, inverse[i])
            else:
                carried[i], mask[i] = moved.of(values[i]), moved.of(self.weak_valid[i])
            if self.exchanged[i] and self.mirror_outputs is not None:
                carried[i] = carried[i, list(self.mirror_outputs)]
        mask &= self.strong_valid
        return carried.masked_fill(~mask[:, None], 0), mask

    def _interpolated(
        self, values: Float[Tensor, "k *s"], i: int, matrix: Float[np.ndarray, "d d"], inverse: Float[np.ndarray, "d d"]
    ) -> tuple[Float[Tensor, "k *s"], Bool[Tensor, " *s"]]:
        """Values of one sample by linear interpolation, and the cells that lie wholly between cells with data."""
        shape, device = values.shape[1:], values.device
        displacement = None
        if self.strong.displacement is not None:
            back = torch.from_numpy(inverse).float()
            displacement = torch.einsum("ij,j...->i...", back, self.strong.displacement[i])[None].to(device)
        grid = sampling_grid(torch.from_numpy(matrix[None]).float().to(device), shape, shape, displacement)[0]
        valid = self.weak_valid[i]
        blended = Corners.around(grid, shape).blend(torch.cat([values.masked_fill(~valid, 0), valid[None].to(values)]))
        share = blended[-1]
        carried = blended[:-1] / share.clamp(min=0.5)
        return carried.unflatten(1, shape).to(values), (share > _WHOLLY).unflatten(0, shape)


@dataclass(frozen=True)
class _Copy:
    """Mirrors and exchanges of axes that move whole cells."""

    flips: tuple[int, ...]
    order: tuple[int, ...]

    def of(self, cells: Shaped[Tensor, "*lead_s"]) -> Shaped[Tensor, "*lead_s"]:
        """The moved cells of an array whose last axes are those of space."""
        lead = cells.ndim - len(self.order)
        return cells.flip([lead + a for a in self.flips]).permute(*range(lead), *(lead + a for a in self.order))


def _copied(matrix: Float[np.ndarray, "d d"], shape: Sequence[int]) -> _Copy | None:
    """The move of whole cells that a matrix is; None if it is another."""
    whole = matrix.round()
    if not np.allclose(matrix, whole, atol=1e-9) or (np.abs(whole).sum(axis=0) != 1).any():
        return None
    target = np.abs(whole).argmax(axis=1)  # axis of the result that each axis of the source becomes
    if len(set(target.tolist())) < len(shape) or any(shape[a] != shape[b] for a, b in enumerate(target)):
        return None
    flips = tuple(a for a, b in enumerate(target) if whole[a, b] < 0)
    return _Copy(flips, tuple(np.argsort(target).tolist()))


def strong_key(key: Int[Tensor, "b 3"]) -> Int[Tensor, "b 3"]:
    """Keys of the strong views: the seed is another one, a function of the whole key; step and sample stay."""
    rows = np.ascontiguousarray(key.numpy(), dtype=np.int64)
    derived = [np.random.SeedSequence(row.view(np.uint32), spawn_key=(_STRONG,)) for row in rows]
    seeds = [int(one.generate_state(1, np.uint64)[0] >> np.uint64(1)) for one in derived]
    return torch.from_numpy(np.column_stack([np.array(seeds, dtype=np.int64), rows[:, 1:]]))
