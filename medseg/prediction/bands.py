"""Files that are written in addition to label files: probabilities, and how sure the networks are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from jaxtyping import Bool

from medseg import formats
from medseg.formats import geotiff_write, nifti
from medseg.geometry.grid import Grid
from medseg.inference.bands import STEPS, probability_bands, uncertainty_bands, uncertainty_names
from medseg.inference.case_logits import CaseLogits, background_slab
from medseg.inference.rows import Slab
from medseg.inference.stream import BandsOf
from medseg.labels import LabelTable
from medseg.runtime.atomic import atomic_file

NODATA = 255
"""Stored where cells are not valid; other values are multiplied by ``SCALE``."""
SCALE = 1 / STEPS
BAND_KINDS = ("probabilities", "uncertainty")
"""Kinds of files of bands, which are the keys of ``medseg-predict`` that ask for them."""


@dataclass(frozen=True)
class Bands:
    """One kind of such files.

    Attributes:
        kind: Name of the kind and of its folder.
        of: Maps a slab of logits to bands.
        names: Of the bands.
    """

    kind: str
    of: BandsOf
    names: Sequence[str]

    def path(self, label: Path) -> Path:
        """The file that belongs to a label file: in a folder next to it, volumes as NIfTI, all others as GeoTIFF."""
        return label.parent / band_name(self.kind, label.name)


def band_name(kind: str, label: str) -> str:
    """Path of a file of bands below the folder of its label file.

    Example:
        >>> band_name("probabilities", "case.nrrd"), band_name("uncertainty", "photo.png")
        ('probabilities/case.nii.gz', 'uncertainty/photo.tif')
    """
    own = formats.suffix(label)
    if own in formats.GEOTIFF:
        return f"{kind}/{label}"
    ending = ".nii.gz" if own in (*formats.suffixes("volume"), formats.DICOM) else ".tif"
    return f"{kind}/{formats.stem(label)}{ending}"


def probabilities(labels: LabelTable, temperature: float = 1.0) -> Bands:
    """The probability of each class, or of each region."""
    of = partial(probability_bands, temperature=temperature)
    return Bands("probabilities", of, [r.name for r in labels.regions] or list(labels.names))


def uncertainty(members: int, temperature: float = 1.0) -> Bands:
    """Entropy, and the disagreement of several networks."""
    return Bands("uncertainty", partial(uncertainty_bands, temperature=temperature), uncertainty_names(members))


@contextmanager
def collected(bands: Sequence[Bands], logits: CaseLogits) -> Iterator[list[Collector]]:
    """Collectors of the bands of a case, whose temporary files go when the block ends."""
    with ExitStack() as files:
        yield [Collector(one, logits, files) for one in bands]


class Collector:
    """Bands of a whole case, kept in a temporary file until all its rows are there.

    Args:
        bands: What is kept.
        logits: Of the case; its rows are given to ``add``.
        files: Closes the temporary file.
    """

    def __init__(self, bands: Bands, logits: CaseLogits, files: ExitStack) -> None:
        self.bands = bands
        self._logits = logits
        file = files.enter_context(TemporaryFile(prefix="medseg-"))  # noqa: SIM115
        self._cells = np.memmap(file, np.uint8, "w+", shape=(len(bands.names), *logits.box_shape))

    def add(self, slab: Slab) -> None:
        """Keep the bands of further rows."""
        self._cells[:, slab.rows] = self.bands.of(slab, self._logits.labels)

    def write(self, label: Path, valid: Bool[np.ndarray, " *s"], grid: Grid) -> None:
        """Write the bands next to a label file; cells that preprocessing crops away are background for certain."""
        target = self.bands.path(label)
        target.parent.mkdir(parents=True, exist_ok=True)
        labels = self._logits.labels
        certain = self.bands.of(background_slab(labels), labels).ravel().tolist()
        outside = certain[: len(self._cells)]  # one network has no disagreement
        whole = (
            np.where(valid, self._logits.restored(cells, value), np.uint8(NODATA))
            for cells, value in zip(self._cells, outside, strict=True)
        )
        with atomic_file(target, suffix=formats.suffix(target)) as draft:
            if grid.ndim == 3:
                names = self.bands.names
                nifti.write_bands(draft, whole, len(names), grid, names=names, scale=SCALE)
            else:
                planes = np.stack(list(whole))
                geotiff_write.write(draft, planes, grid, nodata=NODATA, names=self.bands.names, scale=SCALE)
