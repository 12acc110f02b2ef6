"""Differences of two predictions: by hand, against scipy's permutation test, and as an experiment repeated."""

import numpy as np
import pytest
from scipy import stats

from medseg.metrics.paired_draws import PairedDraws, corrected, difference, of_values

FIRST = np.array([0.7, 0.8, 0.6, 0.75, 0.9, 0.5])
SECOND = np.array([0.75, 0.82, 0.7, 0.74, 0.91, 0.6])
CASES = list("abcdef")


def test_p_is_that_of_scipys_exact_permutation_test():
    found = difference(of_values(FIRST, SECOND), PairedDraws.of(CASES))
    oracle = stats.permutation_test(
        (SECOND, FIRST), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert found.mean == pytest.approx((SECOND - FIRST).mean())
    assert found.p == pytest.approx(oracle.pvalue)


def test_a_small_number_of_draws_is_close_to_all_exchanges():
    exact = difference(of_values(FIRST, SECOND), PairedDraws.of(CASES))
    drawn = PairedDraws.of(CASES, permutations=63)  # fewer than the 64 exchanges
    assert len(drawn.exchanged) == 63
    assert not drawn.exchanged[0].any()
    assert difference(of_values(FIRST, SECOND), drawn).p == pytest.approx(exact.p, abs=0.15)


def test_exchanging_the_predictions_changes_the_sign_alone():
    one = difference(of_values(FIRST, SECOND), PairedDraws.of(CASES))
    other = difference(of_values(SECOND, FIRST), PairedDraws.of(CASES))
    assert other.mean == pytest.approx(-one.mean)
    assert other.p == one.p
    assert other.detectable == pytest.approx(one.detectable)
    assert other.ci95 == pytest.approx([-one.ci95[1], -one.ci95[0]])


def test_cases_of_a_group_count_as_one():
    """Each case three times over, as three scans of a patient: no more is known than from each case once."""
    single = difference(of_values(FIRST, SECOND), PairedDraws.of(CASES))
    tripled = of_values(np.repeat(FIRST, 3), np.repeat(SECOND, 3))
    grouped = difference(tripled, PairedDraws.of(np.repeat(CASES, 3).tolist()))
    alone = difference(tripled, PairedDraws.of([str(n) for n in range(18)]))
    assert grouped.p == single.p
    assert grouped.ci95 == pytest.approx(single.ci95)
    assert grouped.detectable == pytest.approx(single.detectable)
    assert alone.p < single.p
    assert alone.ci95[1] - alone.ci95[0] < 0.7 * (single.ci95[1] - single.ci95[0])


def test_equal_predictions_differ_by_nothing():
    found = difference(of_values(FIRST, FIRST), PairedDraws.of(CASES))
    assert (found.mean, found.p) == (0.0, 1.0)
    assert (*found.ci95, found.detectable) == pytest.approx((0, 0, 0))


def test_one_group_has_no_interval():
    found = difference(of_values(np.array([0.5]), np.array([0.6])), PairedDraws.of(["a"]))
    assert (found.ci95, found.detectable, found.p) == (None, None, 1.0)


def test_no_value_is_no_difference():
    assert difference(lambda draws: np.full(len(draws), np.nan), PairedDraws.of(CASES)) is None


def test_intervals_and_detectable_differences_hold_what_they_say():
    """200 test sets of 8 cases: intervals miss the truth in few, and 80 of 100 show a difference as large as stated."""
    rng = np.random.default_rng(0)
    missed, shown, stated = 0, 0, 0.1 * (stats.t.ppf(0.975, 7) + stats.t.ppf(0.8, 7)) / np.sqrt(8)
    sizes = []
    for seed in range(200):
        noise = rng.normal(0, 0.1, 8)
        draws = PairedDraws.of(list("abcdefgh"), resamples=300, seed=seed)
        found = difference(of_values(np.zeros(8), noise), draws)
        missed += not found.ci95[0] <= 0 <= found.ci95[1]
        sizes.append(found.detectable)
        shown += difference(of_values(np.zeros(8), noise + stated), draws).p < 0.05
    assert missed / 200 < 0.09  # 5 % of such intervals; plain percentiles miss it in 11 %
    assert np.mean(sizes) == pytest.approx(stated, rel=0.08)
    assert 0.72 < shown / 200 < 0.95


def test_holm_by_hand():
    assert corrected({"a": 0.01, "b": 0.02, "c": 0.9}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.9})
    assert corrected({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert corrected({}) == {}
