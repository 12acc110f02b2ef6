"""Sites in given proportions."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from medseg.data.sampling.weighted import ByWeight
from medseg.errors import InputError
from tests.data.sampling.test_patches import Drawn

SITES = [("a1", "siteA", 100), ("a2", "siteA", 300), ("b1", "siteB", 5), ("c", "c", 10)]


def cases() -> list[Drawn]:
    return [Drawn(case, area, group=group) for case, group, area in SITES]


def drawn(weights: Mapping[str, float], n: int = 4000) -> Counter[str]:
    sampler = ByWeight(cases(), seed=0, weights=weights)
    rng = np.random.default_rng(0)
    return Counter(SITES[sampler.choose(rng, i, forced=i % 2 == 0)[0]][0] for i in range(n))


def test_each_site_has_its_share_and_within_it_each_case_its_area() -> None:
    counts = drawn({"siteA": 1, "siteB": 2, "c*": 1})
    for name, share in {"a1": 1 / 16, "a2": 3 / 16, "b1": 1 / 2, "c": 1 / 4}.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)


def test_the_first_pattern_counts_and_weight_0_leaves_out() -> None:
    assert set(drawn({"a1": 1, "siteA": 0, "*": 1}, 500)) == {"a1", "b1", "c"}


def test_without_weights_cases_are_drawn_by_area() -> None:
    assert drawn({})["a2"] / 4000 == pytest.approx(300 / 415, abs=0.03)


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"siteA": -1, "*": 1}, r"^sampling\.weights=.*: expected weights of 0 or more, at least one above 0$"),
        ({"*": 0}, r"at least one above 0$"),
        ({"siteA": 1}, r"^sampling\.weights: no pattern matches 2 training cases: b1, c; add '\*'"),
        ({"*": 1, "siteA": 1}, r"^sampling\.weights: no training case or group is left for 'siteA'; cases are a1, "),
        ({"siteD": 1, "*": 1}, r"^sampling\.weights: no training case or group is left for 'siteD'"),
    ],
)
def test_weights_that_fit_no_case_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ByWeight(cases(), seed=0, weights=weights)
