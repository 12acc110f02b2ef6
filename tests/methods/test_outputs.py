from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.weighted_sum import WeightedSum
from medseg.methods.outputs import encoder_features, split_outputs
from medseg.runtime.verbosity import quiet_libraries
from tests.methods.test_supervised import TABLE, fit, net, scene, supervised


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings that every training leaves out, in Lightning's own code."""
    with quiet_libraries():
        yield


class Named(nn.Module):
    """A network with another output in training, and an encoder whose features are declared."""

    outputs = ("edges",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        features = self.encoder(image)
        logits: Tensor = self.decoder(features.relu())
        return {"logits": logits, "edges": features.mean(1)} if self.training else logits


class Term(nn.Module):
    """A term with a parameter of its own, on what it asks for."""

    def __init__(self, labels: object, needs: tuple[str, ...]) -> None:
        super().__init__()
        self.needs, self.scale = needs, nn.Parameter(torch.ones(1, 1))
        self.seen: list[dict[str, object]] = []

    def forward(self, logits: Tensor, label: Tensor, valid: Tensor, **further: Tensor | float) -> Tensor:
        self.seen.append(further)
        tensors = [value.float().mean() for value in further.values() if isinstance(value, Tensor)]
        return (self.scale * sum(tensors)).sum()


def loss_with(*needs: str) -> WeightedSum:
    return WeightedSum(TABLE, {"ce": CrossEntropyLoss, "further": partial(Term, needs=needs)})


def seen(loss: WeightedSum) -> list[dict[str, object]]:
    stored: list[dict[str, object]] = loss.terms["further"].seen  # type: ignore[assignment]
    return stored


def test_outputs_without_logits_are_refused() -> None:
    with pytest.raises(InputError, match=r"got the outputs \['edges'\], expected 'logits' among them"):
        split_outputs({"edges": torch.zeros(1)})


def test_terms_get_named_outputs_features_image_and_progress() -> None:
    loss, network = loss_with("edges", "features", "image", "progress"), Named()
    method = supervised(network, loss=loss)
    fit(method)
    assert [step["progress"] for step in seen(loss)] == [0, 0.25, 0.5, 0.75]
    last = seen(loss)[0]
    torch.testing.assert_close(last["edges"], last["features"].mean(1))  # type: ignore[attr-defined]
    assert torch.equal(last["image"], scene().image)  # type: ignore[arg-type]


def test_parameters_of_terms_learn_whatever_tunes_the_network() -> None:
    class Still:
        """A way of tuning that moves nothing of the network."""

        def groups(self, network: nn.Module) -> list[dict[str, object]]:
            return [{"params": list(network.parameters()), "lr": 0.0, "factor": 0.0, "weight_decay": 0.0}]

        def factor(self, group: object, progress: float) -> float:
            return 1.0

        def settle(self, network: nn.Module) -> None:
            network.eval()

    for tuning in (None, Still()):
        loss = loss_with("image")
        fit(supervised(net(), loss=loss, tuning=tuning))
        assert loss.terms["further"].scale.item() != 1


def test_the_hook_leaves_with_its_context() -> None:
    network = Named()
    with encoder_features(network, wanted=True) as features:
        network(torch.zeros(1, 1, 4, 4))
    assert features["features"].shape == (1, 4, 4, 4)
    assert not network.encoder._forward_hooks
    with encoder_features(nn.Identity(), wanted=False) as features:
        assert features == {}


def test_validation_leaves_out_what_only_training_has() -> None:
    loss = loss_with("edges")
    method = supervised(Named(), loss=loss).eval()
    given = scene()
    with torch.no_grad():
        method.validation_step(given, 0)
        expected = loss.terms["ce"](method.network(given.image[:1]), given.label[:1], given.valid[:1])
    assert not seen(loss)
    assert method._held_out["a"] == [pytest.approx(expected.item())]
