"""Partners by order, where no name fits."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights import load as loading
from medseg.weights.options import WeightOptions
from medseg.weights.order import WARNING
from medseg.weights.pretrained import Pretrained

RGB = tuple(Channel(n) for n in "RGB")
State = dict[str, torch.Tensor]


def network(channels: int = 3, classes: int = 0) -> nn.Module:
    torch.manual_seed(channels)
    layers = [nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, *([nn.Linear(8, classes)] if classes else []))


def file_of(net: nn.Module, spelt: Callable[[int, str], str] = lambda i, name: f"tensor{i}") -> Pretrained:
    """Its tensors under other names."""
    return Pretrained(
        {spelt(i, name): t.clone() for i, (name, t) in enumerate(net.state_dict().items())}, "net.pth", RGB
    )


def load(net: nn.Module, file: Pretrained) -> loading.Report:
    options = WeightOptions(least_share=0.5)
    return loading.load(net, file, stem="0.weight", channels=RGB[: net[0].in_channels], options=options)  # type: ignore[index]


def test_equal_shapes_in_the_same_order_are_taken_and_reported() -> None:
    trained, net = network(), network()
    nn.init.ones_(trained[3].weight)  # type: ignore[index]
    report = load(net, file_of(trained))
    assert all(torch.equal(t, trained.state_dict()[name]) for name, t in net.state_dict().items())
    assert report.share == 1
    assert WARNING in report.warnings
    assert "no name fits" in report.prefix


def test_names_that_fit_go_first() -> None:
    report = load(network(), file_of(network(), lambda i, name: f"backbone.{name}"))
    assert report.share == 1
    assert report.warnings == ()


def test_channels_of_the_stem_and_the_classifier_may_differ() -> None:
    for classes, others in ((0, 10), (5, 0), (5, 10)):
        net = network(channels=2, classes=classes)
        report = load(net, file_of(network(classes=others)))
        assert WARNING in report.warnings
        assert [row.how for row in report.rows if row.name == "0.weight"] == ["adapted"]


def test_counters_of_batches_may_be_missing() -> None:
    file = file_of(network(), lambda i, name: f"tensor{i}.{name.rpartition('.')[2]}")
    state = {name: t for name, t in file.state.items() if not name.endswith("num_batches_tracked")}
    assert len(state) == len(file.state) - 2
    assert load(network(), file.with_state(state)).share == 1


def swapped(state: State) -> State:
    names = list(state)
    return {name: state[name] for name in [*names[2:], *names[:2]]}


def without_one(state: State) -> State:
    return dict(list(state.items())[:4] + list(state.items())[5:])


def longer(state: State) -> State:
    return state | {"further.weight": torch.ones(8, 8, 1, 1), "further.bias": torch.ones(8)}


def of_other_roles(state: State) -> State:
    """The shift of a normalisation ahead of its scale, as names in alphabetical order have it."""
    renamed = {"tensor2": "two.bias", "tensor3": "two.weight"}
    return {renamed.get(name, name): t for name, t in state.items()}


def wider(state: State) -> State:
    """All layers but the first."""
    return {n: t if n in ("tensor0", "tensor1") else torch.ones([2 * k for k in t.shape]) for n, t in state.items()}


@pytest.mark.parametrize("changed", [swapped, wider, without_one, longer, of_other_roles])
def test_any_doubt_is_refused(changed: Callable[[State], State]) -> None:
    file = file_of(network())
    with pytest.raises(InputError, match=r"none of its .* nor are its shapes the encoder's in order"):
        load(network(), file.with_state(changed(dict(file.state))))


def test_few_tensors_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(InputError, match="nor are its shapes the encoder's in order"):
        load(net, file_of(net))
