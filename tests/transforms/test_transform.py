import numpy as np
import pytest

from medseg.errors import InputError
from medseg.transforms.transform import check_range, draw_factor


@pytest.mark.parametrize(
    ("p", "low", "high"), [(-0.1, 0, 1), (1.1, 0, 1), (float("nan"), 0, 1), (0.5, 2, 1), (0.5, -1, 1)]
)
def test_settings_that_cannot_be_drawn_from_are_refused(p, low, high):
    with pytest.raises(InputError, match=r"^transform\.noise: "):
        check_range("transform.noise", p, low, high, least=0)


def test_factor_is_below_and_above_one_equally_often():
    factor = draw_factor(np.random.default_rng(0), 0.7, 1.5, 20000)
    below, above = factor[factor < 1], factor[factor > 1]
    assert len(below) / 20000 == pytest.approx(0.5, abs=0.015)
    assert below.mean() == pytest.approx(0.85, abs=0.005)
    assert above.mean() == pytest.approx(1.25, abs=0.008)
    assert 0.7 <= factor.min() < 0.701
    assert 1.499 < factor.max() <= 1.5


@pytest.mark.parametrize(("low", "high"), [(1.2, 1.4), (0.5, 0.8), (1.0, 1.0)])
def test_factor_on_one_side_is_uniform(low, high):
    factor = draw_factor(np.random.default_rng(0), low, high, 5000)
    assert factor.min() >= low
    assert factor.max() <= high
    assert factor.mean() == pytest.approx((low + high) / 2, abs=0.01)
