"""Cases on disk: what a dataset declares, and how one case is read and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from medseg import formats
from medseg.errors import BadInput
from medseg.geometry.grid import Grid
from medseg.sample import Channel, DataSpec, Sample

Nonfinite = Literal["error", "mask"]
"""What to do with NaN and infinite voxels: refuse the case, or mark them as not valid."""

_SCHEMES = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "unit_range", "rgb_to_0_1": "rgb"}


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        id: Unique in its dataset; predictions are named after it.
        images: One file for each channel in order, or one file that holds every channel.
        label: Label file; None where there is none.
        group: What splits may not tear apart; the id itself where nothing is known.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str

    @property
    def files(self) -> list[Path]:
        """Every file that the case is read from."""
        return [*self.images, *([self.label] if self.label else [])]


class Dataset(ABC):
    """Where cases are and what they agree on. One subclass for each layout of files.

    Attributes:
        name: For run folders and reports.
        nonfinite: Passed to ``read_case``.
        grid_tolerance: Passed to ``read_case``, in voxels.
    """

    name: str
    nonfinite: Nonfinite = "error"
    grid_tolerance: float = 0.01

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """Channels, label table and number of axes of every case."""

    @abstractmethod
    def cases(self) -> list[Case]:
        """Labelled cases for training and validation, sorted by id."""

    def test_cases(self) -> list[Case]:
        """Cases that no fold contains, sorted by id, with or without labels; may be empty."""
        return []

    @property
    def normalisation(self) -> tuple[str, ...]:
        """Normalisation scheme of each channel."""
        return tuple(normalisation_scheme(c.name) for c in self.spec.channels)

    def read(self, case: Case) -> Sample:
        """Read one case with the settings of this dataset."""
        return read_case(case, self.spec, nonfinite=self.nonfinite, tolerance=self.grid_tolerance)


def normalisation_scheme(channel_name: str) -> str:
    """Normalisation that a channel's name asks for, by nnU-Net's rules (letter case is ignored).

    Returns:
        ``ct`` (clip to pooled foreground percentiles, then pooled mean and deviation), ``none``,
        ``unit_range`` (minimum and maximum of the image), ``rgb`` (divide by 255), or for every other
        name ``zscore`` (mean and deviation of the image).

    Example:
        >>> [normalisation_scheme(n) for n in ("CT", "T1", "noNorm", "rgb_to_0_1#2")]
        ['ct', 'zscore', 'none', 'rgb']
    """
    return _SCHEMES.get(channel_name.split("#")[0].lower(), "zscore")


def named_channels(names: Sequence[str]) -> tuple[Channel, ...]:
    """Channels of these names; a name that comes again gets ``#2``, ``#3``, as names must be unique.

    Example:
        >>> [c.name for c in named_channels(["CT", "rgb_to_0_1", "rgb_to_0_1"])]
        ['CT', 'rgb_to_0_1', 'rgb_to_0_1#2']
    """
    count = [names[: i + 1].count(name) for i, name in enumerate(names)]
    unit = {"ct": "HU"}
    return tuple(
        Channel(name if n == 1 else f"{name}#{n}", unit=unit.get(normalisation_scheme(name), ""))
        for name, n in zip(names, count, strict=True)
    )


def refuse(offenders: Sequence[str], what: str, way_out: str) -> None:
    """Raise ``BadInput`` that counts the offenders and names the first five; silent if there are none."""
    if offenders:
        raise BadInput(f"{len(offenders)} {what}: {first_five(offenders)}; {way_out}")


def first_five(names: Sequence[str]) -> str:
    """The first five names, and dots if there are more."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def read_case(case: Case, spec: DataSpec, *, nonfinite: Nonfinite = "error", tolerance: float = 0.01) -> Sample:
    """Read the files of one case and hold them to what the dataset declares.

    A volume of a single or few slices is read like any other: patches pad it. So is a case without any
    foreground, which teaches the background. Float label files are accepted where the values are integral.

    Args:
        case: With or without a label.
        spec: What the dataset declares.
        nonfinite: ``error`` refuses NaN and infinite voxels of the image. ``mask`` sets these values to 0
            and marks their voxels as not valid. In a label they are refused always.
        tolerance: Displacement, in voxels, up to which the grids of two files count as one: the largest
            between corresponding corners. Headers that went through other software differ by rounding.

    Returns:
        The case on the grid of its first image file; ``valid`` is true but for masked voxels.

    Raises:
        BadInput: Another number of channels or axes than declared, files on different grids, unknown
            label values, NaN voxels; and whatever a damaged file raises when it is opened.
    """
    image, grid = _read_image(case, spec, tolerance)
    valid = _check_finite(image, case, nonfinite)
    label = None
    if case.label is not None:
        source = formats.open(case.label)
        _check_same_grid(source.grid, case.label, grid, case, tolerance)
        if source.n_channels != 1:
            raise BadInput(
                f"case {case.id}: label {case.label} has {source.n_channels} channels, expected 1 with a class value "
                "in each voxel; merge overlapping masks into one label file"
            )
        label = spec.labels.to_index(source.read()[0], where=str(case.label))
    return Sample(image=image, label=label, valid=valid, grid=grid, case=case.id, group=case.group)


