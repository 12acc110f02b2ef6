"""Which predictions a person should look at first, by the uncertainty that was written with them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from jaxtyping import Shaped
from rasterio.windows import Window

from medseg import formats
from medseg.formats.geotiff import unreferenced_unsaid
from medseg.labels import LabelTable
from medseg.prediction.bands import NODATA, SCALE, band_name
from medseg.runtime.atomic import write_whole

REVIEW = "review.csv"
"""Name of the list, next to the label files."""
_ROWS = 1024  # of a scene in memory


@dataclass
class CaseUncertainty:
    """Sums of one case over its valid cells.

    Attributes:
        cells: Number of valid cells.
        foreground: Number of those that are predicted as another class than the background.
        of_cells: Sum of each band over valid cells.
        of_foreground: Sum of each band over foreground.
    """

    cells: int = 0
    foreground: int = 0
    of_cells: list[float] = field(default_factory=list)
    of_foreground: list[float] = field(default_factory=list)

    def add(
        self, labels: Shaped[np.ndarray, " *s"], bands: Shaped[np.ndarray, "n *s"], background: int | None
    ) -> CaseUncertainty:
        """Count further cells, and return itself.

        Args:
            labels: Saved values.
            bands: Stored uncertainty.
            background: Saved value that is no foreground; None if every class is.
        """
        valid = bands[0] != NODATA
        foreground = valid if background is None else valid & (labels != background)
        self.cells += int(valid.sum())
        self.foreground += int(foreground.sum())
        self.of_cells = _added(self.of_cells, [float(band[valid].sum() * SCALE) for band in bands])
        self.of_foreground = _added(self.of_foreground, [float(band[foreground].sum() * SCALE) for band in bands])
        return self

    @property
    def means(self) -> list[float]:
        """Mean of each band over the foreground; over all valid cells where there is none."""
        sums, count = (self.of_foreground, self.foreground) if self.foreground else (self.of_cells, self.cells)
        return [total / count if count else math.nan for total in sums]


def _added(sums: Sequence[float], further: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(sums or [0.0] * len(further), further, strict=True)]


def write_review(folder: Path, names: Sequence[str], labels: LabelTable) -> Path:
    """List the cases of a folder of predictions, the least certain first, in ``review.csv``.

    A case is as uncertain as the cells of its foreground are on average: of several networks by their disagreement,
    of one by its entropy, both as shares of the largest possible entropy. Cases without foreground come last.

    Args:
        folder: Of the label files, with ``uncertainty/`` in it.
        names: Names of the label files.
        labels: Meaning of the values.

    Returns:
        The file.
    """
    background = labels.classes[0].saved if labels.background else None
    found = {}
    for name in names:
        total = CaseUncertainty()
        for cells, bands in _parts(folder / name, folder / band_name("uncertainty", name)):
            total.add(cells, bands, background)
        found[formats.stem(name)] = total
    order = sorted(found, key=lambda case: (found[case].foreground == 0, -found[case].means[-1], case))
    columns = ["entropy", "disagreement"][: max((len(one.means) for one in found.values()), default=1)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", *columns, "foreground_cells"])
    for case in order:
        table.writerow([case, *(f"{mean:.5f}" for mean in found[case].means), found[case].foreground])
    write_whole(folder / REVIEW, text.getvalue())
    return folder / REVIEW


def _parts(label: Path, uncertainty: Path) -> Iterator[tuple[Any, Any]]:
    """Label values and bands of a case, a part at a time."""
    if formats.suffix(uncertainty) not in formats.GEOTIFF:
        stored = nib.load(uncertainty).dataobj
        bands = [np.asarray(stored.get_unscaled()[..., band]) for band in range(stored.shape[-1])]
        yield formats.open(label).read()[0], np.stack(bands)
        return
    with unreferenced_unsaid(), rasterio.open(uncertainty) as bands, rasterio.open(label) as values:
        for row in range(0, bands.height, _ROWS):
            window = Window(0, row, bands.width, min(_ROWS, bands.height - row))
            yield values.read(1, window=window), bands.read(window=window)
