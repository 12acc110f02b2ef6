"""The cells of a case that several observers have labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from medseg.evaluation.cells import DEFAULT_RASTERISE, CasePair, RasteriseOptions, check_grid, read_pair
from medseg.evaluation.pairs import EvaluationPair
from medseg.labels import LabelTable
from medseg.labels.majority import majority


def read_observed(
    files: EvaluationPair, table: LabelTable, tolerance: float, shapes: RasteriseOptions = DEFAULT_RASTERISE
) -> tuple[CasePair, dict[str, Int[np.ndarray, " *s"]]]:
    """The cells of a case with the label of the majority, and the label of each observer; none where there is one.

    Args:
        files: Files of the case.
        table: See ``read_pair``.
        tolerance: See ``read_pair``.
        shapes: See ``read_pair``.

    Raises:
        InputError: As ``read_pair``; or labels of two observers on other grids.
    """
    if not files.observers:
        return read_pair(files, table, tolerance, shapes), {}
    pairs = {name: read_pair(replace(files, label=path), table, tolerance, shapes) for name, path in files.observers}
    (_, path), *others = files.observers
    first, *further = pairs.values()
    for (_, other), pair in zip(others, further, strict=True):
        check_grid(other, pair.grid, path, first.grid, tolerance)
    label = majority(np.stack([pair.label for pair in pairs.values()]), table.n_classes)
    joined = replace(
        first,
        label=label,
        reordered=tuple(dict.fromkeys(path for pair in pairs.values() for path in pair.reordered)),
        offset=max(pair.offset for pair in pairs.values()),
    )
    return joined, {name: pair.label for name, pair in pairs.items()}
