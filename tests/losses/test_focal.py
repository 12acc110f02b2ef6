import math

import pytest
import torch
from monai.losses import FocalLoss as MonaiFocal
from torchvision.ops import sigmoid_focal_loss

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.cross_entropy import cross_entropy, region_cross_entropy
from medseg.losses.focal import FocalLoss, focal, region_focal

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def batch(shape=(2, 5, 4), k=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = torch.randn(b, k, *s, generator=rng) * 2
    label = torch.randint(0, 3, (b, *s), generator=rng)
    label[0, :2] = IGNORE
    return logits, label, torch.rand(b, *s, generator=rng) > 0.2


def test_worked_by_hand():
    # Probability of the labelled class 1/4 and 1/2: ((3/4)^2 log 4 + (1/2)^2 log 2) / 2 = (9/8 + 1/4) / 2 log 2.
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]])
    label = torch.ones(1, 2, dtype=torch.long)
    assert focal(logits, label, label.bool()).item() == pytest.approx(11 / 16 * math.log(2))
    weighted = focal(logits, torch.tensor([[1, 0]]), label.bool(), weight=torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((9 / 8 + 3 / 4) / 4 * math.log(2))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 4, 3, 2)])
def test_equals_monai(gamma, shape):
    logits, label, _ = batch(shape)
    label = label.clamp(min=0)
    theirs = MonaiFocal(to_onehot_y=True, use_softmax=True, gamma=gamma)(logits, label[:, None])
    ours = focal(logits, label, label >= 0, gamma=gamma)  # theirs is the mean over classes too, which adds zeros
    assert ours.item() == pytest.approx(3 * theirs.item(), rel=1e-5)


def test_regions_equal_torchvision():
    logits, label, valid = batch(k=2)
    keep = valid & (label != IGNORE)
    target = torch.stack([label > 0, label == 2], dim=-1).float()[keep]
    theirs = sigmoid_focal_loss(logits.movedim(1, -1)[keep], target, alpha=-1, gamma=3.0, reduction="mean")
    assert FocalLoss(REGIONS, gamma=3.0)(logits, label, valid).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_without_focusing_it_is_cross_entropy():
    logits, label, valid = batch()
    weight = torch.tensor([1.0, 5.0, 0.5])
    ours = FocalLoss(TABLE, gamma=0.0, class_weights={"a": 5.0, "b": 0.5})(logits, label, valid)
    assert ours.item() == pytest.approx(cross_entropy(logits, label, valid, weight=weight).item(), rel=1e-6)
    target, weight = torch.stack([label > 0, label == 2], dim=1), torch.tensor([2.0, 1.0])
    args = (logits[:, :2], target, valid)
    ours = region_focal(*args, gamma=0.0, weight=weight).item()
    assert ours == pytest.approx(region_cross_entropy(*args, weight=weight).item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_certainty_has_a_finite_gradient(gamma):
    logits = torch.tensor([[[200.0], [0.0]]], requires_grad=True)
    focal(logits, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1).bool(), gamma=gamma).backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("settings", [{"gamma": -1.0}, {"gamma": math.nan}, {"class_weights": {"liver": 1.0}}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss focal"):
        FocalLoss(TABLE, **settings)
