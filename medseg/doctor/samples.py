"""Samples: cases that only their dataset can read (torchgeo's), seen as files."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.data.reading.open_case import CaseReader
from medseg.formats.source import Source
from medseg.geometry.box import Box


class SampleSource(Source):
    """The image or the label of an opened case as one file on its grid; labels by the first value of each class.

    Args:
        opened: The case.
        what: Which of them.
    """

    def __init__(self, opened: CaseReader, what: Literal["image", "label"]) -> None:
        spec = opened.spec
        self.path, self.grid = opened.case.images[0], opened.grid
        names = tuple(c.name for c in spec.channels)
        self.names = names if what == "image" and not spec.dates else ()
        self.n_channels = len(names) * max(1, spec.dates) if what == "image" else 1
        self.dtype = np.dtype(np.float32 if what == "image" else np.int32)
        self._opened, self._what = opened, what
        self._values = np.array([c.values[0] for c in spec.labels.classes], dtype=np.int32)

    def _read(self, box: Box, channels: tuple[int, ...]) -> npt.NDArray[np.generic]:
        sample = self._opened.read(box)
        if self._what == "image":
            return sample.planes[list(channels)]
        index = np.zeros(box.shape, dtype=np.int64) if sample.label is None else np.maximum(sample.label, 0)
        return self._values[index][None]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        sample = self._opened.read(box)
        if self._what == "image":
            return sample.valid
        return np.zeros(box.shape, dtype=bool) if sample.label is None else np.asarray(sample.label >= 0)
