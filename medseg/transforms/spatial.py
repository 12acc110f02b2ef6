"""Spatial: rotation, scaling, elastic deformation and mirror as one interpolation, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.labels import IGNORE
from medseg.sample import Batch
from medseg.transforms.transform import Params, Transform, check_range
from medseg.transforms.warp import displacement_field, sampling_grid, sampling_matrix, warp, warp_shares
from medseg.transforms.window import Planes, coarse_axis, rotation_planes, window_shape


@dataclass(frozen=True)
class Rotation:
    """Angles are uniform in [-degrees, degrees], one for each plane of rotation.

    Attributes:
        p: Probability that a patch is turned.
        degrees: Largest angle of a 3D patch, around each axis.
        degrees_in_plane: Largest angle of a 2D patch, and of a 3D patch around its coarse axis.
        degrees_elongated: Instead of ``degrees_in_plane`` for a 2D patch that is more than 1.5 times as
            long as wide, physically.
    """

    p: float = 0.2
    degrees: float = 30.0
    degrees_in_plane: float = 180.0
    degrees_elongated: float = 15.0

    def __post_init__(self) -> None:
        check_range("transform.rotation", self.p, 0, 0)
        for name in ("degrees", "degrees_in_plane", "degrees_elongated"):
            if not 0 <= getattr(self, name) <= 360:
                raise InputError(f"transform.rotation: {name}={getattr(self, name)}, expected an angle from 0 to 360")

    def largest(self, patch_shape: Sequence[int], spacing: Sequence[float], coarse: int | None) -> float:
        """Largest angle for such a patch, in degrees."""
        if len(patch_shape) == 3:
            return self.degrees if coarse is None else self.degrees_in_plane
        extent = np.asarray(patch_shape) * np.asarray(spacing)
        return self.degrees_elongated if extent.max() > 1.5 * extent.min() else self.degrees_in_plane


@dataclass(frozen=True)
class Scale:
    """One factor for all axes, uniform in [low, high].

    It multiplies the sampled extent: 1.4 shows objects at 1/1.4 of their size.
    """

    p: float = 0.2
    low: float = 0.7
    high: float = 1.4

    def __post_init__(self) -> None:
        check_range("transform.scale", self.p, self.low, self.high, least=1e-3)


@dataclass(frozen=True)
class Elastic:
    """Displacements of B-spline control points, uniform in [-a, a] cells with a uniform in [low, high].

    Attributes:
        p: Probability.
        low: Least amplitude, in cells.
        high: Largest amplitude, in cells. The deformation cannot fold while it stays below 0.4 times the
            distance of the control points (Choi and Lee, 2000).
        knots: Control points on each axis, at least 4; they lie (cells - 1) / (knots - 3) apart.
    """

    p: float = 0.0
    low: float = 0.0
    high: float = 3.0
    knots: int = 7

    def __post_init__(self) -> None:
        check_range("transform.elastic", self.p, self.low, self.high, least=0)
        if self.knots < 4:
            raise InputError(f"transform.elastic: got knots={self.knots}, a cubic spline needs at least 4")


@dataclass(frozen=True)
class Mirror:
    """Each of ``axes`` is flipped with probability ``p``, independently.

    Attributes:
        p: Probability, per axis.
        axes: Array axes that may be flipped, or ``all``.
    """

    p: float = 0.5
    axes: Literal["all"] | Sequence[int] = "all"

    def __post_init__(self) -> None:
        check_range("transform.mirror", self.p, 0, 0)


@dataclass(frozen=True)
class Spatial(Transform):
    """All spatial changes of a window, and the cut to its centre patch.

    Samples that are turned, scaled or deformed share one sampling grid and one linear interpolation
    (labels: per class, then the largest; soft labels: ``warp_shares``). All others are *copied*, flipped where
    that was drawn: the exact centre crop. Rotations are physical, so cells of unequal edges are not sheared.

    Along a coarse axis (``window.coarse_axis``) nothing is interpolated: such patches are turned in
    their plane only, and scaled and deformed only within it.

    Flipping ``lateral_axis`` exchanges left and right, and with them the classes: a mirrored left
    kidney lies where right kidneys lie, and is labelled as one.

    Attributes:
        patch_shape: Shape of the result, in cells.
        spacing: Spacing of its cells, along each array axis.
        rotation: Settings of rotations; ``p=0`` for none.
        scale: Settings of scaling; ``p=0`` for none.
        elastic: Settings of elastic deformations; ``p=0`` for none.
        mirror: Settings of flips; ``p=0`` for none.
        lateral_axis: Array axis across the body, if any.
        mirror_classes: Mirror image of each class (``LabelTable.mirror``).
        mirror_outputs: Mirror image of each output of the network where these are regions
            (``LabelTable.mirror_outputs``), by which the annotated ones are exchanged; None: that of classes.
        window_limit: Cap on the window, per axis and as a multiple of the patch (``window.window_shape``).
        anisotropy: Ratio from which an axis is coarse.

    Raises:
        InputError: Settings that contradict each other, such as a mirror axis that the patch has not.
    """

    patch_shape: tuple[int, ...]
    spacing: tuple[float, ...]
    rotation: Rotation = field(default_factory=Rotation)
    scale: Scale = field(default_factory=Scale)
    elastic: Elastic = field(default_factory=Elastic)
    mirror: Mirror = field(default_factory=Mirror)
    lateral_axis: int | None = None
    mirror_classes: tuple[int, ...] | None = None
    mirror_outputs: tuple[int, ...] | None = None
    window_limit: float = 1.5
    anisotropy: float = 3.0

    def __post_init__(self) -> None:
        ndim = len(self.patch_shape)
        if ndim not in (2, 3) or len(self.spacing) != ndim:
            raise InputError(
                f"transform: got patch_shape {self.patch_shape} and spacing {self.spacing}, expected 2 or 3 of each"
            )
        used_axes = [*self.mirror_axes, *([] if self.lateral_axis is None else [self.lateral_axis])]
        if any(a not in range(ndim) for a in used_axes):
            raise InputError(
                f"transform: got mirror axes {self.mirror_axes} and lateral axis {self.lateral_axis}, a patch of "
                f"{ndim} axes has {list(range(ndim))}; fix transform.mirror.axes"
            )
        if self.window_limit < 1:
            raise InputError(
                f"transform: got window_limit={self.window_limit}, a window is at least the patch: 1 or more"
            )
        if self.anisotropy < 1:
            raise InputError(f"transform: anisotropy={self.anisotropy}, expected a ratio of 1 or more, such as 3")

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes that may be flipped."""
        return tuple(range(len(self.patch_shape))) if self.mirror.axes == "all" else tuple(self.mirror.axes)

    @property
    def coarse_axis(self) -> int | None:
        """Axis along which nothing is interpolated."""
        return coarse_axis(self.patch_shape, self.spacing, self.anisotropy)

    @property
    def planes(self) -> Planes:
        """Planes in which a patch is turned; one angle is drawn for each."""
        return rotation_planes(len(self.patch_shape), self.coarse_axis)

    @property
    def degrees(self) -> float:
        """Largest angle."""
        return self.rotation.largest(self.patch_shape, self.spacing, self.coarse_axis)

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Shape of the window that is read for a patch; any shape that contains the patch is accepted."""
        return window_shape(
            self.patch_shape,
            self.spacing,
            degrees=self.degrees if self.rotation.p else 0.0,
            scale=self.scale.high if self.scale.p else 1.0,
            displacement_cells=self.elastic.high if self.elastic.p else 0.0,
            limit=self.window_limit,
            coarse=self.coarse_axis,
        )

    def draw_one(self, rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Params:
        """``degrees`` [planes], ``scale`` [], ``flip`` [d], and ``displacement_cells`` [d, knots, ...] if elastic."""
        ndim = len(self.patch_shape)
        turned, angles = rng.random() < self.rotation.p, rng.uniform(-self.degrees, self.degrees, len(self.planes))
        scaled, factor = rng.random() < self.scale.p, rng.uniform(self.scale.low, self.scale.high)
        flip = (rng.random(ndim) < self.mirror.p) & np.isin(np.arange(ndim), self.mirror_axes)
        params = {
            "degrees": angles if turned else np.zeros_like(angles),
            "scale": np.asarray(factor if scaled else 1.0),
            "flip": flip,
        }
        if self.elastic.p:
            bent, amplitude = rng.random() < self.elastic.p, rng.uniform(self.elastic.low, self.elastic.high)
            control = rng.uniform(-amplitude, amplitude, (ndim, *[self.elastic.knots] * ndim)) * bent
            if self.coarse_axis is not None:
                control[self.coarse_axis] = 0
            params["displacement_cells"] = control
        return params

    def apply(self, batch: Batch, params: Params) -> Batch:
        """Patches of ``patch_shape``; the image keeps its type.

        Raises:
            InputError: The windows are smaller than the patch.
        """
        window = tuple(batch.image.shape[2:])
        self._check_window(window)
        starts = [(w - n) // 2 for w, n in zip(window, self.patch_shape, strict=True)]
        centre: tuple[EllipsisType | slice, ...] = (..., *Box.at(starts, self.patch_shape).slices)
        image, label, valid = (tensor[centre].clone() for tensor in (batch.image, batch.label, batch.valid))
        soft = None if batch.soft is None else batch.soft[centre].clone()
        warped = self._interpolates(params)
        if warped.any():
            grids = self._grid({name: value[warped] for name, value in params.items()}, window, image.device)
            for i, grid in zip(np.flatnonzero(warped), grids, strict=True):
                image[i], label[i], valid[i] = warp(batch.image[i], batch.label[i], batch.valid[i], grid)
                if soft is not None and batch.soft is not None:
                    soft[i] = warp_shares(batch.soft[i], label[i], grid)
        _flip([image, label, valid, soft], params["flip"] & ~warped[:, None])
        self.exchange_sides(label, params["flip"])
        soft = self._exchanged(soft, params["flip"], self.mirror_classes)
        annotated = self._exchanged(batch.annotated, params["flip"], self.mirror_outputs or self.mirror_classes)
        return replace(batch, image=image, label=label, valid=valid, annotated=annotated, soft=soft)

    def _check_window(self, window: tuple[int, ...]) -> None:
        """Raise on windows that are smaller than the patch."""
        if len(window) != len(self.patch_shape) or any(w < n for w, n in zip(window, self.patch_shape, strict=True)):
            raise InputError(
                f"transform: got windows of {window}, expected at least the patch {self.patch_shape}; "
                f"read {self.window_shape} cells"
            )

    def exchange_sides(self, label: Int[Tensor, "b *s"], flip: npt.NDArray[np.bool_]) -> None:
        """Exchange left and right classes, in place, in the samples that are flipped across the body."""
        classes = self.mirror_classes
        if self.lateral_axis is None or classes is None or classes == tuple(range(len(classes))):
            return
        for i in np.flatnonzero(flip[:, self.lateral_axis]):
            label[i] = exchange(label[i], classes)

    def _exchanged(
        self, values: Shaped[Tensor, "b k *s"] | None, flip: npt.NDArray[np.bool_], order: Sequence[int] | None
    ) -> Shaped[Tensor, "b k *s"] | None:
        """A value of each class or output: of samples that are flipped across the body, that of the mirror image."""
        if values is None or self.lateral_axis is None or order is None:
            return values
        across = torch.from_numpy(flip[:, self.lateral_axis]).to(values.device)
        return torch.where(across.view(-1, *[1] * (values.ndim - 1)), values[:, list(order)], values)

    @staticmethod
    def _interpolates(params: Params) -> npt.NDArray[np.bool_]:
        """Which samples are interpolated instead of copied."""
        needs = (params["degrees"] != 0).any(1) | (params["scale"] != 1)
        if "displacement_cells" in params:
            needs |= params["displacement_cells"].any(axis=tuple(range(1, params["displacement_cells"].ndim)))
        return needs

    def _grid(self, params: Params, window: tuple[int, ...], device: torch.device) -> Tensor:
        """Sampling grids of the samples."""
        matrix = sampling_matrix(
            params["degrees"], params["scale"], params["flip"], self.spacing, self.planes, self.coarse_axis
        )
        displacement = None
        if "displacement_cells" in params:
            control = torch.from_numpy(params["displacement_cells"]).float().to(device)
            displacement = displacement_field(control, self.patch_shape)
        return sampling_grid(torch.from_numpy(matrix).float().to(device), self.patch_shape, window, displacement)


def _flip(tensors: Sequence[Tensor | None], flip: npt.NDArray[np.bool_]) -> None:
    """Flip each sample, in place, along its axes of space."""
    for i in np.flatnonzero(flip.any(1)):
        axes = [int(a) - flip.shape[1] for a in np.flatnonzero(flip[i])]
        for cells in tensors:
            if cells is not None:
                cells[i] = cells[i].flip(axes)


def exchange(label: Int[Tensor, " *s"], mirror_classes: Sequence[int]) -> Int[Tensor, " *s"]:
    """Each class replaced by its mirror image; ``IGNORE`` stays.

    Example:
        >>> exchange(torch.tensor([0, 1, 2, IGNORE]), (0, 2, 1)).tolist()
        [0, 2, 1, -1]
    """
    table = label.new_tensor([*mirror_classes, IGNORE])  # index -1, IGNORE, reads the last
    return table[label.long()]
