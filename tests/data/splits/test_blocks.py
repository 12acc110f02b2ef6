from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.splits.blocks import beside, blocks, runs
from medseg.data.splits.folds import split
from medseg.errors import InputError
from medseg.geometry.box import Box


def case_of(name: str, group: str | None = None, box: Box | None = None) -> Case:
    return Case(name, (), None, group or name, box=box)


def box_of(case: Case) -> Box:
    assert case.box is not None
    return case.box


def between(one: Box, other: Box) -> int:
    """Cells between two boxes along the axis that parts them most; negative where they overlap."""
    return max(max(c - b, a - d) for a, b, c, d in zip(one.start, one.stop, other.start, other.stop, strict=True))


AXES = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 4)), min_size=1, max_size=3)


@given(AXES, st.integers(0, 25))
@example([(2, 2)], 1)  # as many blocks as its size asks for would leave an empty one
def test_any_two_blocks_keep_the_buffer(axes: list[tuple[int, int]], buffer: int) -> None:
    shape, size = [n for n, _ in axes], [-(-n // parts) for n, parts in axes]
    parts = blocks([case_of("scene")], [shape], size, buffer)
    boxes = [part.box or Box.whole(shape) for part in parts]
    assert all(between(one, other) >= buffer for one, other in combinations(boxes, 2))
    assert all(min(box.shape) > 0 and box.clip(shape) == box for box in boxes)
    for axis, n in enumerate(shape):
        spans = sorted({(box.start[axis], box.stop[axis]) for box in boxes})
        assert (spans[0][0], spans[-1][1]) == (0, n)
        assert all(b - a == buffer for (_, a), (b, _) in pairwise(spans))
        lengths = [b - a for a, b in spans]
        assert max(lengths) - min(lengths) <= 1


def test_literal_blocks_of_a_scene_and_of_a_volume() -> None:
    """(512 + 32) / (256 + 32) is 1.9: two parts of (512 - 32) / 2; 40 cells are not cut at 50."""
    found = blocks([case_of("em")], [(512, 40)], (256, 50), 32)
    assert [(c.id, c.group, c.box) for c in found] == [
        ("em@r0c0", "em@r0c0", Box((0, 0), (240, 40))),
        ("em@r1c0", "em@r1c0", Box((272, 0), (512, 40))),
    ]
    cut = blocks([case_of("ct")], [(10, 4, 4)], (5, 4, 2))
    assert [c.id for c in cut] == ["ct@0-0-0", "ct@0-0-1", "ct@1-0-0", "ct@1-0-1"]
    assert cut[-1].box == Box((5, 0, 2), (10, 4, 4))


def test_block_names_sort_by_place() -> None:
    names = [c.id for c in blocks([case_of("s")], [(12, 1)], 1)]
    assert names[:2] == ["s@r00c0", "s@r01c0"]
    assert names == sorted(names)


def test_small_cases_stay_whole_and_parts_are_cut_where_they_lie() -> None:
    small, part = case_of("small", "site"), case_of("part", box=Box((100, 7), (120, 9)))
    found = blocks([small, part], [(14, 10), (20, 2)], 10)
    assert found[0] == small
    assert [box_of(c) for c in found[1:]] == [Box((100, 7), (110, 9)), Box((110, 7), (120, 9))]


@pytest.mark.parametrize(("size", "buffer"), [(0, 0), (4, -1), ((4, 4, 4), 0), ((4, 0), 0)])
def test_impossible_blocks_are_refused(size: int | Sequence[int], buffer: int) -> None:
    with pytest.raises(
        InputError, match=r"case s, shape \(9, 9\): got blocks of .* cells with a buffer of .*, expected"
    ):
        blocks([case_of("s")], [(9, 9)], size, buffer)


SECTIONS = [case_of(f"s{i}") for i in (10, 11, *range(10))]  # not in order


def test_runs_are_consecutive_by_number() -> None:
    """12 sections in runs of about 5: two of 6."""
    group = {c.id: c.group for c in runs(SECTIONS, 5)}
    assert {name for name, g in group.items() if g == "s0..s5"} == {f"s{i}" for i in range(6)}
    assert {name for name, g in group.items() if g == "s6..s11"} == {f"s{i}" for i in range(6, 12)}
    assert [c.id for c in runs(SECTIONS, 5)] == [c.id for c in SECTIONS]
    with pytest.raises(InputError, match="runs of 0 cases"):
        runs(SECTIONS, 0)


def test_runs_do_not_cross_stacks() -> None:
    stacks = [case_of(f"{s}{i}", s) for s in "ab" for i in range(3)]
    assert [c.group for c in runs(stacks, 2)] == ["a0..a0", "a1..a2", "a1..a2", "b0..b0", "b1..b2", "b1..b2"]


def test_folds_of_runs_with_a_gap_leave_out_the_neighbours() -> None:
    sections = runs(SECTIONS, 3)
    seen = []
    for fold in range(4):
        train, val = split(sections, fold, 4, gap=1)
        validated = sorted(int(name[1:]) for name in val)
        assert validated == list(range(validated[0], validated[0] + 3))
        assert {int(name[1:]) for name in train} == set(range(12)) - set(range(validated[0] - 1, validated[-1] + 2))
        seen += validated
    assert sorted(seen) == list(range(12))


def test_a_gap_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"fold 0: all 6 training cases lie within split\.gap=9 of a validation case"):
        split(runs(SECTIONS, 6), 0, 2, gap=9)


def test_beside_goes_by_the_value_of_numbers() -> None:
    names = ["z9_s2", "z9_s10", "z10_s1", "z9_s1"]
    assert beside(names, ["z9_s2"], 1) == {"z9_s1", "z9_s10"}
    assert beside(names, ["z9_s2"], 0) == set()
