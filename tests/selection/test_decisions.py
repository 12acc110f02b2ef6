"""A candidate replaces the null choice only where its gain is significant."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medseg.selection.decisions import best_single, decide, difference, lines

NULL = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8}


def shifted(*gains: float) -> dict[str, float]:
    return {case: NULL[case] + gain for case, gain in zip(NULL, gains, strict=True)}


def test_a_clear_gain_replaces_the_null_choice() -> None:
    decision = decide("post", "none", {"none": NULL, "fill": shifted(0.1, 0.11, 0.09, 0.1)}, larger=True)
    assert decision.choice == "fill"
    row = decision.differences["fill"]
    assert row.gain == pytest.approx(0.1)
    assert (row.better, row.worse, row.cases) == (4, 0, 4)
    assert decision.means == pytest.approx({"none": 0.65, "fill": 0.75})


def test_a_gain_whose_interval_includes_0_does_not() -> None:
    decision = decide("post", "none", {"none": NULL, "fill": shifted(0.3, -0.05, 0.2, -0.02)}, larger=True)
    assert decision.differences["fill"].gain > 0
    assert decision.choice == "none"


def test_the_interval_is_students_at_the_level_of_all_candidates_together() -> None:
    gains = [0.02, 0.05, 0.01, 0.04]
    same = {f"other {i}": NULL for i in range(4)}
    decision = decide("post", "none", {"none": NULL, "fill": shifted(*gains)} | same, larger=True, alpha=0.05)
    assert decision.level == pytest.approx(0.99)
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.99)
    assert decision.differences["fill"].interval == pytest.approx((low, high))
    alone = decide("post", "none", {"none": NULL, "fill": shifted(*gains)}, larger=True)
    assert (decision.choice, alone.choice) == ("none", "fill"), "one of many needs more evidence than one alone"


def test_of_several_significant_gains_the_largest_wins() -> None:
    candidates = {"none": NULL, "small": shifted(0.01, 0.01, 0.01, 0.01), "large": shifted(0.1, 0.1, 0.1, 0.11)}
    assert decide("post", "none", candidates, larger=True).choice == "large"


def test_where_smaller_is_better_signs_are_turned() -> None:
    worse, better = shifted(0.1, 0.11, 0.09, 0.1), shifted(-0.1, -0.11, -0.09, -0.1)
    decision = decide("post", "none", {"none": NULL, "worse": worse, "better": better}, larger=False)
    assert decision.choice == "better"
    assert decision.differences["worse"].gain == pytest.approx(-0.1)
    assert best_single({"one": NULL, "worse": worse, "better": better}, larger=False).choice == "better"


def test_cases_without_a_value_are_left_out_and_few_have_no_interval() -> None:
    row = difference({"a": 0.9, "b": math.nan}, {"a": 0.5, "b": 0.5, "c": 0.1}, larger=True, level=0.95)
    assert (row.gain, row.interval, row.cases) == (pytest.approx(0.4), None, 1)
    assert not row.significant
    assert difference({}, NULL, larger=True, level=0.95).cases == 0


def test_the_best_single_configuration_needs_no_significance() -> None:
    decision = best_single({"A": NULL, "B": shifted(0.3, -0.1, 0.1, -0.2), "C": shifted(-1, -1, -1, -1)}, larger=True)
    assert decision.choice == decision.null == "B"
    assert decision.differences["A"].gain == pytest.approx(-0.025)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.integers(1, 5))
def test_identical_and_worse_candidates_never_win(scores: list[float], n: int) -> None:
    null = {str(i): score for i, score in enumerate(scores)}
    others = {f"o{k}": {case: score - 0.01 * k for case, score in null.items()} for k in range(n)}
    assert decide("post", "none", {"none": null} | others, larger=True).choice == "none"


def test_chance_alone_seldom_replaces_the_null_choice() -> None:
    """Of 200 decisions among 20 candidates without any gain, about alpha / 2 = 2.5 % replace the null choice."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        null = rng.normal(size=30)
        candidates = {"none": null} | {f"c{i}": null + rng.normal(size=30) for i in range(20)}
        scores = {name: {str(i): float(v) for i, v in enumerate(values)} for name, values in candidates.items()}
        wrong += decide("post", "none", scores, larger=True).choice != "none"
    assert wrong <= 12


def test_a_decision_is_plain_data_and_a_table() -> None:
    decision = decide(
        "mirrors", "as in training", {"as in training": NULL, "with": shifted(0.1, 0.11, 0.09, 0.1)}, larger=True
    )
    stored = decision.to_dict()
    assert stored["choice"] == "with"
    assert stored["null choice"] == {"name": "as in training", "mean": 0.65}
    assert stored["others"]["with"]["gain"] == 0.1
    assert stored["others"]["with"]["cases"] == 4
    text = lines(decision)
    assert text[0] == "mirrors: with"
    assert text[2].startswith("  as in training  0.6500")
    assert text[3].startswith("* with")
    assert "+0.1000" in text[3]
    assert "4/0" in text[3]
