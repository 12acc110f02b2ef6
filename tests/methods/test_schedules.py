import pytest

from medseg.methods.schedules import Constant, Cosine, Poly


def test_poly_by_hand() -> None:
    assert Poly(power=0.9)(0.0) == 1
    assert Poly(power=0.9)(0.5) == pytest.approx(0.5**0.9)
    assert Poly()(1.0) == 0


def test_cosine_by_hand() -> None:
    assert Cosine(warmup=0)(0.0) == 1
    assert Cosine(warmup=0)(0.5) == pytest.approx(0.5)
    assert Cosine(warmup=0, final=0.2)(1.0) == pytest.approx(0.2)


def test_warmup_rises_from_almost_nothing() -> None:
    ramp = [Constant(warmup=0.1)(p) for p in (0.0, 0.05, 0.1, 0.5)]
    assert ramp[0] == pytest.approx(0.01)
    assert ramp[1] == pytest.approx(0.51)
    assert ramp[2:] == [1.0, 1.0]


@pytest.mark.parametrize("schedule", [Poly(), Cosine(), Constant(), Poly(warmup=0.3)])
def test_factors_stay_in_range(schedule: Poly | Cosine | Constant) -> None:
    assert all(0 <= schedule(i / 100) <= 1 for i in range(101))
