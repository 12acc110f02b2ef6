from collections import Counter
from functools import partial

import numpy as np
import pytest

from medseg.data.sampling.case_samplers import ByArea, ByCase, ByClass, ByGroup, CaseSampler, Sampling
from medseg.data.sampling.patches import draw_case
from medseg.errors import InputError
from tests.data.sampling.test_patches import Drawn


class Every(np.random.Generator):
    """A generator whose draws are given: the place in a range, as numbers from 0 to below 1."""

    def __init__(self, *places: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.places = list(places)

    def random(self) -> float:  # type: ignore[override]
        return self.places.pop(0)

    def integers(self, high: int) -> int:  # type: ignore[override]
        return int(self.places.pop(0) * high)


def enumerated(choice: CaseSampler, n: int, *, forced: bool = False) -> Counter[int]:
    """How often each case comes when each of n equally likely draws comes once."""
    return Counter(choice.choose(Every((k + 0.5) / n), 0, forced=forced)[0] for k in range(n))


def test_area_draws_cases_exactly_by_their_valid_cells() -> None:
    """Where a part is annotated, it counts; what has nothing valid is never drawn."""
    cases = [Drawn("a", 5), Drawn("empty", 0), Drawn("b", 1), Drawn("sparse", 100, {"organ": 1, "annotated": 2})]
    assert enumerated(ByArea(cases, seed=0), 8) == {0: 5, 2: 1, 3: 2}


@pytest.mark.parametrize("kind", [ByArea, ByGroup])
def test_without_labels_every_valid_cell_counts(kind: type[CaseSampler]) -> None:
    cases = [Drawn("a", 5, {"annotated": 0}), Drawn("b", 1, {"annotated": 0})]
    assert enumerated(kind(cases, seed=0, labelled=False), 6) == {0: 5, 1: 1}
    with pytest.raises(InputError, match="none of the 2 training cases has a valid, labelled cell"):
        kind(cases, seed=0)


def test_groups_come_in_turns_and_their_cases_by_area() -> None:
    cases = [
        Drawn("a1", 3, group="a"),
        Drawn("b1", 7, group="b"),
        Drawn("a2", 1, group="a"),
        Drawn("none", 0, group="c"),
    ]
    choice = ByGroup(cases, seed=3)
    turns = [[choice.choose(Every(0.9), turn * 2 + i, forced=False)[0] for i in range(2)] for turn in range(12)]
    assert {tuple(turn) for turn in turns} == {(1, 2), (2, 1)}
    of_a = turns[0].index(2)
    drawn = Counter(choice.choose(Every((k + 0.5) / 4), of_a, forced=False)[0] for k in range(4))
    assert drawn == {0: 3, 2: 1}


CLASSES = [
    Drawn("a", 50, {"road": 10, "land": 300}),
    Drawn("b", 50, {"land": 100, "road": 0}),
    Drawn("c", 50, {"road": 6}),
]


@pytest.mark.parametrize(("exponent", "n_road"), [(0.0, 390), (0.5, 650), (1.0, 750)])
def test_rare_classes_come_first(exponent: float, n_road: int) -> None:
    """400 cells of land and 16 of road: their ratio is 25, its root 5; so 1/2, 5/6 and 25/26 of 780 draws."""
    choice = ByClass(CLASSES, seed=0, class_balance_exponent=exponent)
    names = Counter(choice.choose(Every((k + 0.5) / 780, 0.5), 0, forced=True)[1] for k in range(780))
    assert names == {"road": n_road, "land": 780 - n_road}


def test_a_class_is_sought_where_its_cells_are() -> None:
    """Land comes first by name: a draw of 0 is land, one of nearly 1 road."""
    choice = ByClass(CLASSES, seed=0)
    for place, name, expected in ((0.0, "land", {0: 3, 1: 1}), (0.999, "road", {0: 10, 2: 6})):
        n = sum(expected.values())
        drawn = [choice.choose(Every(place, (k + 0.5) / n), 0, forced=True) for k in range(n)]
        assert Counter(index for index, _ in drawn) == expected
        assert {found for _, found in drawn} == {name}


def test_free_patches_of_the_class_strategy_are_drawn_by_area() -> None:
    assert enumerated(ByClass(CLASSES, seed=0), 3) == {0: 1, 1: 1, 2: 1}
    nothing = [Drawn("a", 1), Drawn("b", 3)]
    assert enumerated(ByClass(nothing, seed=0), 4, forced=True) == {0: 1, 1: 3}


def test_without_labels_the_class_sampler_draws_cases_in_turns() -> None:
    choice, turns = ByClass(CLASSES, seed=5, labelled=False), ByCase(CLASSES, seed=5)
    for position in range(9):
        expected = (draw_case(5, position, 3), None)
        assert choice.choose(Every(), position, forced=True) == turns.choose(Every(), position, forced=True) == expected


def test_unsound_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"got class_balance_exponent -0\.5, expected 0"):
        ByClass(CLASSES, seed=0, class_balance_exponent=-0.5)
    with pytest.raises(InputError, match="none of the 1 training cases has a valid, labelled cell"):
        ByArea([Drawn("a", 0)], seed=0)
    with pytest.raises(InputError, match=r"got min_valid 1\.5, expected a fraction from 0 to 1"):
        Sampling(min_valid=1.5)
    with pytest.raises(InputError, match=r"got foreground_fraction -0\.1, expected a fraction from 0 to 1"):
        Sampling(foreground_fraction=-0.1)


def test_sampling_makes_the_sampler_of_its_class_with_its_settings() -> None:
    made = Sampling(partial(ByClass, class_balance_exponent=0.0)).case_sampler(CLASSES, 0)
    assert isinstance(made, ByClass)
    names = Counter(made.choose(Every((k + 0.5) / 10, 0.5), 0, forced=True)[1] for k in range(10))
    assert names == {"land": 5, "road": 5}
    assert isinstance(Sampling().case_sampler(CLASSES, 0), ByCase)
