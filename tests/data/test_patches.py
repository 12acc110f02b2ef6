import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.patches import draw_box, draw_case, is_forced, widen
from medseg.geometry.box import Box


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
