"""The label of a patch whose case several observers have labelled."""

from collections import Counter

import numpy as np

from medseg.data.sampling.observed import draw_observer, shares
from medseg.labels import IGNORE


def test_observers_come_equally_often_and_as_a_function_of_the_key() -> None:
    keys = [(seed, step, sample) for seed in (0, 7) for step in range(200) for sample in range(3)]
    drawn = [draw_observer(key, 3) for key in keys]
    assert drawn == [draw_observer(key, 3) for key in keys]
    hits = Counter(drawn)
    assert all(abs(hits[i] - 400) < 4 * np.sqrt(1200 * 2 / 9) for i in range(3))
    for position in range(3):  # seed, step and sample each matter
        others = [tuple(v + 1000 * (i == position) for i, v in enumerate(key)) for key in keys]
        assert drawn != [draw_observer(other, 3) for other in others]  # type: ignore[arg-type]


def test_shares_by_hand() -> None:
    votes = np.array([[0, 1, 2, IGNORE, IGNORE], [0, 2, 2, 1, IGNORE], [0, 2, 1, IGNORE, IGNORE]])
    label = np.array([0, 2, 2, 1, IGNORE])
    expected = np.array([[1, 0, 0, 0, 0], [0, 1 / 3, 1 / 3, 1, 0], [0, 2 / 3, 2 / 3, 0, 0]])
    found = shares(votes, label, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_an_ignored_cell_has_no_share_and_a_cell_without_votes_that_of_its_label() -> None:
    """As resampling of each label by itself may leave them."""
    votes = np.array([[1, IGNORE], [1, IGNORE]])
    assert shares(votes, np.array([IGNORE, 1]), 2).tolist() == [[0, 0], [0, 1]]
