import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from medseg.callbacks.ema import EMA, decay_at
from medseg.errors import InputError


def averaged(ema: EMA, states: list[float]) -> AveragedModel:
    """The average after a network with batch normalisation has taken these values of its weights and statistics."""
    network = nn.BatchNorm1d(2)
    average = AveragedModel(network, use_buffers=True, multi_avg_fn=ema._average)
    for count, value in enumerate(states):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(value)
            network.num_batches_tracked.fill_(count)
        average.update_parameters(network)
    return average


def test_average_by_hand() -> None:
    # the first state is taken over; then 2/11 and 3/12 of the average are kept
    average = averaged(EMA(0.99), [1.0, 2.0, 4.0])
    second = 2 / 11 * 1.0 + 9 / 11 * 2.0
    third = 3 / 12 * second + 9 / 12 * 4.0
    assert average.module.weight.tolist() == pytest.approx([third] * 2)
    assert average.module.running_mean.tolist() == pytest.approx([third] * 2)


def test_counters_are_copied_not_averaged() -> None:
    assert int(averaged(EMA(0.99), [0.0] * 8).module.num_batches_tracked) == 7


def test_first_states_are_forgotten() -> None:
    assert averaged(EMA(0.99), [100.0] + [1.0] * 60).module.weight[0].item() == pytest.approx(1.0, abs=1e-3)


def test_decay_never_exceeds_its_value_and_never_falls() -> None:
    shares = [decay_at(n, 0.9, 1 / 9) for n in range(1, 500)]
    assert shares == sorted(shares)
    assert shares[-1] == 0.9


def test_without_decay_the_average_is_the_network() -> None:
    assert averaged(EMA(0.0), [1.0, 5.0]).module.weight.tolist() == [5.0, 5.0]


def test_share_is_how_far_back_the_average_reaches() -> None:
    """With a share of 1 and no bound the weight of a new state is 1 / (n + 2): nearly a plain mean."""
    states = [1.0, 2.0, 4.0, 8.0]
    average = averaged(EMA(0.9999, share=1.0), states).module.weight[0].item()
    by_hand = states[0]
    for n, state in enumerate(states[1:], start=1):
        by_hand = ((1 + n) * by_hand + state) / (2 + n)
    assert average == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("settings", "key"), [({"decay": -0.1}, "decay"), ({"decay": 1.0}, "decay"), ({"share": 0}, "share")]
)
def test_numbers_outside_their_ranges_are_refused(settings: dict[str, float], key: str) -> None:
    with pytest.raises(InputError, match=rf"callback\.ema\.{key}"):
        EMA(**settings)
