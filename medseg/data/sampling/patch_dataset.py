"""PatchDataset: (step, sample) -> the window of a stored case that this place of the training needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.observed import read_window
from medseg.data.sampling.patches import PreparedCase, draw_valid_box, is_forced, widen
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.sample import Sample

LARGEST = 2**24
"""Cells of a case that validation reads at once; of all dates together."""


@dataclass(frozen=True)
class Window:
    """A window of a case and the key that drew it: (seed, step, sample)."""

    sample: Sample
    key: tuple[int, int, int]


class PatchDataset(Dataset[Window]):
    """Training windows by (step, sample).

    Args:
        cases: Where windows come from.
        patch: Cells of a training patch on each axis.
        window: Cells read around a patch, so that a rotated or scaled patch is covered.
        batch_size: Samples of one optimiser step, over all ranks and accumulated batches.
        seed: Seed of the whole training.
        sampling: Which case feeds a patch, and what a patch must hold.
        n_classes: Of the label table, for soft labels.

    Raises:
        InputError: No case, or none that a patch can be drawn from.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        patch: Sequence[int],
        window: Sequence[int],
        batch_size: int,
        seed: int,
        sampling: Sampling,
        n_classes: int = 0,
    ) -> None:
        if not cases:
            raise InputError("got no training case; check split.fold and split.file")
        self.cases = tuple(cases)
        self.patch = tuple(patch)
        self.window = tuple(window)
        self.batch_size = batch_size
        self.seed = seed
        self.sampling = sampling
        self.n_classes = n_classes
        self.case_sampler = sampling.case_sampler(self.cases, seed)
        partial = next((case.annotated for case in self.cases if case.annotated is not None), None)
        self._all_annotated = None if partial is None else np.ones_like(partial)

    def place(self, step: int, sample: int) -> tuple[PreparedCase, Box]:
        """The case and the patch (not the window) of a place in the training."""
        rng = np.random.default_rng([self.seed, 1, step, sample])
        forced = is_forced(sample, self.batch_size, self.sampling.foreground_fraction)
        index, name = self.case_sampler.choose(rng, step * self.batch_size + sample, forced=forced)
        case = self.cases[index]
        return case, draw_valid_box(rng, case, self.patch, name, forced=forced, min_valid=self.sampling.min_valid)

    def __getitem__(self, index: tuple[int, int]) -> Window:
        step, sample = index
        case, box = self.place(step, sample)
        window = read_window(case, widen(box, self.window), (self.seed, step, sample), self.n_classes)
        if window.annotated is None:  # of every rank alike, also where a batch has complete cases alone
            window = replace(window, annotated=self._all_annotated)
        return Window(window, (self.seed, step, sample))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler: the indices of one epoch of optimiser steps, or of what is left of it when a training resumes.

    Args:
        steps: Optimiser steps of an epoch.
        batch_size: Samples of a batch on this rank.
        epoch: Gives the current epoch; asked whenever an iteration begins, as the loader outlives it.
        done: Gives the batches of this epoch that were done before, of a training that resumes within it.
        rank: This process among ``world``.
        world: Number of processes.
        parts: Batches of a step, whose gradients are accumulated; together they hold the samples that one batch of
            as many times the size would hold.
    """

    def __init__(
        self,
        steps: int,
        batch_size: int,
        *,
        epoch: Callable[[], int],
        done: Callable[[], int] = int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
    ) -> None:
        self.steps, self.batch_size, self.epoch, self.done = steps, batch_size, epoch, done
        self.rank, self.world, self.parts = rank, world, parts

    def __len__(self) -> int:
        return self.steps * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start = self.epoch() * self.steps
        for number in range(self.done(), len(self)):
            step, part = divmod(number, self.parts)
            places = range(part * self.batch_size, (part + 1) * self.batch_size)
            yield [(start + step, self.rank + self.world * place) for place in places]


class StepLoader(DataLoader[Any]):
    """A loader of a ``StepSampler``, which continues within an epoch by itself.

    Lightning asks for the two methods of a state, and warns where a loader lacks them.
    """

    def state_dict(self) -> dict[str, object]:
        """Nothing: where the training is, its loops know."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Nothing to restore."""


class CaseDataset(Dataset[Sample]):
    """Whole preprocessed cases, in order, for validation; a large one comes in tiles, which bounds memory.

    Args:
        cases: The cases.
        largest: Cells of a case, and of a tile, at most. Tiles meet without overlap, so that cells at
            their borders are seen with less around them than in prediction.
    """

    def __init__(self, cases: Sequence[PreparedCase], *, largest: int = LARGEST) -> None:
        self.places = [(case, box) for case in cases for box in _tiles(case.shape, largest)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        case, box = self.places[index]
        return case.read(box)


def _tiles(shape: Sequence[int], largest: int) -> list[Box]:
    """Boxes of at most ``largest`` cells that cover an array of this shape, as equal as possible.

    Example:
        >>> [(b.start, b.stop) for b in _tiles((4, 10), 20)]
        [((0, 0), (4, 5)), ((0, 5), (4, 10))]
    """
    parts = [1] * len(shape)
    while prod(-(-n // p) for n, p in zip(shape, parts, strict=True)) > largest:
        parts[int(np.argmax([n / p for n, p in zip(shape, parts, strict=True)]))] += 1
    edges = [[n * i // p for i in range(p + 1)] for n, p in zip(shape, parts, strict=True)]
    corners = product(*[list(pairwise(edge)) for edge in edges])
    return [Box(tuple(a for a, _ in sides), tuple(b for _, b in sides)) for sides in corners]
