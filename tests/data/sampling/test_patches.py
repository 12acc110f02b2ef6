from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import Observers
from medseg.data.sampling.patches import TRIES, draw_box, draw_case, draw_valid_box, is_forced, widen
from medseg.facts import CaseFacts
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
    annotated: np.ndarray | None = None
    facts: CaseFacts | None = None
    observers: Observers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.valid.shape

    @property
    def cells(self) -> dict[str, np.ndarray]:
        return {name: np.full((1, 2), 4, np.int32) for name in self.counts}

    def valid_share(self, box: Box) -> float:
        self.asked.append(box)
        return float(self.valid[box.slices].mean())

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        raise NotImplementedError


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
