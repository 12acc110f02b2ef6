import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.box import Box, bounding_box, read_padded


def test_box_refuses_stop_before_start():
    with pytest.raises(InputError, match=r"start \(3,\) must not exceed its stop \(2,\)"):
        Box((3,), (2,))
    with pytest.raises(InputError, match="must not exceed"):
        Box((0, 0), (2,))


def test_shape_slices_and_constructors():
    box = Box((2, -1), (5, 3))
    assert box.shape == (3, 4)
    assert box.slices == (slice(2, 5), slice(-1, 3))
    assert Box.at((2, -1), (3, 4)) == box
    assert Box.whole(np.zeros((4, 7)).shape) == Box((0, 0), (4, 7))
    assert box.shift((-2, 10)) == Box((0, 9), (3, 13))


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        (Box((1, 2), (3, 4)), Box((1, 2), (3, 4))),
        (Box((-2, 0), (3, 5)), Box((0, 0), (3, 5))),
        (Box((-1, 3), (6, 9)), Box((0, 3), (4, 5))),
        (Box((-5, 0), (-2, 5)), Box((0, 0), (0, 5))),
        (Box((7, 1), (9, 2)), Box((4, 1), (4, 2))),
        (Box((4, 0), (4, 5)), Box((4, 0), (4, 5))),
    ],
    ids=["inside", "before", "both sides", "wholly before", "wholly after", "empty"],
)
def test_clip_to_an_array_of_4_by_5(box, clipped):
    assert box.clip((4, 5)) == clipped


def test_read_padded_literals():
    array = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(
        read_padded(array, Box((-1, 1), (2, 5)), -9), [[-9, -9, -9, -9], [1, 2, -9, -9], [4, 5, -9, -9]]
    )
    np.testing.assert_array_equal(read_padded(array, Box((5, 5), (7, 8)), 4), np.full((2, 3), 4))
    leading = read_padded(array[None], Box((0, 0), (1, 2)), 0)
    np.testing.assert_array_equal(leading, [[[0, 1]]])


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    starts=st.lists(st.integers(-8, 8), min_size=3, max_size=3),
    sizes=st.lists(st.integers(0, 8), min_size=3, max_size=3),
)
def test_read_padded_equals_looking_up_every_cell(shape, starts, sizes):
    box = Box.at(starts[: len(shape)], sizes[: len(shape)])
    array = np.arange(1, 2 * np.prod(shape) + 1).reshape(2, *shape)
    cells = read_padded(array, box, 0)
    assert cells.shape == (2, *box.shape)
    for index in np.ndindex(box.shape):
        there = tuple(a + i for a, i in zip(box.start, index))
        inside = all(0 <= i < n for i, n in zip(there, shape))
        expected = array[(slice(None), *there)] if inside else (0, 0)
        np.testing.assert_array_equal(cells[(slice(None), *index)], expected)


def test_read_padded_asks_the_array_only_for_what_is_inside():
    class Spy:
        shape = (3, 10, 10)

        def __getitem__(self, index):
            self.asked = index
            return np.zeros(self.shape)[index]

    spy = Spy()
    assert read_padded(spy, Box((-4, 8), (2, 12)), 1).shape == (3, 6, 4)
    assert spy.asked == (slice(None), slice(0, 2), slice(8, 10))


def test_bounding_box():
    mask = np.zeros((5, 6, 7), dtype=bool)
    assert bounding_box(mask) is None
    mask[1, 4, 2] = mask[3, 2, 2] = True
    assert bounding_box(mask) == Box((1, 2, 2), (4, 5, 3))
    assert bounding_box(np.ones((2, 3), dtype=bool)) == Box((0, 0), (2, 3))
