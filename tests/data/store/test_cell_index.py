import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.store.cell_index import CellIndex, valid_share
from medseg.geometry.box import Box
from medseg.labels import IGNORE

TARGETS = (("a", (1,)), ("b", (2,)))


def index_of(label: np.ndarray, rows: int | None = None) -> CellIndex:
    index = CellIndex(label.shape, TARGETS)
    step = rows or len(label)
    for start in range(0, len(label), step):
        box = Box.at((start, *[0] * (label.ndim - 1)), (step, *label.shape[1:])).clip(label.shape)
        part = label[box.slices]
        index.add(box, part, part != IGNORE)
    return index


@pytest.mark.parametrize("rows", [None, 7])
def test_cells_are_of_their_class_and_bounded(rows: int | None) -> None:
    label = np.zeros((60, 200, 120), np.int16)
    label[:50] = 1
    label[55, 5, 5] = 2
    cells = index_of(label, rows).arrays()
    assert len(cells["of a"]) == 50 * 200 * 120 // 100
    assert (label[tuple(cells["of a"].T)] == 1).all()
    assert len({tuple(c) for c in cells["of a"].tolist()}) == len(cells["of a"])
    assert cells["of b"].tolist() == [[55, 5, 5]]
    assert "of annotated" not in cells


def test_cells_of_windows_are_drawn_evenly() -> None:
    label = np.ones((400, 300), np.int16)
    rows = index_of(label, 50).arrays()["of a"][:, 0]
    counts = np.histogram(rows, bins=8, range=(0, 400))[0]
    assert counts.sum() == 10_000
    assert abs(counts - 1250).max() < 5 * np.sqrt(1250)


def test_few_cells_are_all_kept_whatever_the_windows() -> None:
    label = np.random.default_rng(0).integers(0, 3, (40, 30)).astype(np.int16)
    for rows in (None, 1, 16):
        cells = index_of(label, rows).arrays()["of b"]
        assert set(map(tuple, cells.tolist())) == set(map(tuple, np.argwhere(label == 2).tolist()))


def test_annotated_cells_where_some_are_ignored() -> None:
    label = np.full((4, 4), IGNORE, np.int16)
    label[1, 2] = 0
    index = index_of(label)
    assert index.arrays()["of annotated"].tolist() == [[1, 2]]
    assert (index.n_valid, index.counts) == (1, {"a": 0, "b": 0, "annotated": 1})


@given(
    st.tuples(st.integers(-20, 60), st.integers(-20, 60)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([None, 16, 7, 23]),
)
def test_valid_share_is_the_share_of_the_case_where_all_is_valid(start, size, rows) -> None:
    shape = (50, 41)
    label = np.ones(shape, np.int16)
    box = Box.at(start, size)
    inside = np.prod(box.clip(shape).shape)
    share = valid_share(index_of(label, rows).arrays()["valid"], shape, box)
    assert share == pytest.approx(inside / np.prod(size))


def test_valid_share_of_a_half_valid_case() -> None:
    label = np.ones((64, 64), np.int16)
    label[:, 32:] = IGNORE
    counts = index_of(label).arrays()["valid"]
    assert valid_share(counts, (64, 64), Box((0, 0), (64, 32))) == 1
    assert valid_share(counts, (64, 64), Box((0, 16), (64, 48))) == 0.5
    assert valid_share(counts, (64, 64), Box((0, 33), (64, 64))) == 0
