"""Prepare one case, window by window where it can be done so: a scene is never decoded whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from medseg.data.preprocessing.normalise import ImageStats, by_channel
from medseg.data.preprocessing.preprocess import Preprocess, PreprocessTrace
from medseg.data.reading.open_case import CaseReader
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.sample import Sample

_CELLS = 2**20  # of a window of a scene: 4 MiB a channel


def tiles(shape: Sequence[int], patch: Sequence[int], dates: int = 0) -> list[Box]:
    """Boxes that cover an array without overlap, each a whole number of patches of about a million cells.

    With several dates the cells of all count.
    """
    times = max(1, int((_CELLS / max(1, dates) / np.prod(patch)) ** (1 / len(shape))))
    steps = [p * times for p in patch]
    starts = product(*[range(0, n, step) for n, step in zip(shape, steps, strict=True)])
    return [Box.at(start, steps).clip(shape) for start in starts]


def image_stats(reader: CaseReader, boxes: Sequence[Box]) -> list[ImageStats]:
    """Statistics of each channel of one case over its valid cells (and all dates), window by window."""
    parts: list[list[tuple[int, ImageStats]]] = [[] for _ in reader.spec.channels]
    for box in boxes:
        sample = reader.read(box)
        if sample.valid.any():
            for part, cells in zip(parts, by_channel(sample.image, sample.valid, sample.present), strict=True):
                if len(cells):
                    part.append((len(cells), ImageStats.of(cells)))
    return [ImageStats.pooled(part) for part in parts]


def prepared_windows(
    reader: CaseReader, preprocess: Preprocess, patch: Sequence[int]
) -> tuple[Iterator[tuple[Box, Sample]], Grid, PreprocessTrace]:
    """(windows of the prepared case, its grid, what undoes the preparation).

    One window, if the preprocessing resamples; else windows of complete patches, read on demand.
    """
    votes = range(len(reader.case.votes))
    if preprocess.spacing is not None:
        sample, trace = preprocess(reader.read(votes=votes))
        return iter([(Box.whole(sample.grid.shape), sample)]), sample.grid, trace
    boxes = tiles(reader.shape, patch, reader.spec.dates)
    stats = image_stats(reader, boxes) if preprocess.per_image else None
    windows = ((box, preprocess.window(reader.read(box, votes=votes), stats)) for box in boxes)
    return windows, reader.grid, PreprocessTrace.unmoved(reader.grid)
