"""Where the cells of each class lie, and where cells are valid: what sampling needs to know of a case."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int

from medseg.geometry.box import Box
from medseg.labels import IGNORE

_SEED = 1234
_BLOCK = 16  # cells along each side of a block whose valid cells are counted together


class CellIndex:
    """Collects the cells of a case window by window.

    Of the N cells of a class, ``max(min(10000, N), ceil(N / 100))`` are kept, drawn without replacement
    with a fixed seed (nnU-Net 4.5): every cell gets a random rank, and the lowest ranks stay, so that
    windows can come one after another.

    Attributes:
        n_valid: Valid cells so far.

    Args:
        shape: Shape of the case.
        targets: Name and training indices of what is scored.
    """

    def __init__(self, shape: tuple[int, ...], targets: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        self.shape = shape
        self.targets = tuple(targets)
        self.n_valid = 0
        self._counts = {name: 0 for name, _ in self.targets} | {"annotated": 0}
        self._rng = np.random.default_rng(_SEED)
        self._kept: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]] = {}
        self._ignored = False
        self._valid = np.zeros([-(-n // _BLOCK) for n in shape], dtype=np.int32)

    def add(self, box: Box, label: Int[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"]) -> None:
        """Take in one window; ``label`` is ``IGNORE`` where it is not known or not valid."""
        self.n_valid += int(valid.sum())
        for name, members in self.targets:
            cells = np.flatnonzero(label == members[0] if len(members) == 1 else np.isin(label, members))
            self._keep(name, cells, box)
        labelled = label != IGNORE
        self._ignored |= not labelled.all()
        cells = np.flatnonzero(labelled)
        self._keep("annotated", cells, box)
        self._count_valid(box, valid)

    @property
    def counts(self) -> dict[str, int]:
        """Cells of each scored class or region so far; ``annotated`` ones too, where some are ``IGNORE``."""
        return {name: n for name, n in self._counts.items() if name != "annotated" or self._ignored}

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What ``cells.npz`` holds: cells ``[n, d]`` as ``of <class>``, and the valid cells of each block.

        ``of annotated`` holds cells that are not ``IGNORE``, where some are.
        """
        cells: dict[str, npt.NDArray[np.generic]] = {}
        for name, (rank, cell) in self._kept.items():
            if name != "annotated" or self._ignored:
                lowest = np.argsort(rank, kind="stable")[: _kept_of(self._counts[name])]
                cells[f"of {name}"] = cell[lowest]
        return cells | {"valid": self._valid}

    def _keep(self, name: str, index: npt.NDArray[np.int64], box: Box) -> None:
        self._counts[name] += len(index)
        limit = _kept_of(self._counts[name])
        rank = self._rng.random(len(index), dtype=np.float32)
        if len(index) > limit:
            lowest = np.argpartition(rank, limit)[:limit]
            index, rank = index[lowest], rank[lowest]
        cell = np.stack(np.unravel_index(index, box.shape), axis=1).astype(np.int32) + np.array(box.start, np.int32)
        if name in self._kept:
            rank = np.concatenate([self._kept[name][0], rank])
            cell = np.concatenate([self._kept[name][1], cell])
        if len(rank) > 2 * limit:
            lowest = np.argpartition(rank, limit)[:limit]
            rank, cell = rank[lowest], cell[lowest]
        self._kept[name] = rank, cell

    def _count_valid(self, box: Box, valid: Bool[np.ndarray, " *s"]) -> None:
        counted = valid.astype(np.int32)
        for axis, start in enumerate(box.start):
            edges = np.arange(start // _BLOCK * _BLOCK, start + counted.shape[axis], _BLOCK) - start
            counted = np.add.reduceat(counted, np.maximum(edges, 0), axis=axis)
        blocks = tuple(slice(a // _BLOCK, a // _BLOCK + n) for a, n in zip(box.start, counted.shape, strict=True))
        self._valid[blocks] += counted


def _kept_of(n: int) -> int:
    return max(min(10_000, n), -(-n // 100))


def valid_share(counts: Int[np.ndarray, " *blocks"], shape: tuple[int, ...], box: Box) -> float:
    """About which share of the cells of ``box`` is valid, from the valid cells of each block of a case.

    Blocks that the box cuts count in proportion to what lies inside. Cells outside of the case are not
    valid. Exact where all cells of the blocks touched are valid.
    """
    inside = box.clip(shape)
    n_cells = int(np.prod(box.shape))
    if 0 in inside.shape or not n_cells:
        return 0.0
    touched = [slice(a // _BLOCK, -(-b // _BLOCK)) for a, b in zip(inside.start, inside.stop, strict=True)]
    share = counts[tuple(touched)].astype(np.float64)
    for axis, (a, b, n) in enumerate(zip(inside.start, inside.stop, shape, strict=True)):
        first = np.arange(touched[axis].start, touched[axis].stop) * _BLOCK
        last = np.minimum(first + _BLOCK, n)
        within = (np.minimum(last, b) - np.maximum(first, a)) / (last - first)
        share *= within.reshape([-1 if i == axis else 1 for i in range(share.ndim)])
    return min(1.0, float(share.sum()) / n_cells)
