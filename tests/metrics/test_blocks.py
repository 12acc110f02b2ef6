import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.labels import LabelTable
from medseg.metrics import blocks
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.blocks import row_blocks

TABLE = LabelTable.declare({"background": 0, "road": 1, "river": 2, "ignore": 9})
METRICS = ("iou", "miou", "boundary_iou", "auc", "mcc")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(1, 50))
def test_blocks_are_all_rows_in_order(height, width, cells, least):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CELLS", cells)
        found = list(row_blocks((height, width), least_rows=least))
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(height))
    assert all(rows.stop - rows.start >= min(least, height) for rows in found[:-1])
    assert all((rows.stop - rows.start) * width <= max(cells, width, least * width) for rows in found)


def scored(shape, *, seed=0):
    rng = np.random.default_rng(seed)
    pred, label = (np.kron(rng.integers(0, 3, (9, 7)), np.ones((4, 5)))[: shape[0], : shape[1]] for _ in range(2))
    label[rng.random(shape) < 0.1] = -1
    prob = rng.dirichlet([1, 1, 1], shape).astype(np.float32).transpose(2, 0, 1)
    scores = CaseScores(TABLE, metrics=METRICS, pooled=True, boundary_width=2, resamples=10)
    valid = rng.random(shape) < 0.9
    scores.add("a", pred.astype(np.int8), label.astype(np.int8), valid, spacing=(1.0, 1.0), unit="px", prob=prob)
    return scores.stored()


@pytest.mark.parametrize("cells", [1, 40, 333])
def test_scores_do_not_depend_on_blocks(monkeypatch, cells):
    whole = scored((33, 31))
    monkeypatch.setattr(blocks, "CELLS", cells)
    np.testing.assert_equal(scored((33, 31)), whole)


def test_counting_takes_few_bytes_a_cell(monkeypatch):
    monkeypatch.setattr(blocks, "CELLS", 2**14)
    shape = (2000, 500)
    label = np.zeros(shape, np.int8)
    label[200:1800, 100:400] = 1
    scores = CaseScores(TABLE, metrics=("iou", "miou", "boundary_iou"), pooled=True, boundary_width=3, resamples=10)
    tracemalloc.start()
    scores.add("a", label, label, label >= 0, spacing=(1.0, 1.0), unit="px")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * label.size, "eight bytes a cell are those of one array of int64"
