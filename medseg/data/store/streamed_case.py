"""Cases whose windows are read from their files while training: nothing but an index is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medseg.data.case import Observers
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.data.store.stored_case import StoredCase
from medseg.facts import CaseFacts
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE
from medseg.sample import Sample


@dataclass(frozen=True)
class StreamedCase:
    """A scene that stays in its files; reads like a ``StoredCase``.

    Attributes:
        index: Index of its cells.
        opened: The files.
        preprocess: Prepares a window by itself: no resampling, no statistics of the whole image.
    """

    index: StoredCase
    opened: CaseReader
    preprocess: Preprocess

    @property
    def case(self) -> str:
        """Case identifier."""
        return self.index.case

    @property
    def group(self) -> str:
        """What splits may not tear apart."""
        return self.index.group

    @property
    def facts(self) -> CaseFacts | None:
        """What a table says about the case; None without a table."""
        return self.index.facts

    @property
    def observers(self) -> Observers | None:
        """Whose labels can be read too; None where patches take the joined one."""
        return self.index.observers

    @property
    def grid(self) -> Grid:
        """Geometry of the whole case."""
        return self.index.grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.index.shape

    @property
    def n_valid(self) -> int:
        """Number of valid cells."""
        return self.index.n_valid

    @property
    def counts(self) -> dict[str, int]:
        """Valid cells of each scored class or region."""
        return self.index.counts

    @property
    def annotated(self) -> npt.NDArray[np.bool_] | None:
        """Which outputs of a network the label annotates; None for all."""
        return self.index.annotated

    @property
    def cells(self) -> dict[str, npt.NDArray[np.int32]]:
        """Cells ``[n, d]`` by class or region."""
        return self.index.cells

    def valid_share(self, box: Box) -> float:
        """About which share of the cells of ``box`` is valid."""
        return self.index.valid_share(box)

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        """The window ``box`` of the case (or all of it); outside the case, image 0 and not valid.

        Args:
            box: See above.
            votes: Numbers of observers whose labels are read too.
        """
        box = box or Box.whole(self.shape)
        inner = box.clip(self.shape)
        sample = self.preprocess.window(self.opened.read(inner, votes=votes), in_place=True)
        return sample if inner == box else padded(sample, inner, box)


def padded(sample: Sample, inner: Box, box: Box) -> Sample:
    """The sample of ``inner`` as a window of ``box`` around it: image 0, label ``IGNORE``, not valid."""
    before_after = [(a - c, d - b) for a, b, c, d in zip(inner.start, inner.stop, box.start, box.stop, strict=True)]
    label = None if sample.label is None else np.pad(sample.label, before_after, constant_values=IGNORE)
    votes = sample.votes
    return replace(
        sample,
        image=np.pad(sample.image, [*[(0, 0)] * (sample.image.ndim - len(before_after)), *before_after]),
        label=label,
        votes=None if votes is None else np.pad(votes, [(0, 0), *before_after], constant_values=IGNORE),
        valid=np.pad(sample.valid, before_after),
        grid=sample.grid.crop(box.shift([-a for a in inner.start])),
    )
