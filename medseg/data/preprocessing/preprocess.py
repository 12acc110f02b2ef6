"""From a case as read to what a network sees, and back: reorient, crop, normalise, resample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from medseg.data.preprocessing.normalise import CLASSES, ImageStats, Normalisation, normalise, normalise_dates
from medseg.errors import InputError
from medseg.geometry.box import Box, bounding_box
from medseg.geometry.grid import Grid, reorient
from medseg.geometry.resample import resample_image, resample_label, resampled_grid
from medseg.sample import Sample


@dataclass(frozen=True)
class PreprocessTrace:
    """What preprocessing did to a case's geometry, so that it can be undone.

    Attributes:
        source: Grid of the file.
        axes: Axis order given to ``reorient``.
        flips: Flips given to ``reorient``.
        box: Box kept of the reoriented array.
        grid: Grid after resampling.
    """

    source: Grid
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    box: Box
    grid: Grid

    @classmethod
    def unmoved(cls, grid: Grid) -> PreprocessTrace:
        """Of a case that stays on its own cells."""
        return cls(grid, tuple(range(grid.ndim)), (False,) * grid.ndim, Box.whole(grid.shape), grid)

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {
            "source": self.source.to_dict(),
            "axes": list(self.axes),
            "flips": list(self.flips),
            "box": [list(self.box.start), list(self.box.stop)],
            "grid": self.grid.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PreprocessTrace:
        """Rebuild what ``to_dict`` gave."""
        return cls(
            Grid.from_dict(stored["source"]),
            tuple(stored["axes"]),
            tuple(stored["flips"]),
            Box(*(tuple(corner) for corner in stored["box"])),
            Grid.from_dict(stored["grid"]),
        )


def nonzero_mask(image: Float[np.ndarray, "c *s"]) -> Bool[np.ndarray, " *s"]:
    """Cells where any channel is not zero, holes filled (nnU-Net's nonzero mask)."""
    return ndimage.binary_fill_holes((image != 0).any(axis=0))


def to_canonical(sample: Sample) -> tuple[Sample, tuple[int, ...], tuple[bool, ...]]:
    """The sample with axes towards right, anterior, superior (volumes), and how it was turned."""
    axes, flips = sample.grid.canonical()
    label = None if sample.label is None else reorient(sample.label, axes, flips)
    turned = replace(
        sample,
        image=reorient(sample.image, axes, flips),
        label=label,
        votes=None if sample.votes is None else reorient(sample.votes, axes, flips),
        valid=reorient(sample.valid, axes, flips),
        grid=sample.grid.reorient(axes, flips),
    )
    return turned, axes, flips


def crop(sample: Sample, box: Box) -> Sample:
    """The sample's cells inside ``box``."""
    label = None if sample.label is None else sample.label[box.slices]
    within: tuple[EllipsisType | slice, ...] = (..., *box.slices)
    valid, grid = sample.valid[box.slices], sample.grid.crop(box)
    votes = None if sample.votes is None else sample.votes[within]
    return replace(sample, image=sample.image[within], label=label, valid=valid, grid=grid, votes=votes)


def _resampled_votes(sample: Sample, shape: Sequence[int]) -> Int[np.ndarray, "r *t"] | None:
    """Labels of observers on ``sample.grid.resized(shape)``, each by itself."""
    if sample.votes is None:
        return None
    return np.stack([resample_label(own, sample.grid, shape) for own in sample.votes])


def content_box(sample: Sample) -> Box:
    """Bounding box of the nonzero mask (holes need no filling); the whole image where everything is zero."""
    return bounding_box((sample.planes != 0).any(axis=0)) or Box.whole(sample.grid.shape)


@dataclass(frozen=True)
class Preprocess:
    """The settings of preprocessing; the same object prepares training cases and new ones.

    Attributes:
        spacing: Target distance of cells along right, anterior, superior, in the frame's unit. None
            leaves every case on its own cells: nothing is reoriented, cropped or resampled, so that
            windows of a scene can be prepared one by one.
        rules: One normalisation a channel.
        masked: Take z-score statistics inside the nonzero mask only, and leave 0 outside.
    """

    spacing: tuple[float, ...] | None
    rules: tuple[Normalisation, ...]
    masked: bool = False

    @property
    def per_image(self) -> bool:
        """Whether statistics of the whole image are needed before a window of it can be prepared."""
        return any(rule.per_image for rule in self.rules)

    def window(self, sample: Sample, stats: Sequence[ImageStats] | None = None, *, in_place: bool = False) -> Sample:
        """A window (or all) of a case that stays on its own cells, normalised.

        Args:
            sample: The window, raw.
            stats: Statistics of the case, one a channel, if ``per_image``; None takes those of the window.
            in_place: Overwrite the image of ``sample``, which nobody else needs.
        """
        self._check(sample)
        if in_place:
            self._normalised(sample, sample.valid, stats, sample.image)
            return sample
        return replace(sample, image=self._normalised(sample, sample.valid, stats))

    def _normalised(
        self,
        sample: Sample,
        counted: Bool[np.ndarray, " *s"],
        stats: Sequence[ImageStats] | None = None,
        out: Float[np.ndarray, "..."] | None = None,
    ) -> Float[np.ndarray, "..."]:
        """Of a time series, every date by the same rules, and by statistics of all dates together."""
        if sample.days is not None:
            return normalise_dates(sample.image, counted, self.rules, stats, out, sample.present)
        return normalise(sample.image, counted, self.rules, stats, out, sample.present)

    def __call__(self, sample: Sample, *, in_place: bool = False) -> tuple[Sample, PreprocessTrace]:
        """The preprocessed sample, and what undoes it.

        Args:
            sample: The case, raw.
            in_place: Overwrite the image of ``sample``, which nobody else needs.

        Raises:
            InputError: The sample has another number of channels or axes than was planned.
        """
        self._check(sample)
        if self.spacing is None:
            return self.window(sample, in_place=in_place), PreprocessTrace.unmoved(sample.grid)
        turned, axes, flips = to_canonical(sample)
        box = content_box(turned)
        cut = crop(turned, box)
        counted = cut.valid & nonzero_mask(cut.planes) if self.masked else cut.valid
        image = self._normalised(cut, counted, out=cut.image if in_place else None)
        grid, lead = resampled_grid(cut.grid, self.spacing, case=sample.case), image.shape[: image.ndim - counted.ndim]
        image = self._resampled(image.reshape(-1, *cut.grid.shape), cut.grid, grid.shape).reshape(*lead, *grid.shape)
        label = None if cut.label is None else resample_label(cut.label, cut.grid, grid.shape)
        valid = cut.valid
        if valid.all():
            valid = np.ones(grid.shape, dtype=bool)
        elif grid.shape != cut.grid.shape:
            share = resample_image(valid[None].astype(np.float32), cut.grid, grid.shape, order=1)[0]
            valid = share > 0.5
        image = np.where(valid, image, np.float32(0))
        votes = _resampled_votes(cut, grid.shape)
        prepared = replace(cut, image=image, label=label, valid=np.ascontiguousarray(valid), grid=grid, votes=votes)
        return prepared, PreprocessTrace(sample.grid, axes, flips, box, grid)

    def _resampled(
        self, image: Float[np.ndarray, "n *s"], old: Grid, shape: Sequence[int]
    ) -> Float[np.ndarray, "n *t"]:
        """Channels on ``old.resized(shape)``: quantities as an image, class numbers of a last channel as a label."""
        if self.rules[-1].scheme != CLASSES:
            return resample_image(image, old, shape)
        classes = resample_label(image[-1].astype(np.int16), old, shape).astype(np.float32)
        return np.concatenate([resample_image(image[:-1], old, shape), classes[None]])

    def _check(self, sample: Sample) -> None:
        if 0 in sample.grid.shape:
            raise InputError(
                f"{sample.case}: its shape is {sample.grid.shape}, expected at least one cell on each axis"
            )
        channels = sample.image.shape[-sample.valid.ndim - 1]
        if channels != len(self.rules):
            raise InputError(f"{sample.case}: got {channels} channels, the plan has {len(self.rules)}")
        if self.spacing is not None and sample.grid.ndim != len(self.spacing):
            raise InputError(f"{sample.case}: got {sample.grid.ndim} axes, the plan has {len(self.spacing)}")

    def to_dict(self) -> dict[str, object]:
        """JSON-able form, which also keys the store."""
        return {
            "spacing": None if self.spacing is None else list(self.spacing),
            "rules": [rule.to_dict() for rule in self.rules],
            "masked": self.masked,
        }
