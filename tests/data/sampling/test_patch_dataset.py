from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medseg.data.case import Observers
from medseg.data.sampling.case_samplers import ByArea, ByCase, ByClass, ByGroup, CaseSampler, Sampling
from medseg.data.sampling.patch_dataset import PatchDataset, StepSampler
from medseg.data.sampling.patches import draw_box, draw_case, is_forced
from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.geometry.box import Box, read_padded
from medseg.geometry.grid import PIXEL, Grid
from medseg.sample import Sample


@dataclass
class Scene:
    """A prepared case in memory, with two classes; its first rows are not valid."""

    case: str
    shape: tuple[int, ...]
    group: str
    invalid: int = 0
    annotated: np.ndarray | None = None
    facts: CaseFacts | None = None
    observers: Observers | None = None

    @cached_property
    def valid(self) -> np.ndarray:
        return np.indices(self.shape)[0] >= self.invalid

    @cached_property
    def label(self) -> np.ndarray:
        """Class 1 (rare) in the last four columns of the scene, class 0 elsewhere."""
        return (np.indices(self.shape)[1] >= self.shape[1] - 4).astype(np.int64)

    @cached_property
    def cells(self) -> dict[str, np.ndarray]:
        masks = (("land", self.label == 0), ("road", self.label == 1))
        return {name: np.argwhere(mask & self.valid).astype(np.int32) for name, mask in masks}

    @cached_property
    def counts(self) -> dict[str, int]:
        return {name: len(cells) for name, cells in self.cells.items()}

    @cached_property
    def n_valid(self) -> int:
        return int(self.valid.sum())

    def valid_share(self, box: Box) -> float:
        return float(read_padded(self.valid, box, 0).mean())

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        box = box or Box.whole(self.shape)
        place = np.arange(np.prod(self.shape), dtype=np.float32).reshape(1, *self.shape)
        grid = Grid(box.shape, np.eye(3), PIXEL)
        valid = read_padded(self.valid, box, 0)
        return Sample(read_padded(place, box, 0), read_padded(self.label, box, -1), valid, grid, self.case, self.group)


SCENES = (Scene("a", (40, 64), "west"), Scene("b", (16, 20), "west"), Scene("c", (24, 40), "east", invalid=12))


def patches(**changes: Any) -> PatchDataset:
    sampling = Sampling(**({"foreground_fraction": 0.5} | changes))  # type: ignore[arg-type]
    return PatchDataset(SCENES, patch=(12, 12), window=(14, 14), batch_size=4, seed=5, sampling=sampling)


def test_cases_come_in_turns_by_default() -> None:
    """Each place as it is written down: turns of cases, and one generator a place for the box."""
    drawn = patches()
    for step in range(6):
        for sample in range(4):
            case = SCENES[draw_case(5, 4 * step + sample, 3)]
            rng = np.random.default_rng([5, 1, step, sample])
            box = draw_box(rng, case.shape, (12, 12), case.cells, forced=is_forced(sample, 4, 0.5))
            assert drawn.place(step, sample) == (case, box)


@pytest.mark.parametrize("sampler", [ByArea, ByClass])
def test_free_patches_spread_evenly_over_the_ground(sampler: type[CaseSampler]) -> None:
    """Cases come as their valid cells do: 2560, 320 and 480 (p = 0.001)."""
    drawn = patches(sampler=sampler, foreground_fraction=0.0)
    hits = Counter(drawn.place(step, sample)[0].case for step in range(300) for sample in range(4))
    expected = 1200 * np.array([2560, 320, 480]) / 3360
    assert stats.chisquare([hits[c] for c in "abc"], expected).pvalue > 1e-3


