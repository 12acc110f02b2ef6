import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.doctor.contents import ChannelTally, LabelTally, parts_of


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.integers(1, 5))
def test_windows_add_up_to_the_whole(values: list[float], windows: int) -> None:
    cells = np.array(values, dtype=np.float32)
    whole, parts = ChannelTally("T1", cells.size), ChannelTally("T1", cells.size)
    whole.add(cells, None)
    for part in np.array_split(cells, windows):
        parts.add(part, None)
    one, other = whole.facts(), parts.facts()
    assert (one.n_valid, one.minimum, one.maximum) == (cells.size, cells.min(), cells.max())
    assert (one.at_minimum, one.at_maximum) == ((cells == cells.min()).sum(), (cells == cells.max()).sum())
    assert (one.minimum, one.at_minimum, one.digest) == (other.minimum, other.at_minimum, other.digest)
    assert np.isclose(one.total, other.total)


def test_cells_without_data_and_nan_do_not_count() -> None:
    tally = ChannelTally("T1", 4)
    tally.add(np.array([1, 2, np.nan, 9], dtype=np.float32), np.array([True, True, True, False]))
    facts = tally.facts()
    assert (facts.n_valid, facts.nonfinite, facts.maximum, facts.total) == (2, 1, 2, 3)


def test_label_values_are_counted_by_value() -> None:
    tally = LabelTally(6, floats=True)
    tally.add(np.array([0, 1, 1, 2.5, np.nan, 7], dtype=np.float32), np.array([True] * 5 + [False]))
    facts = tally.facts(None)
    assert facts.values == {0.0: 1, 1.0: 2, 2.5: 1}
    assert (facts.nonfinite, facts.missing) == (1, 1)


def test_components_are_those_of_each_class() -> None:
    index = np.zeros((9, 9), dtype=np.int16)
    index[0:2, 0:2], index[2, 2], index[8, 8], index[0, 8] = 1, 2, 1, -1
    parts = parts_of(index, background=True)
    assert [(p.cells, p.centre, p.gap) for p in parts[1]] == [(4, (0.5, 0.5), 0.0), (1, (8.0, 8.0), 6.0)]
    assert [p.cells for p in parts[2]] == [1]


def test_without_a_background_the_first_class_has_components_too() -> None:
    parts = parts_of(np.array([[0, 0, 1], [0, 1, 1]], dtype=np.int16), background=False)
    assert {index: [p.cells for p in found] for index, found in parts.items()} == {0: [3], 1: [3]}


def test_label_of_ignored_cells_has_no_components() -> None:
    assert parts_of(np.full((3, 3), -1, dtype=np.int16), background=True) == {}