def _read_image(case: Case, spec: DataSpec, tolerance: float) -> tuple[Float[np.ndarray, "c *s"], Grid]:
    sources = [formats.open(path) for path in case.images]
    grid, first = sources[0].grid, case.images[0]
    if grid.ndim != spec.ndim:
        raise BadInput(
            f"case {case.id}: image {first} has {grid.ndim} spatial axes (shape {grid.shape}), expected {spec.ndim}; "
            "a further axis of channels needs its names in the dataset"
        )
    for source, path in zip(sources[1:], case.images[1:], strict=True):
        _check_same_grid(source.grid, path, grid, case, tolerance)
    n_channels = sum(source.n_channels for source in sources)
    if n_channels != len(spec.channels):
        names = [c.name for c in spec.channels]
        raise BadInput(
            f"case {case.id}: {n_channels} channel(s) in {', '.join(map(str, case.images))}, expected {len(names)} "
            f"{names}; mend the files or the channel names"
        )
    image, filled = np.empty((n_channels, *grid.shape), dtype=np.float32), 0
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is then refused by name
        for source in sources:
            image[filled : filled + source.n_channels] = source.read()
            filled += source.n_channels
    return image, grid


def _check_same_grid(grid: Grid, path: Path, reference: Grid, case: Case, tolerance: float) -> None:
    where = f"case {case.id}: {path} does not lie on the grid of {case.images[0]}"
    if (grid.shape, grid.frame) != (reference.shape, reference.frame):
        came, expected = (f"shape {g.shape} in {g.frame}" for g in (grid, reference))
        raise BadInput(
            f"{where}: {came}, expected {expected}; resample it onto that grid, or check that the files belong together"
        )
    offset = grid.offset_from(reference)
    if not offset <= tolerance:
        raise BadInput(
            f"{where}: displaced by up to {offset:.3g} voxels, allowed are {tolerance:g}; if only its header is wrong, "
            f"copy the geometry of the image or set data.grid_tolerance={_round_up(offset)}; if not, resample it"
        )


def _round_up(offset: float) -> str:
    """A tolerance with two digits that accepts ``offset``."""
    digit = 10.0 ** (np.floor(np.log10(offset)) - 1)
    return f"{np.ceil(offset / digit) * digit:.6g}"


def _check_finite(image: Float[np.ndarray, "c *s"], case: Case, nonfinite: Nonfinite) -> Bool[np.ndarray, " *s"]:
    """Valid voxels; with ``mask``, ``image`` is mended in place."""
    finite = np.isfinite(image)
    if finite.all():
        return np.ones(image.shape[1:], dtype=bool)
    if nonfinite == "error":
        channel, *position = (int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        raise BadInput(
            f"case {case.id}: {int((~finite).sum())} NaN or infinite value(s) in {', '.join(map(str, case.images))}, "
            f"first in channel {channel} at {tuple(position)}; mend the file, or set data.nonfinite=mask to leave "
            "these voxels out"
        )
    image[~finite] = 0
    return finite.all(axis=0)