def test_forced_patches_of_the_class_strategy_hold_the_rare_class_more_often() -> None:
    """Land has 3360 - 272 cells and road 4 columns of 40, 16 and 12 valid rows: 160 + 64 + 48."""
    drawn = patches(sampler=ByClass, foreground_fraction=1.0)
    road = 272**-0.5 / (272**-0.5 + (3360 - 272) ** -0.5)
    near = 2 * (40 + 16 + 12) / (3360 - 272)  # of land: 6 or 5 columns from the right border
    places = [drawn.place(step, sample) for step in range(150) for sample in range(4)]
    at_border = sum(box.stop[1] == case.shape[1] for case, box in places)
    expected = 600 * (road + (1 - road) * near)
    assert abs(at_border - expected) < 3.5 * np.sqrt(expected * (1 - expected / 600))


def test_groups_come_in_turns() -> None:
    drawn = patches(sampler=ByGroup)
    for step in range(20):
        assert Counter(drawn.place(step, sample)[0].group for sample in range(4)) == {"west": 2, "east": 2}


def test_patches_keep_to_what_is_valid() -> None:
    shares = [
        case.valid_share(box)
        for case, box in (patches(sampler=ByArea, min_valid=0.75).place(s, i) for s in range(50) for i in range(4))
    ]
    assert min(shares) >= 0.75
    free = [case.valid_share(box) for case, box in (patches().place(s, i) for s in range(50) for i in range(4))]
    assert min(free) < 0.25


@pytest.mark.parametrize("sampler", [ByCase, ByArea, ByClass, ByGroup])
def test_any_window_can_be_had_again_without_those_before(sampler: type[CaseSampler]) -> None:
    drawn, again = (patches(sampler=sampler, min_valid=0.5) for _ in range(2))
    indices = [index for batch in StepSampler(3, 4, epoch=lambda: 2) for index in batch]
    windows = [drawn[index] for index in indices]
    assert [w.key for w in windows] == [(5, s, i) for s in (6, 7, 8) for i in range(4)]
    last = again[indices[-1]].sample
    assert last.case == windows[-1].sample.case
    np.testing.assert_array_equal(last.image, windows[-1].sample.image)


def test_no_case_is_refused() -> None:
    with pytest.raises(InputError, match="got no training case"):
        PatchDataset([], patch=(2, 2), window=(2, 2), batch_size=1, seed=0, sampling=Sampling())


def test_each_epoch_goes_on_where_the_last_ended() -> None:
    now = {"epoch": 0}
    sampler = StepSampler(2, 3, epoch=lambda: now["epoch"])
    first = list(sampler)
    now["epoch"] = 1
    second = list(sampler)
    assert first == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]
    assert second == [[(2, 0), (2, 1), (2, 2)], [(3, 0), (3, 1), (3, 2)]]
    assert len(sampler) == 2


def test_ranks_share_the_samples_of_a_step() -> None:
    ranks = [list(StepSampler(1, 2, epoch=lambda: 4, rank=rank, world=2)) for rank in range(2)]
    assert ranks == [[[(4, 0), (4, 2)]], [[(4, 1), (4, 3)]]]


@pytest.mark.parametrize(("shape", "largest"), [((7, 9), 100), ((7, 9), 20), ((40, 3, 5), 50), ((1, 1), 1)])
def test_large_cases_validate_in_tiles_that_cover_them_once(shape: tuple[int, ...], largest: int) -> None:
    from medseg.data.sampling.patch_dataset import _tiles

    seen = np.zeros(shape, int)
    for box in _tiles(shape, largest):
        assert np.prod(box.shape) <= largest
        seen[box.slices] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("world", [1, 2])
def test_accumulated_batches_hold_the_samples_of_one_larger_batch(world: int) -> None:
    for rank in range(world):
        once = StepSampler(3, 4, epoch=lambda: 2, rank=rank, world=world)
        twice = StepSampler(3, 2, epoch=lambda: 2, rank=rank, world=world, parts=2)
        assert len(twice) == 6
        halves = list(twice)
        assert [a + b for a, b in zip(halves[::2], halves[1::2], strict=True)] == list(once)
