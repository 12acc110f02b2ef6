"""From a case as read to what a network sees, and back: reorient, crop, normalise, resample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medseg.errors import BadInput
from medseg.geometry.box import Box, bounding_box
from medseg.geometry.grid import Grid, reorient, reorient_back
from medseg.geometry.resample import resample_image, resample_label
from medseg.sample import Sample


@dataclass(frozen=True)
class Normalisation:
    """How one channel's raw values become network input.

    Attributes:
        scheme: ``zscore`` (mean and std of the image), ``ct`` (clip to [low, high], then mean and std
            of the dataset's foreground), ``unit_range`` (image minimum and maximum to 0 and 1),
            ``rgb`` (divide by 255) or ``none``.
        mean: Of the dataset's foreground; used by ``ct``.
        std: Of the dataset's foreground; used by ``ct``.
        low: 0.5th percentile of the dataset's foreground; used by ``ct``.
        high: 99.5th percentile of the dataset's foreground; used by ``ct``.
    """

    scheme: str
    mean: float = 0.0
    std: float = 1.0
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        known = ("zscore", "ct", "unit_range", "rgb", "none")
        if self.scheme not in known:
            raise BadInput(f"normalisation {self.scheme!r} is unknown; choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Trace:
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {
            "source": self.source.to_dict(),
            "axes": list(self.axes),
            "flips": list(self.flips),
            "box": [list(self.box.start), list(self.box.stop)],
            "grid": self.grid.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Trace:
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
        valid=reorient(sample.valid, axes, flips),
        grid=sample.grid.reorient(axes, flips),
    )
    return turned, axes, flips


def crop(sample: Sample, box: Box) -> Sample:
    """The sample's cells inside ``box``."""
    label = None if sample.label is None else sample.label[box.slices]
    image = sample.image[(slice(None), *box.slices)]
    return replace(sample, image=image, label=label, valid=sample.valid[box.slices], grid=sample.grid.crop(box))


def content_box(sample: Sample) -> Box:
    """Bounding box of the nonzero mask; the whole image where everything is zero."""
    return bounding_box(nonzero_mask(sample.image)) or Box.whole(sample.grid.shape)


def normalise(
    image: Float[np.ndarray, "c *s"],
    counted: Bool[np.ndarray, " *s"],
    rules: Sequence[Normalisation],
) -> Float[np.ndarray, "c *s"]:
    """Normalise each channel by its rule; cells that do not count become 0.

    Args:
        image: Raw values.
        counted: Cells that enter the statistics and keep a value.
        rules: One a channel.
    """
    normal = np.zeros(image.shape, dtype=np.float32)
    if not counted.any():
        return normal
    for target, channel, rule in zip(normal, image, rules, strict=True):
        cells = channel[counted].astype(np.float64)
        if rule.scheme == "zscore":
            cells = (cells - cells.mean()) / max(float(cells.std()), 1e-8)
        elif rule.scheme == "ct":
            cells = (np.clip(cells, rule.low, rule.high) - rule.mean) / max(rule.std, 1e-8)
        elif rule.scheme == "unit_range":
            cells = (cells - cells.min()) / max(float(np.ptp(cells)), 1e-8)
        elif rule.scheme == "rgb":
            if cells.min() < 0 or cells.max() > 255:
                raise BadInput(
                    f"normalisation rgb expects values in 0..255, came {cells.min():g}..{cells.max():g}; "
                    "name the channel otherwise, or choose plan.normalisation=[zscore]"
                )
            cells = cells / 255
        target[counted] = cells
    return normal


@dataclass(frozen=True)
class Preprocess:
    """The settings of preprocessing; the same object prepares training cases and new ones.

    Attributes:
        spacing: Target distance of cells along right, anterior, superior, in the frame's unit.
        rules: One normalisation a channel.
        masked: Take z-score statistics inside the nonzero mask only, and leave 0 outside.
    """

    spacing: tuple[float, ...]
    rules: tuple[Normalisation, ...]
    masked: bool = False

    def __call__(self, sample: Sample) -> tuple[Sample, Trace]:
        """The preprocessed sample, and what undoes it.

        Raises:
            BadInput: The sample has another number of channels or axes than was planned.
        """
        if len(sample.image) != len(self.rules):
            raise BadInput(f"{sample.case}: {len(sample.image)} channels came, the plan has {len(self.rules)}")
        if sample.grid.ndim != len(self.spacing):
            raise BadInput(f"{sample.case}: {sample.grid.ndim} axes came, the plan has {len(self.spacing)}")
        turned, axes, flips = to_canonical(sample)
        box = content_box(turned)
        cut = crop(turned, box)
        counted = cut.valid & nonzero_mask(cut.image) if self.masked else cut.valid
        image = normalise(cut.image, counted, self.rules)
        grid = cut.grid.resampled(self.spacing)
        image = resample_image(image, cut.grid, grid.shape)
        label = None if cut.label is None else resample_label(cut.label, cut.grid, grid.shape)
        valid = cut.valid
        if grid.shape != cut.grid.shape:
            share = resample_image(valid[None].astype(np.float32), cut.grid, grid.shape, order=1)[0]
            valid = share > 0.5
        image = np.where(valid, image, np.float32(0))
        prepared = replace(cut, image=image, label=label, valid=np.ascontiguousarray(valid), grid=grid)
        return prepared, Trace(sample.grid, axes, flips, box, grid)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which also keys the store."""
        return {
            "spacing": list(self.spacing),
            "rules": [vars(r) for r in self.rules],
            "masked": self.masked,
        }

    def restore_logits(self, logits: Float[np.ndarray, "k *t"], trace: Trace) -> Float[np.ndarray, "k *u"]:
        """Logits of a preprocessed case at the file's own spacing, still cropped and reoriented (linear)."""
        return resample_image(logits, trace.grid, trace.box.shape, order=1)

    def restore_index(self, index: np.ndarray, trace: Trace) -> np.ndarray:
        """Training indices ``[*u]`` of the cropped grid pasted into the file's grid; 0 outside the crop."""
        whole = np.zeros([trace.source.shape[a] for a in trace.axes], dtype=index.dtype)
        whole[trace.box.slices] = index
        return np.ascontiguousarray(reorient_back(whole, trace.axes, trace.flips))
