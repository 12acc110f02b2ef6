"""Drawn time series: fields through a year, deterministic, so that every command runs anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg import formats
from medseg.data.layout.dates import DateLayout, shown
from medseg.data.reading.options import ReadOptions
from medseg.data.synthetic.phantom_scenes import DrawnScenes
from medseg.data.synthetic.series import BANDS, COLOURS, LABELS, NODATA, draw_series
from medseg.errors import InputError

_DRAWING = 1
"""Raised with every change of the drawing, so that series drawn before are not taken for new ones."""


class PhantomSeries(DrawnScenes):
    """Fields of three classes in a year of dates, with gaps and clouds; a single date tells nothing of the class.

    The files are ``images/field_000_20200117.tif`` and so on, and one mask a case.

    Args:
        root: Cache folder.
        reading: Options of reading; slots default to ``n_dates``.
        n_scenes: Cases for training and validation.
        n_test: Further cases, with labels.
        shape: Rows and columns.
        n_dates: Number of dates of a case without gaps.
        seed: Another seed draws other cases.
        channels: Channels of the network: bands of ``phenology.BANDS``, or computed ones, as for ``RastersDataset``.
        normalisation: Scheme of every channel, as for ``RastersDataset``.

    Raises:
        InputError: Fewer than 5 dates, which do not tell two cycles a year from none or one.
    """

    name = "phantom_series"

    def __init__(
        self,
        root: Path | str,
        *,
        reading: ReadOptions,
        n_scenes: int = 10,
        n_test: int = 2,
        shape: Sequence[int] = (128, 128),
        n_dates: int = 6,
        seed: int = 0,
        channels: Sequence[str | Mapping[str, str]] = BANDS,
        normalisation: str = "standard",
    ) -> None:
        if n_dates < 5:
            raise InputError(f"phantom_series: got n_dates={n_dates}, expected 5 or more, to tell two cycles a year")
        slots = reading.dates.slots if reading.dates and reading.dates.slots else n_dates
        super().__init__(
            root,
            {"n_scenes": n_scenes, "n_test": n_test, "shape": shape, "dates": n_dates, "seed": seed},
            drawing=_DRAWING,
            channels=channels,
            labels=LABELS,
            reading=replace(reading, dates=DateLayout(slots=slots)),
            colours=COLOURS,
            normalisation=normalisation,
        )

    def draw(self, number: int, images: Path, masks: Path) -> None:
        """Draw one case."""
        series = draw_series(*(self.settings["seed"], number, self.settings["shape"], self.settings["dates"]))
        name = f"field_{number:03d}"
        for day, image in zip(series.days, series.images, strict=True):
            path = images / f"{name}_{shown(day).replace('-', '')}.tif"
            formats.write_image(path, image, series.grid, names=BANDS, nodata=NODATA)
        formats.write(masks / f"{name}.tif", series.label, series.grid, labels=self.spec.labels)
