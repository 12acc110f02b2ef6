import numpy as np
import pytest

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.registry import resolve
from medseg.topology import matching

TABLE = LabelTable.declare({"background": 0, "a": 1})


def drawn(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows]).astype(np.int16)


RING = drawn(".......", ".####..", ".#..#..", ".####..", ".......")
TWO = drawn(".......", ".#...#.", ".#...#.", ".......", ".......")
MOVED = drawn(".......", "...#...", "...#...", ".......", ".....#.")
NONE = np.zeros_like(RING)


def scored(name, *cases):
    scores = CaseScores(TABLE, metrics=[name], resamples=10)
    for i, (pred, label) in enumerate(cases):
        scores.add(f"p{i}", pred, label, label >= 0, spacing=(1.0, 1.0), unit="px")
    return [row[name] for row in scores.result()["cases"]]


def test_numbers_counted_by_hand():
    # Components and holes: the ring 1 and 1, the two parts 2 and 0, wherever they are.
    assert scored("betti_error", (RING, RING), (TWO, RING), (MOVED, TWO)) == [0, 2, 0]
    assert scored("betti_error", (NONE, RING), (TWO, NONE), (NONE, NONE)) == [2, 2, None]


def test_places_counted_by_hand():
    pytest.importorskip("topolosses")
    name = "betti_matching_error"
    # Both of TWO miss both of MOVED, but for a touch; the hole of the ring has no partner in its own filling.
    filled = np.maximum(RING, drawn(*["......."] * 2, "..##...", *["......."] * 2))
    assert scored(name, (RING, RING), (TWO, MOVED), (filled, RING)) == [0, 4, 1]
    assert scored(name, (NONE, RING), (TWO, NONE), (NONE, NONE)) == [2, 2, None]


@pytest.mark.parametrize("name", ["betti_error", "betti_matching_error"])
def test_cells_that_do_not_count_do_not_matter(name):
    if name == "betti_matching_error":
        pytest.importorskip("topolosses")
    hidden = RING.copy()
    hidden[1:4, 6] = IGNORE
    assert scored(name, (np.maximum(RING, (hidden == IGNORE).astype(np.int16)), hidden)) == [0]


def test_missing_library_is_named_with_the_configuration(monkeypatch):
    monkeypatch.setattr(matching, "find_spec", lambda name: None)
    matching.compiled.cache_clear()
    with pytest.raises(InputError, match=r"betti_matching_error\) needs topolosses.*pip install 'medseg\[topology\]'"):
        resolve(["dice", "betti_matching_error"], {})
    matching.compiled.cache_clear()
    assert resolve(["betti_error"], {})[0].name == "betti_error"
