"""What every loss of structures promises: what does not count does not matter, in any precision and in 2D as in 3D."""

from importlib.util import find_spec

import pytest
import torch

from medseg.labels import IGNORE
from medseg.losses.betti_matching import BettiMatchingLoss
from medseg.losses.boundary import BoundaryLoss
from medseg.losses.cldice import ClDiceLoss
from medseg.losses.connectivity import ConnectivityLoss
from medseg.losses.hausdorff import HausdorffLoss
from medseg.losses.skeleton_recall import SkeletonRecallLoss
from tests.losses.drawn import REGIONS, TABLE, batch

NEEDED = pytest.mark.skipif(find_spec("topolosses") is None, reason="topolosses is not installed")
LOSSES = [
    pytest.param(BettiMatchingLoss, marks=NEEDED),
    BoundaryLoss,
    ConnectivityLoss,
    HausdorffLoss,
    ClDiceLoss,
    SkeletonRecallLoss,
]
TABLES = pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])


@TABLES
@pytest.mark.parametrize("loss", LOSSES)
def test_what_does_not_count_does_not_matter(loss, table):
    logits, label, valid = batch(table)
    value = loss(table)(logits, label, valid)
    (gradient,) = torch.autograd.grad(value, logits)
    out = ~(valid & (label != IGNORE))
    other = torch.where(out[:, None], torch.tensor(float("inf")), logits.detach()).requires_grad_()
    relabelled = torch.where(~valid, 2, label)
    again = loss(table)(other, relabelled, valid)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(torch.autograd.grad(again, other)[0], gradient)
    assert gradient.movedim(1, -1)[out].abs().sum() == 0
    assert gradient.abs().sum() > 0


@TABLES
@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_counts(loss, table):
    logits, label, valid = batch(table)
    value = loss(table)(logits, label, torch.zeros_like(valid))
    assert value == 0
    assert torch.autograd.grad(value, logits)[0].abs().sum() == 0


@TABLES
@pytest.mark.parametrize("loss", LOSSES)
def test_2d_equals_3d_of_depth_one(loss, table):
    logits, label, valid = batch(table)
    flat = loss(table)(logits, label, valid)
    torch.testing.assert_close(loss(table)(logits[:, :, None], label[:, None], valid[:, None]), flat)


@TABLES
@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_single(loss, table):
    logits, label, valid = batch(table)
    half = logits.detach().half()
    assert loss(table)(half, label, valid) == loss(table)(half.float(), label, valid)


@pytest.mark.parametrize("loss", LOSSES)
def test_order_of_images_and_classes_does_not_matter(loss):
    logits, label, valid = batch(TABLE)
    value = loss(TABLE)(logits, label, valid)
    torch.testing.assert_close(loss(TABLE)(logits.flip(0), label.flip(0), valid.flip(0)), value)
    swapped = torch.where(label > 0, 3 - label, label)
    torch.testing.assert_close(loss(TABLE)(logits[:, [0, 2, 1]], swapped, valid), value)


@pytest.mark.parametrize("loss", LOSSES)
def test_class_without_cells_stays_finite(loss):
    logits, label, valid = batch(TABLE)
    value = loss(TABLE)(logits, torch.where(label == 2, 0, label), valid)
    assert value.isfinite()
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_the_value(loss):
    logits, label, valid = batch(TABLE, (1, 5, 4), seed=3)
    term, logits = loss(TABLE), logits.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(term(logits, label, valid), logits)
    step, direction = 1e-2, torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        rise = term(logits + step * direction, label, valid) - term(logits - step * direction, label, valid)
    torch.testing.assert_close(rise.double() / (2 * step), (gradient * direction).sum(), rtol=2e-2, atol=1e-4)
