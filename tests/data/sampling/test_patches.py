from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.sampling.patches import TRIES, Chooser, chooser, draw_box, draw_case, draw_valid_box, is_forced, widen
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.sample import Sample


@dataclass
class Drawn:
    """A case that only drawing sees: its numbers, or a map of what is valid."""

    case: str
    n_valid: int
    counts: dict[str, int] = field(default_factory=dict)
    group: str = ""
    valid: np.ndarray = field(default_factory=lambda: np.ones((8, 8), dtype=bool))
    asked: list[Box] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.valid.shape

    @property
    def cells(self) -> dict[str, np.ndarray]:
        return {name: np.full((1, 2), 4, np.int32) for name in self.counts}

    def valid_share(self, box: Box) -> float:
        self.asked.append(box)
        return float(self.valid[box.slices].mean())

    def read(self, box: Box | None = None) -> Sample:
        raise NotImplementedError


class Every(np.random.Generator):
    """A generator whose draws are given: the place in a range, as numbers from 0 to below 1."""

    def __init__(self, *places: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.places = list(places)

    def random(self) -> float:  # type: ignore[override]
        return self.places.pop(0)

    def integers(self, high: int) -> int:  # type: ignore[override]
        return int(self.places.pop(0) * high)


def enumerated(choice: Chooser, n: int, *, forced: bool = False) -> Counter[int]:
    """How often each case comes when each of n equally likely draws comes once."""
    return Counter(choice.choose(Every((k + 0.5) / n), 0, forced=forced)[0] for k in range(n))


def test_cases_come_in_turns_without_repeats() -> None:
    turns = [[draw_case(7, turn * 5 + i, 5) for i in range(5)] for turn in range(4)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert [draw_case(7, i, 5) for i in range(5)] == turns[0]


def test_forced_share_is_nnunets() -> None:
    # nnU-Net 4.9: 1 of 2, 1 of 3, 1 of 4, 2 of 5 with a share of 0.33
    counts = [sum(is_forced(i, n, 0.33) for i in range(n)) for n in (2, 3, 4, 5)]
    assert counts == [1, 1, 1, 2]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=2, max_size=3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_patch_lies_inside_or_is_centred(axes: list[tuple[int, int]], forced: bool, seed: int) -> None:
    shape, patch = [a for a, _ in axes], [b for _, b in axes]
    rng = np.random.default_rng(seed)
    cell = np.array([[int(rng.integers(s)) for s in shape]], dtype=np.int32)
    box = draw_box(rng, shape, patch, {"organ": cell}, forced=forced)
    assert box.shape == tuple(patch)
    for a, b, s, p in zip(box.start, box.stop, shape, patch, strict=True):
        if p <= s:
            assert 0 <= a < b <= s
        else:
            assert a <= 0 < s <= b
            assert abs((-a) - (b - s)) <= 1
    if forced:
        assert all(a <= c < b for c, a, b in zip(cell[0], box.start, box.stop, strict=True))


def test_free_patches_reach_both_borders_evenly() -> None:
    starts = [draw_box(np.random.default_rng(i), (8,), (4,), {}, forced=False).start[0] for i in range(1000)]
    counts = np.bincount(starts, minlength=5)
    assert len(counts) == 5
    assert counts.min() > 150  # 200 expected


def test_forced_classes_are_equally_likely_whatever_their_size() -> None:
    cells = {"big": np.zeros((1000, 1), np.int32), "small": np.full((1, 1), 99, np.int32)}
    hits = [draw_box(np.random.default_rng(i), (100,), (3,), cells, forced=True).start[0] > 50 for i in range(400)]
    assert 150 < sum(hits) < 250


def test_case_without_foreground_falls_back_to_a_free_patch() -> None:
    assert draw_box(np.random.default_rng(0), (9, 9), (3, 3), {}, forced=True).shape == (3, 3)


def test_free_patch_of_a_sparsely_annotated_case_holds_an_annotated_cell() -> None:
    cells = {"annotated": np.array([[40, 2]], np.int32)}
    box = draw_box(np.random.default_rng(0), (64, 8), (4, 4), cells, forced=False)
    assert box.start[0] <= 40 < box.stop[0]


def test_widen_keeps_the_centre() -> None:
    assert widen(Box((4, 0), (8, 4)), (6, 7)) == Box((3, -1), (9, 6))


def test_area_draws_cases_exactly_by_their_valid_cells() -> None:
    """Where a part is annotated, it counts; what has nothing valid is never drawn."""
    cases = [Drawn("a", 5), Drawn("empty", 0), Drawn("b", 1), Drawn("sparse", 100, {"organ": 1, "annotated": 2})]
    assert enumerated(chooser("area", cases, seed=0), 8) == {0: 5, 2: 1, 3: 2}


@pytest.mark.parametrize("strategy", ["area", "group"])
def test_without_labels_every_valid_cell_counts(strategy: str) -> None:
    cases = [Drawn("a", 5, {"annotated": 0}), Drawn("b", 1, {"annotated": 0})]
    assert enumerated(chooser(strategy, cases, seed=0, labelled=False), 6) == {0: 5, 1: 1}
    with pytest.raises(InputError, match="none of the 2 training cases has a valid, labelled cell"):
        chooser(strategy, cases, seed=0)


def test_groups_come_in_turns_and_their_cases_by_area() -> None:
    cases = [
        Drawn("a1", 3, group="a"),
        Drawn("b1", 7, group="b"),
        Drawn("a2", 1, group="a"),
        Drawn("none", 0, group="c"),
    ]
    choice = chooser("group", cases, seed=3)
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


@pytest.mark.parametrize(("rarity", "n_road"), [(0.0, 390), (0.5, 650), (1.0, 750)])
def test_rare_classes_come_first(rarity: float, n_road: int) -> None:
    """400 cells of land and 16 of road: their ratio is 25, its root 5; so 1/2, 5/6 and 25/26 of 780 draws."""
    choice = chooser("class", CLASSES, seed=0, rarity=rarity)
    names = Counter(choice.choose(Every((k + 0.5) / 780, 0.5), 0, forced=True)[1] for k in range(780))
    assert names == {"road": n_road, "land": 780 - n_road}


def test_a_class_is_sought_where_its_cells_are() -> None:
    """Land comes first by name: a draw of 0 is land, one of nearly 1 road."""
    choice = chooser("class", CLASSES, seed=0)
    for place, name, expected in ((0.0, "land", {0: 3, 1: 1}), (0.999, "road", {0: 10, 2: 6})):
        n = sum(expected.values())
        drawn = [choice.choose(Every(place, (k + 0.5) / n), 0, forced=True) for k in range(n)]
        assert Counter(index for index, _ in drawn) == expected
        assert {found for _, found in drawn} == {name}


def test_free_patches_of_the_class_strategy_are_drawn_by_area() -> None:
    assert enumerated(chooser("class", CLASSES, seed=0), 3) == {0: 1, 1: 1, 2: 1}
    nothing = [Drawn("a", 1), Drawn("b", 3)]
    assert enumerated(chooser("class", nothing, seed=0), 4, forced=True) == {0: 1, 1: 3}


def test_unsound_strategies_are_refused() -> None:
    with pytest.raises(InputError, match="got strategy 'random', choose case, area, class or group"):
        chooser("random", CLASSES, seed=0)
    with pytest.raises(InputError, match=r"got rarity -0\.5, expected 0"):
        chooser("class", CLASSES, seed=0, rarity=-0.5)
    with pytest.raises(InputError, match="none of the 1 training cases has a valid, labelled cell"):
        chooser("area", [Drawn("a", 0)], seed=0)


def half_valid() -> np.ndarray:
    valid = np.zeros((16, 16), dtype=bool)
    valid[:, 8:] = True
    return valid


def test_boxes_are_redrawn_until_enough_is_valid() -> None:
    case = Drawn("a", 128, valid=half_valid())
    boxes = [
        draw_valid_box(np.random.default_rng(i), case, (4, 4), None, forced=False, min_valid=0.5) for i in range(200)
    ]
    assert all(half_valid()[box.slices].mean() >= 0.5 for box in boxes)
    columns = Counter(box.start[1] for box in boxes)
    assert set(columns) == set(range(6, 13))  # every place with enough, and no other
    again = [
        draw_valid_box(np.random.default_rng(i), case, (4, 4), None, forced=False, min_valid=0.5) for i in range(200)
    ]
    assert again == boxes


def test_the_best_box_is_taken_where_none_has_enough() -> None:
    valid = np.zeros((4, 64), dtype=bool)
    valid[:, 63] = True
    case = Drawn("a", 4, valid=valid)
    box = draw_valid_box(np.random.default_rng(1), case, (4, 8), None, forced=False, min_valid=0.9)
    shares = [float(valid[b.slices].mean()) for b in case.asked]
    assert len(shares) == TRIES
    assert case.asked[shares.index(max(shares))] == box


def test_nothing_is_asked_of_cases_where_no_share_is_set() -> None:
    case = Drawn("a", 1, {"organ": 1})
    box = draw_valid_box(np.random.default_rng(5), case, (4, 4), None, forced=True, min_valid=0.0)
    assert box == draw_box(np.random.default_rng(5), (8, 8), (4, 4), case.cells, forced=True)
    assert case.asked == []


def test_a_box_holds_the_class_that_was_chosen() -> None:
    class Two(Drawn):
        @property
        def cells(self) -> dict[str, np.ndarray]:
            return {"here": np.array([[1, 1]], np.int32), "there": np.array([[7, 7]], np.int32)}

    drawn = [
        draw_valid_box(np.random.default_rng(i), Two("a", 1), (3, 3), "there", forced=True, min_valid=0.0)
        for i in range(20)
    ]
    assert set(drawn) == {Box((5, 5), (8, 8))}
