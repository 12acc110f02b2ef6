import pytest

from medseg.errors import InputError
from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.methods.schedules import Constant, Cosine, MultiStep, Poly


def test_poly_by_hand() -> None:
    assert Poly(power=0.9)(0.0) == 1
    assert Poly(power=0.9)(0.5) == pytest.approx(0.5**0.9)
    assert Poly()(1.0) == 0


def test_cosine_by_hand() -> None:
    assert Cosine(warmup=0)(0.0) == 1
    assert Cosine(warmup=0)(0.5) == pytest.approx(0.5)
    assert Cosine(warmup=0, final=0.2)(1.0) == pytest.approx(0.2)


def test_multistep_by_hand() -> None:
    schedule = instantiate(compose("train", ["scheduler=multistep", "scheduler.milestones=[0.5,0.75]"]).scheduler)
    assert [schedule(p) for p in (0.0, 0.499, 0.5, 0.749, 0.75, 1.0)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert MultiStep(warmup=0.5)(0.0) == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"milestones": [0.9, 0.6]}, r"scheduler\.milestones=\[0\.9, 0\.6\]: expected increasing shares"),
        ({"milestones": [0, 0.5]}, "expected increasing shares"),
        ({"milestones": [60, 90]}, "expected increasing shares"),
        ({"gamma": 0}, r"scheduler\.gamma=0: expected a factor above 0"),
    ],
)
def test_milestones_are_shares_of_the_budget(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiStep(**settings)  # type: ignore[arg-type]


def test_warmup_rises_from_almost_nothing() -> None:
    ramp = [Constant(warmup=0.1)(p) for p in (0.0, 0.05, 0.1, 0.5)]
    assert ramp[0] == pytest.approx(0.01)
    assert ramp[1] == pytest.approx(0.51)
    assert ramp[2:] == [1.0, 1.0]


@pytest.mark.parametrize("schedule", [Poly(), Cosine(), Constant(), Poly(warmup=0.3), MultiStep()])
def test_factors_stay_in_range(schedule: Poly | Cosine | Constant | MultiStep) -> None:
    assert all(0 <= schedule(i / 100) <= 1 for i in range(101))
