"""PatchDataset: (step, sample) -> the window of a stored case that this place of the training needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset, Sampler

from medseg.data.patches import draw_box, draw_case, is_forced, widen
from medseg.data.store import StoredCase
from medseg.geometry.box import Box
from medseg.sample import Sample


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
        batch_size: Samples of one step over all ranks.
        foreground_share: Part of each batch that must hold foreground.
        seed: Of the whole training.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        *,
        patch: Sequence[int],
        window: Sequence[int],
        batch_size: int,
        foreground_share: float,
        seed: int,
    ) -> None:
        self.cases = tuple(cases)
        self.patch = tuple(patch)
        self.window = tuple(window)
        self.batch_size = batch_size
        self.foreground_share = foreground_share
        self.seed = seed

    def place(self, step: int, sample: int) -> tuple[StoredCase, Box]:
        """The case and the patch (not the window) of a place in the training."""
        case = self.cases[draw_case(self.seed, step * self.batch_size + sample, len(self.cases))]
        box = draw_box(
            np.random.default_rng([self.seed, 1, step, sample]),
            case.shape,
            self.patch,
            case.cells,
            forced=is_forced(sample, self.batch_size, self.foreground_share),
        )
        return case, box

    def __getitem__(self, index: tuple[int, int]) -> Window:
        step, sample = index
        case, box = self.place(step, sample)
        return Window(case.read(widen(box, self.window)), (self.seed, step, sample))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batch sampler: the indices of one epoch of steps, starting where the training is.

    Args:
        steps: Steps of an epoch.
        batch_size: Samples of this rank a step.
        epoch: Gives the current epoch; asked whenever an iteration begins, as the loader outlives it.
        rank: This process among ``world``.
        world: Number of processes.
    """

    def __init__(self, steps: int, batch_size: int, *, epoch: Callable[[], int], rank: int = 0, world: int = 1) -> None:
        self.steps, self.batch_size, self.epoch = steps, batch_size, epoch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start = self.epoch() * self.steps
        for step in range(start, start + self.steps):
            yield [(step, self.rank + self.world * i) for i in range(self.batch_size)]


class CaseDataset(Dataset[Sample]):
    """Whole preprocessed cases, in order, for validation.

    Args:
        cases: The cases.
    """

    def __init__(self, cases: Sequence[StoredCase]) -> None:
        self.cases = tuple(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        return self.cases[index].read()
