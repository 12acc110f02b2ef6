import pytest
import torch

from medseg.errors import InputError
from medseg.losses.boundary import BoundaryLoss, boundary
from tests.losses.drawn import ONE, certain, everywhere, mask


def test_worked_by_hand():
    # Distances 1, -1, -1, 1, 2; probabilities 1/2, 1, 0, 0, 1/4 give 1/2 - 1 + 1/2 over five cells.
    label = mask(".##..")[0]
    prob = torch.tensor([[[0.5, 1.0, 0.0, 0.0, 0.25]]])
    distance = torch.tensor([[[1.0, -1.0, -1.0, 1.0, 2.0]]])
    assert boundary(prob, distance, everywhere(label)).item() == pytest.approx(0.0)
    assert boundary(prob, distance, torch.tensor([[True, True, True, True, False]])).item() == pytest.approx(-0.5 / 4)


def test_far_errors_cost_more_than_near_ones():
    label = mask("........", ".##.....", ".##.....", "........")
    near, far = label.clone(), label.clone()
    near[0, 1, 3] = far[0, 1, 7] = 1
    values = [BoundaryLoss(ONE)(certain(pred), label, everywhere(label)).item() for pred in (label, near, far)]
    # Distances of the two cells: 1 and 5, of 32 cells.
    assert values[1] - values[0] == pytest.approx(1 / 32)
    assert values[2] - values[0] == pytest.approx(5 / 32)


def test_spacing_is_the_unit():
    label = mask("....", ".##.", "....")
    wrong = mask("....", ".##.", ".#..")
    plain, scaled = BoundaryLoss(ONE), BoundaryLoss(ONE, spacing=[3.0, 1.0])
    cost = [
        (loss(certain(wrong), label, everywhere(label)) - loss(certain(label), label, everywhere(label))).item()
        for loss in (plain, scaled)
    ]
    assert cost == pytest.approx([1 / 12, 3 / 12])


def test_weight_rises_with_the_training():
    label = mask("....", ".##.", "....")
    term = BoundaryLoss(ONE, start=0.2)
    whole = term(certain(label), label, everywhere(label))
    values = [term(certain(label), label, everywhere(label), progress=p) / whole for p in (0.0, 0.5, 1.0)]
    assert [v.item() for v in values] == pytest.approx([0.2, 0.6, 1.0])
    assert BoundaryLoss(ONE)(certain(label), label, everywhere(label), progress=0.0) == 0


def test_wrong_start_is_refused():
    with pytest.raises(InputError, match="loss boundary: start"):
        BoundaryLoss(ONE, start=1.5)
