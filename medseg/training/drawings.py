"""Drawings of predicted cases for reports and loggers, of scenes from a reduced image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from medseg.data.case import Case
from medseg.geometry.box import Box
from medseg.prediction.labelled import LabelledPrediction, Open
from medseg.sample import DataSpec, Sample, fullest_date
from medseg.viz.false_colour import reduction
from medseg.viz.figures import panels_figure, to_png
from medseg.viz.logged_images import Picture, case_title, pictures
from medseg.viz.overlay import Panels


@dataclass(frozen=True)
class CaseDrawing:
    """A labelled and predicted case as pictures.

    Attributes:
        case: Case identifier.
        png: Image, label and prediction, for a report.
        views: The same for loggers that show pictures.
    """

    case: str
    png: bytes
    views: Sequence[Picture]


class ReducedImage:
    """Every n-th cell of the windows of a 2D image, as pictures show it.

    Args:
        shape: Of the image.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        self._step = reduction(shape)
        self._cells: Float[np.ndarray, "..."] | None = None
        self._has_dates = False

    def add(self, box: Box, window: Sample) -> None:
        """Keep the cells of a window that are shown."""
        if self._cells is None:
            cells = [-(-n // self._step) for n in self._shape]
            self._cells = np.zeros((*window.image.shape[: -len(cells)], *cells), np.float32)
            self._has_dates = window.days is not None
        bounds = zip(box.start, box.stop, strict=True)
        places: tuple[Any, ...] = (..., *[slice(-(-a // self._step), -(-b // self._step)) for a, b in bounds])
        shown: tuple[Any, ...] = (..., *[slice(-a % self._step, None, self._step) for a in box.start])
        self._cells[places] = window.image[shown]

    @property
    def picture(self) -> Float[np.ndarray, "c *s"]:
        """The channels; of a time series those of one date."""
        if self._cells is None:
            raise ValueError("no window was read")
        return fullest_date(self._cells) if self._has_dates else self._cells


def draw(
    case: Case, predicted: LabelledPrediction, reduced: ReducedImage | None, open_case: Open, spec: DataSpec
) -> CaseDrawing:
    """Draw a case.

    Args:
        case: The case.
        predicted: Its cells.
        reduced: Its image; None reads that of a volume again, of which the first channel is shown.
        open_case: Opens the case.
        spec: Channels and labels.
    """
    image = open_case(replace(case, label=None)).read().picture[:1] if reduced is None else reduced.picture
    panels = Panels.of(
        image,
        predicted.label,
        predicted.index,
        spec.labels,
        predicted.grid,
        channels=spec.channels,
        valid=predicted.valid,
    )
    title = case_title(case.id, spec.labels, predicted.annotated)
    return CaseDrawing(case.id, to_png(panels_figure(panels)), pictures(panels, title))
