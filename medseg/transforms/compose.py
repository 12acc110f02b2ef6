"""Compose: the spatial change and the intensity changes of a training, drawn by the key of each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.class_channel import ClassChannel
from medseg.transforms.first_stage import FirstStageErrors
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale, Spatial
from medseg.transforms.transform import Params, PatchSpec, Transform
from medseg.transforms.turns import RandomRotate90

_FIRST_STAGE = 1_000_000
"""Position of the errors of the first stage among the transforms, by which they draw; no list is as long."""


class Compose:
    """Transforms in order, on the device of the batch.

    Every parameter is a function of (seed, step, sample, position of the transform): of nothing else in
    the batch, of no worker, and of no other transform. Image cells that are not valid, and channels that
    the case lacks or that were dropped, are exactly 0 afterwards.

    Args:
        spatial: First transform, which cuts windows to patches.
        intensity: Name -> transform, in the order of application. None switches one off and keeps its
            place, so that the others draw what they drew before.
        wavelengths_nm: Wavelength of each channel, None for one without; empty if unknown.
        dates: Number of dates of time series; 0 without a time axis.
        classes: Number of classes whose numbers the last channel holds, as the second stage of a cascade sees them;
            0 without such a channel.
        first_stage: Changes of these numbers; None for none.
        groups: Image groups of each channel; empty if images have none.

    Raises:
        InputError: Something that is not a Transform, or does not apply to such data.
    """

    def __init__(
        self,
        spatial: Spatial,
        intensity: Mapping[str, Any],
        wavelengths_nm: Sequence[float | None] = (),
        dates: int = 0,
        classes: int = 0,
        first_stage: FirstStageErrors | None = None,
        groups: Sequence[Sequence[str]] = (),
    ) -> None:
        spec = PatchSpec(
            spatial.patch_shape,
            spatial.spacing,
            spatial.coarse_axis,
            tuple(wavelengths_nm),
            dates,
            tuple(tuple(own) for own in groups),
        )
        wrong = [name for name, t in intensity.items() if not (t is None or isinstance(t, Transform))]
        if wrong:
            raise InputError(f"transform: {wrong} are no transforms; give each a _target_, or null to switch it off")
        self.transforms: dict[str, Transform | None] = {
            "spatial": spatial,
            **{name: t.bind(spec) if t else None for name, t in intensity.items()},
        }
        self._spatial = spatial
        self._class_channel = ClassChannel(classes) if classes else None
        self._first_stage = first_stage if classes else None
        if classes:
            _check_still(intensity)
        self.patch_shape = spatial.patch_shape
        self.window_shape = spatial.window_shape

    @property
    def spatial(self) -> Spatial:
        """The first transform, which cuts windows to patches."""
        return self._spatial

    def without_intensity(self) -> Compose:
        """Only what moves whole patches and has an inverse: mirrors, rotations, scales and turns, drawn as before."""
        moving, spatial = copy(self), replace(self._spatial, elastic=replace(self._spatial.elastic, p=0))
        others = list(self.transforms.items())[1:]
        moving.transforms = {
            "spatial": spatial,
            **{name: t if isinstance(t, RandomRotate90) else None for name, t in others},
        }
        moving._spatial, moving._first_stage, moving.window_shape = spatial, None, spatial.window_shape
        return moving

    def draw(self, batch: Batch) -> dict[str, Params]:
        """Parameters of each transform that is on, by its name, for each sample of the batch."""
        params, folded = {}, list(fold(batch).image.shape)
        folded[1] -= self._class_channel is not None
        for position, (name, transform) in enumerate(self.transforms.items()):
            if transform is not None:
                rngs = generators(batch.key, position)
                if batch.dates and transform.sees_dates:
                    params[name] = transform.draw(rngs, batch.image.shape, batch.dates)
                else:
                    params[name] = transform.draw(rngs, folded)
        if self._class_channel is not None and self._first_stage is not None:
            params["first_stage"] = self._first_stage.draw(
                generators(batch.key, _FIRST_STAGE), self._class_channel.count
            )
        return params

    def apply(self, batch: Batch, params: Mapping[str, Params]) -> Batch:
        """The patches for these parameters, on the device and in the type of the image; int64 labels."""
        with torch.no_grad(), torch.autocast(batch.image.device.type, enabled=False):
            if self._class_channel is not None:
                return self._with_classes(batch, params, self._class_channel)
            return self._changed(batch, params, list(self.transforms))

    def _with_classes(self, batch: Batch, params: Mapping[str, Params], channel: ClassChannel) -> Batch:
        """The patches where the last channel holds class numbers: no intensity change touches them."""
        spatial, *intensity = self.transforms
        batch, numbers = channel.split(self._changed(channel.indicated(batch), params, [spatial]))
        self._spatial.exchange_sides(numbers, params[spatial]["flip"])
        if self._first_stage is not None:
            numbers = self._first_stage.apply(numbers, params["first_stage"])
        return channel.joined(self._changed(batch, params, intensity), numbers)

    def _changed(self, batch: Batch, params: Mapping[str, Params], names: Sequence[str]) -> Batch:
        """The batch after some transforms, in their order; 0 in cells that are not valid and in absent channels."""
        for name in names:
            transform = self.transforms[name]
            if transform is None:
                continue
            if transform.sees_dates:
                batch = transform.apply(batch, params[name])
            else:
                batch = unfold(transform.apply(fold(batch), params[name]), batch.days)
        hidden = ~batch.valid[:, None, None] if batch.dates else ~batch.valid[:, None]
        if not batch.present.all():
            hidden = hidden | ~batch.present.view(*batch.present.shape, *[1] * (batch.valid.ndim - 1))
        return replace(batch, image=batch.image.masked_fill(hidden, 0), label=batch.label.long())

    def __call__(self, batch: Batch) -> Batch:
        """Patches of ``patch_shape`` from windows of ``window_shape``."""
        return self.apply(batch, self.draw(batch))

    def record(self, batch: Batch) -> list[dict[str, dict[str, object]]]:
        """Parameters of each sample, as JSON-able values: transform name -> parameter -> value."""
        by_name = self.draw(batch)
        return [
            {name: {key: value[i].tolist() for key, value in params.items()} for name, params in by_name.items()}
            for i in range(len(batch.key))
        ]


def _check_still(intensity: Mapping[str, Any]) -> None:
    """Raise on a transform after the spatial one that moves cells of the image without the class numbers."""
    moving = [name for name, t in intensity.items() if isinstance(t, (CutMix, RandomRotate90)) and t.p]
    if moving:
        raise InputError(
            f"transform.{moving[0]}: moves cells of the image, and not those that the first stage of a cascade "
            f"predicted; switch it off by transform.{moving[0]}=null"
        )


def fold(batch: Batch) -> Batch:
    """Time series with their dates as consecutive channels; any other batch unchanged."""
    if not batch.dates:
        return batch
    return replace(batch, image=batch.image.flatten(1, 2), present=batch.present.flatten(1, 2), days=None)


def unfold(batch: Batch, days: Int[Tensor, "b t"] | None) -> Batch:
    """Time series from their folded form; the inverse of ``fold``."""
    if days is None:
        return batch
    axes = (days.shape[1], -1)
    return replace(batch, image=batch.image.unflatten(1, axes), present=batch.present.unflatten(1, axes), days=days)


def generators(key: Int[Tensor, "b 3"], position: int) -> list[np.random.Generator]:
    """A random generator for each sample, by its key and the position of the transform.

    Each int64 of the key enters as two 32-bit words, so negative numbers are allowed and no
    two keys give the same words.
    """
    words = np.ascontiguousarray(key.numpy(), dtype=np.int64).view(np.uint32)
    return [np.random.default_rng(np.random.SeedSequence(row, spawn_key=(position,))) for row in words]


def build_compose(
    *,
    patch_shape: Sequence[int],
    spacing: Sequence[float],
    lateral_axis: int | None = None,
    mirror_classes: Sequence[int] | None = None,
    mirror_outputs: Sequence[int] | None = None,
    wavelengths_nm: Sequence[float | None] = (),
    dates: int = 0,
    rotation: Rotation | None = None,
    scale: Scale | None = None,
    elastic: Elastic | None = None,
    mirror: Mirror | None = None,
    window_limit: float = 1.5,
    anisotropy: float = 3.0,
    classes: int = 0,
    first_stage: FirstStageErrors | None = None,
    groups: Sequence[Sequence[str]] = (),
    **intensity: object,
) -> Compose:
    """What ``conf/transform`` names: settings from yaml; the rest from plan, channels and label table.

    Args:
        patch_shape: Shape of a patch, in cells.
        spacing: Spacing of its cells, along each array axis.
        lateral_axis: Array axis across the body, if any.
        mirror_classes: ``LabelTable.mirror()``; None where no class has a side.
        mirror_outputs: ``LabelTable.mirror_outputs()`` of regions; None for classes.
        wavelengths_nm: ``Channel.wavelength_nm`` of each channel; empty if unknown.
        dates: Number of dates of time series; 0 without a time axis.
        rotation: Settings of rotations; None for none.
        scale: Settings of scaling; None for none.
        elastic: Settings of elastic deformations; None for none.
        mirror: Settings of flips; None for none.
        window_limit: Cap on the window, per axis and as a multiple of the patch.
        anisotropy: Ratio from which an axis is coarse.
        classes: Number of classes whose numbers the last channel holds; 0 without such a channel.
        first_stage: Changes of these numbers; None for none.
        groups: ``Channel.groups`` of each channel; empty if images have no groups.
        **intensity: Further transforms by name, in the order of application; None switches one off.
    """
    spatial = Spatial(
        patch_shape=tuple(int(n) for n in patch_shape),
        spacing=tuple(float(v) for v in spacing),
        rotation=rotation or Rotation(p=0),
        scale=scale or Scale(p=0),
        elastic=elastic or Elastic(p=0),
        mirror=mirror or Mirror(p=0),
        lateral_axis=lateral_axis,
        mirror_classes=None if mirror_classes is None else tuple(mirror_classes),
        mirror_outputs=None if mirror_outputs is None else tuple(mirror_outputs),
        window_limit=window_limit,
        anisotropy=anisotropy,
    )
    return Compose(spatial, intensity, wavelengths_nm, dates, classes, first_stage, groups)
