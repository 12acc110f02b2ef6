import math

import pytest
import torch

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.noisy_labels import BootstrappedLoss, GeneralisedCrossEntropyLoss, SymmetricCrossEntropyLoss
from tests.losses.test_invariants import TABLES, batch, value_and_gradient

TABLE = LabelTable.declare({"background": 0, "a": 1})
# Probability of the labelled class, 1: 3/4 and 1/4.
LOGITS = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]])
LABEL = torch.ones(1, 2, dtype=torch.long)


def test_worked_by_hand():
    case = (LOGITS, LABEL, LABEL.bool())
    gce = GeneralisedCrossEntropyLoss(TABLE, q=0.5)(*case).item()
    assert gce == pytest.approx((2 - math.sqrt(3 / 4) * 1 - math.sqrt(1 / 4)) / 0.5 / 2)
    sce = SymmetricCrossEntropyLoss(TABLE, alpha=2.0, beta=3.0, log_zero=-5.0)(*case).item()
    entropy = (math.log(4 / 3) + math.log(4)) / 2
    assert sce == pytest.approx(2 * entropy + 3 * 5 * (1 / 4 + 3 / 4) / 2)
    soft = BootstrappedLoss(TABLE, beta=0.8)(*case).item()
    assert soft == pytest.approx(0.8 * entropy + 0.2 * (3 / 4 * math.log(4 / 3) + 1 / 4 * math.log(4)))
    hard = BootstrappedLoss(TABLE, beta=0.8, hard=True)(*case).item()
    assert hard == pytest.approx(0.8 * entropy + 0.2 * math.log(4 / 3))


def test_a_region_is_a_decision_between_two():
    # One region, sigmoid of the difference of the logits: the loss is that of the two classes.
    region = LabelTable.declare({"background": 0, "whole": [1, 2]}, regions_class_order=[1])
    case = (LOGITS[:, 1:] - LOGITS[:, :1], LABEL, LABEL.bool())
    for built in (GeneralisedCrossEntropyLoss, SymmetricCrossEntropyLoss, BootstrappedLoss):
        assert built(region)(*case).item() == pytest.approx(built(TABLE)(LOGITS, LABEL, LABEL.bool()).item(), rel=1e-6)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    "built, settings",
    [
        (GeneralisedCrossEntropyLoss, {"q": 1e-4}),
        (SymmetricCrossEntropyLoss, {"alpha": 1.0, "beta": 0.0}),
        (BootstrappedLoss, {"beta": 1.0}),
        (BootstrappedLoss, {"beta": 1.0, "hard": True}),
    ],
)
def test_cross_entropy_is_the_limit(kind, built, settings):
    table, case = TABLES[kind], batch(TABLES[kind])
    assert built(table, **settings)(*case).item() == pytest.approx(CrossEntropyLoss(table)(*case).item(), rel=1e-3)


def test_an_improbable_label_hardly_moves_gce():
    # Two cells with the label's probability 1/2 and 1/(1 + e^8): cross-entropy pulls the wrong one, GCE lets it be.
    logits = torch.tensor([[[0.0, 8.0], [0.0, 0.0]]])

    def share(loss):
        _, gradient = value_and_gradient(lambda *case: (loss(*case[:3]), {}), logits, LABEL, LABEL.bool())
        return (gradient[0, 1, 1] / gradient[0, 1].sum()).item()

    assert share(CrossEntropyLoss(TABLE)) > 0.6
    assert share(GeneralisedCrossEntropyLoss(TABLE, q=0.7)) < 0.05


@pytest.mark.parametrize(
    "built, settings, name",
    [
        (GeneralisedCrossEntropyLoss, {"q": 0.0}, "gce"),
        (GeneralisedCrossEntropyLoss, {"q": 1.5}, "gce"),
        (SymmetricCrossEntropyLoss, {"beta": -1.0}, "sce"),
        (SymmetricCrossEntropyLoss, {"log_zero": 0.0}, "sce"),
        (BootstrappedLoss, {"beta": math.nan}, "bootstrap"),
    ],
)
def test_wrong_settings_are_refused(built, settings, name):
    with pytest.raises(InputError, match=f"loss {name}: expected"):
        built(TABLE, **settings)
