"""clDice of whole cases, on centrelines that are known by construction."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.cldice import Cldice, centreline_counts

TABLE = LabelTable.declare({"background": 0, "vessel": 1})


def lines(shape, *slices):
    mask = np.zeros(shape, dtype=bool)
    for place in slices:
        mask[place] = True
    return mask


def scored(cases, **settings):
    scores = CaseScores(TABLE, metrics=["cldice"], resamples=10, **settings)
    for i, (pred, label) in enumerate(cases):
        ndim = label.ndim
        scores.add(f"c{i}", pred.astype(np.int16), label.astype(np.int16), label >= 0, spacing=(1.0,) * ndim, unit="mm")
    return scores.result()


def test_worked_by_hand():
    # Lines of one cell are their own centrelines: 6 of 10 predicted cells are right, 6 of 8 labelled ones are covered.
    label, pred = lines((7, 16), np.s_[3, 2:10]), lines((7, 16), np.s_[3, 4:14])
    assert centreline_counts(pred, label).tolist() == [6, 10, 6, 8]
    assert scored([(pred, label)])["classes"]["vessel"]["cldice"]["mean"] == pytest.approx(2 * 0.6 * 0.75 / 1.35)


@pytest.mark.parametrize("shape", [(9, 20), (9, 7, 20)])
def test_a_thick_line_covers_a_thin_one(shape):
    middle = tuple(n // 2 for n in shape[:-1])
    thin = lines(shape, (*middle, slice(2, 18)))
    thick = lines(shape, (*(slice(m - 1, m + 2) for m in middle), slice(2, 18)))
    right, predicted, covered, labelled = centreline_counts(thick, thin).tolist()
    assert right == predicted >= 14
    assert covered == labelled == 16
    assert scored([(thick, thin)])["classes"]["vessel"]["cldice"]["mean"] == 1.0
    assert scored([(thick, thick)])["classes"]["vessel"]["cldice"]["mean"] == 1.0


def test_a_gap_of_one_cell_costs_one_cell_of_the_labelled_line():
    label = lines((5, 20), np.s_[2, 2:18])
    pred = label.copy()
    pred[2, 9] = False
    value = scored([(pred, label)])["classes"]["vessel"]["cldice"]["mean"]
    assert value == pytest.approx(2 * (15 / 16) / (1 + 15 / 16))


def test_good_missed_and_false_are_no_mean_of_the_good_one_alone():
    line, none = lines((5, 12), np.s_[2, 1:9]), np.zeros((5, 12), dtype=bool)
    cases = [(line, line), (none, line), (line, none), (none, none)]
    result = scored(cases)
    assert [row["cldice"] for row in result["cases"]] == [1.0, 0.0, 0.0, None]
    assert result["classes"]["vessel"]["cldice"]["mean"] == pytest.approx(1 / 3)
    pooled = scored(cases, pooled=True)["classes"]["vessel"]["cldice"]
    assert (pooled["mean"], pooled["cases"]) == (pytest.approx(0.5), 3)  # 8 of 16 cells of either centreline
    assert scored(cases[1:3], pooled=True)["classes"]["vessel"]["cldice"]["mean"] == 0
    assert math.isnan(Cldice().from_parts(np.zeros(4)))


def test_pooled_lines_are_added_before_the_ratio():
    short, long = lines((5, 30), np.s_[2, 1:5]), lines((5, 30), np.s_[2, 1:29])
    apart = np.roll(short, 2, axis=0)
    pooled = scored([(long, long), (apart, short)], pooled=True)["classes"]["vessel"]["cldice"]["mean"]
    assert pooled == pytest.approx(28 / 32)


def test_predicted_and_labelled_change_places_and_depth_one_is_2d():
    pred, label = (gaussian_filter(np.random.default_rng(i).random((24, 26)), 1.5) > 0.5 for i in range(2))
    a, b, c, d = centreline_counts(pred, label).tolist()
    assert centreline_counts(label, pred).tolist() == [c, d, a, b]
    assert centreline_counts(pred[None], label[None]).tolist() == [a, b, c, d]


def test_the_metric_needs_both_shares():
    label = lines((7, 20), np.s_[3, 2:18])
    assert Cldice().from_parts(np.array([4, 4, 4, 16])) == pytest.approx(2 * 0.25 / 1.25)
    assert Cldice().from_parts(np.array([0, 4, 0, 16])) == 0.0
    ignored = label.astype(np.int16)
    ignored[3, 2:10] = IGNORE
    scores = CaseScores(TABLE, metrics=["cldice"])
    (row,) = scores.add(
        "c", label.astype(np.int16) * 0 + (ignored == 1), ignored, label | True, spacing=(1, 1), unit="px"
    )
    assert row["cldice"] == 1.0
