"""Which patch is drawn: a function of (seed, step, sample), never of state or of worker count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from medseg.geometry.box import Box


@lru_cache(maxsize=8)
def _order(seed: int, turn: int, n_cases: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, 0, turn]).permutation(n_cases)


def draw_case(seed: int, position: int, n_cases: int) -> int:
    """Index of the case that feeds the ``position``-th patch of a training.

    Cases come in shuffled turns: each is drawn once before any is drawn again. (nnU-Net draws with
    replacement, which in short trainings leaves some cases out.)
    """
    turn, place = divmod(position, n_cases)
    return int(_order(seed, turn, n_cases)[place])


def is_forced(sample: int, batch_size: int, share: float) -> bool:
    """Whether this place of the batch must hold foreground: the last ``share`` of it (nnU-Net 4.9).

    Example:
        >>> [is_forced(i, 3, 0.33) for i in range(3)]
        [False, False, True]
    """
    return sample >= round(batch_size * (1 - share))


def draw_box(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    cells: Mapping[str, npt.NDArray[np.int32]],
    *,
    forced: bool,
) -> Box:
    """Box of one patch in a case.

    A free patch lies uniformly inside the case (centred on axes where the case is smaller). A forced
    one picks a class uniformly among those present, then one of its stored cells, and centres on it
    as far as the case's border allows. Where only part of the case is annotated, free patches centre
    on an annotated cell.

    Args:
        rng: Only source of randomness.
        shape: Cells of the case on each axis.
        patch: Cells of the patch on each axis.
        cells: Foreground cells by class, as ``StoredCase.cells`` gives them.
        forced: Whether the patch must hold foreground; ignored for a case that has none.
    """
    classes = sorted(name for name in cells if name != "annotated")
    if forced and classes:
        chosen = cells[classes[rng.integers(len(classes))]]
    elif "annotated" in cells:
        chosen = cells["annotated"]
    else:
        chosen = None
    low = [-((p - s) // 2) if p > s else 0 for s, p in zip(shape, patch, strict=True)]
    high = [low_ if p > s else s - p for low_, s, p in zip(low, shape, patch, strict=True)]
    if chosen is None:
        start = [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
    else:
        centre = chosen[rng.integers(len(chosen))]
        start = [int(min(max(c - p // 2, a), b)) for c, p, a, b in zip(centre, patch, low, high, strict=True)]
    return Box.at(start, patch)


def widen(box: Box, window: Sequence[int]) -> Box:
    """The box of shape ``window`` around the same centre; odd differences go to its end."""
    start = [a - (w - s) // 2 for a, s, w in zip(box.start, box.shape, window, strict=True)]
    return Box.at(start, window)
