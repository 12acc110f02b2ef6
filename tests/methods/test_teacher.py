"""The average of a network, by its formula."""

import torch
from torch import nn

from medseg.methods.teacher import EmaTeacher, decay_at


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))


def test_the_teacher_is_the_average_of_the_formula() -> None:
    network, decay = net(), 0.8
    teacher = EmaTeacher(network, decay)
    expected = {name: value.double() for name, value in network.state_dict().items()}
    for n in range(12):
        with torch.no_grad():
            for number, parameter in enumerate(network.parameters()):
                rng = torch.Generator().manual_seed(100 * n + number)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        network(torch.randn(2, 1, 8, 8))
        teacher.update(network)
        d = min(decay, n / (n + 1))
        assert decay_at(n, decay) == d
        for name, value in network.state_dict().items():
            expected[name] = d * expected[name] + (1 - d) * value.double()
    for name, value in teacher.network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 12, "counters are those of the network"
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)
    assert int(teacher.updates) == 12


def test_the_first_averages_are_the_mean_of_all_states() -> None:
    network = nn.Linear(1, 1)
    teacher, states = EmaTeacher(network, 0.999), []
    for n in range(5):
        with torch.no_grad():
            network.weight.fill_(float(n))
        states.append(float(n))
        teacher.update(network)
    assert torch.allclose(teacher.network.weight, torch.tensor(sum(states) / 5))  # type: ignore[arg-type]


def test_a_resumed_teacher_continues_the_count() -> None:
    network = net()
    one, other = EmaTeacher(network, 0.99), EmaTeacher(network, 0.99)
    for _ in range(3):
        one.update(network)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        next(network.parameters()).add_(1)
    one.update(network)
    other.update(network)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_it_stays_in_evaluation_without_gradients() -> None:
    network = net()
    teacher = EmaTeacher(network, 0.9)
    nn.ModuleList([network, teacher]).train()
    assert network.training
    assert not any(module.training for module in teacher.modules())
    image = torch.randn(2, 1, 8, 8, requires_grad=True)
    assert torch.equal(teacher(image), teacher(image)), "no dropout"
    assert not teacher(image).requires_grad
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in teacher.parameters())
