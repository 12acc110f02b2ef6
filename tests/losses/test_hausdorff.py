import pytest
import torch
from monai.losses import HausdorffDTLoss

from medseg.errors import InputError
from medseg.losses.hausdorff import HausdorffLoss
from tests.losses.drawn import ONE, TABLE, batch, certain, everywhere, mask


def test_worked_by_hand():
    # One false cell, 3 cells from the label (d_g = 3) and on the predicted boundary (d_p = 1): (9 + 1) / 8.
    label, pred = mask("##......"), mask("##..#...")
    loss = HausdorffLoss(ONE)(certain(pred), label, everywhere(label))
    assert loss.item() == pytest.approx(10 / 8)
    assert HausdorffLoss(ONE, spacing=[1.0, 2.0])(certain(pred), label, everywhere(label)).item() == pytest.approx(5.0)
    assert HausdorffLoss(ONE, alpha=1.0)(certain(pred), label, everywhere(label)).item() == pytest.approx(4 / 8)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_equals_monai(alpha):
    logits, label, _ = batch(TABLE, (2, 6, 7, 8))
    label = label.clamp(min=0)
    target = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    theirs = HausdorffDTLoss(alpha=alpha, softmax=True, include_background=False)(logits, target)
    ours = HausdorffLoss(TABLE, alpha=alpha)(logits, label, everywhere(label))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)


def test_perfect_prediction_costs_nothing():
    label = mask("....", ".##.", "....")
    assert HausdorffLoss(ONE)(certain(label), label, everywhere(label)).item() == pytest.approx(0.0)


def test_wrong_power_is_refused():
    with pytest.raises(InputError, match="loss hausdorff: alpha"):
        HausdorffLoss(ONE, alpha=0.0)
