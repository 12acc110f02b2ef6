import numpy as np
import pytest

from medseg.formats.nodata import comparable, with_data

LOWEST = float(np.finfo(np.float64).min)


@pytest.mark.parametrize(
    ("cells", "value", "expected"),
    [
        (np.array([0, 1, 255], np.uint8), 0, [False, True, True]),
        (np.array([2**53, 2**53 + 1], np.int64), 2**53 + 1, [True, False]),  # equal as floats
        (np.array([-9999, -9998.99, np.nan], np.float32), -9999.0, [False, True, True]),
        (np.array([np.nan, 0, np.inf], np.float32), np.nan, [False, True, True]),
        (np.array([-np.inf, 0, -3e38], np.float32), LOWEST, [False, True, True]),  # beyond float32
        (np.array([0.1, 0.2], np.float32), 0.1, [False, True]),  # the tag is the double 0.1
        (np.array([0, 1j, -1], np.complex64), 0, [False, True, True]),
    ],
)
def test_cells_that_hold_the_value_have_no_data(cells: np.ndarray, value: float, expected: list[bool]) -> None:
    (found,) = with_data(cells[None], [value])
    assert found.tolist() == expected


def test_each_band_has_its_own_value() -> None:
    bands = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]], np.int16)
    assert [band.tolist() for band in with_data(bands, [1, None, 2])] == [
        [True, False, True],
        [True, True, True],
        [True, True, False],
    ]


def test_nothing_is_compared_where_no_cell_can_hold_it() -> None:
    bands = np.array([[3, 4], [5, 6]], np.uint16)
    assert with_data(bands, [0, 7]) != []
    assert with_data(bands, [0, 2]) == []
    assert with_data(bands, [9, 7]) == []
    assert with_data(bands, [None, None]) == []
    assert with_data(bands[:0], []) == []


def test_whole_numbers_stay_exact_for_integers_only() -> None:
    assert repr(comparable(255.0, np.uint8)) == "255"
    assert repr(comparable(0.5, np.uint8)) == "0.5"
    assert repr(comparable(-9999.0, np.float32)) == "-9999.0"
    assert comparable(None, np.uint8) is None
    assert np.isnan(comparable(np.nan, np.int16))
