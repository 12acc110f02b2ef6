import math

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.calibration import (
    LabelSmoothingLoss,
    NeighbourAwareLoss,
    SpatialSmoothingLoss,
    around,
    proportions,
    spatially_smoothed,
)
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.decisions import decide_classes
from tests.losses.test_invariants import CLASSES, TABLES, batch, value_and_gradient

TABLE = LabelTable.declare({"background": 0, "a": 1})
REGION = LabelTable.declare({"background": 0, "whole": [1, 2]}, regions_class_order=[1])


def one_hot(label, valid=None, k=2):
    counted = label != IGNORE if valid is None else valid & (label != IGNORE)
    return decide_classes(torch.zeros(len(label), k, *label.shape[1:]), label, counted).target(), counted


def test_label_smoothing_equals_torch():
    logits, label, valid = batch(CLASSES)
    target = torch.where(valid, label, IGNORE)
    theirs = functional.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=0.3)
    ours = LabelSmoothingLoss(CLASSES, smoothing=0.3)(logits, label, valid)
    torch.testing.assert_close(ours, theirs)


def test_regions_are_smoothed_to_one_half():
    logits, label, valid = batch(REGION)
    label = label.clamp(max=1)
    counted = valid & (label != IGNORE)
    soft = 0.8 * (label > 0).float() + 0.1
    theirs = functional.binary_cross_entropy_with_logits(logits[:, 0][counted], soft[counted])
    torch.testing.assert_close(LabelSmoothingLoss(REGION, smoothing=0.2)(logits, label, valid), theirs)


@pytest.mark.parametrize("shape", [(7,), (4, 5), (4, 3, 5)])
@pytest.mark.parametrize("side", [1.0, 0.3])
def test_sums_around_a_cell_equal_a_convolution(shape, side):
    cells = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    line = torch.tensor([side, 1.0, side])
    kernel = line
    for _ in shape[1:]:
        kernel = kernel[..., None] * line
    kernel[(1,) * len(shape)] = 0
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(shape) - 1]
    expected = convolve(cells, kernel[None, None], padding=1)
    torch.testing.assert_close(around(cells, side, axes=len(shape)), expected)


def test_spatial_smoothing_worked_by_hand():
    # A column of class 1 at the left of a plane: its neighbour in the middle of the plane has 3 of 8 neighbours of it,
    # with weights e^-1, e^-1/2 and e^-1 of 4 (e^-1 + e^-1/2).
    label = torch.zeros(1, 5, 5, dtype=torch.long)
    label[:, :, :2] = 1
    target = spatially_smoothed(*one_hot(label))
    edge, corner = math.exp(-0.5), math.exp(-1)
    assert target[0, 0, 1, 2, 2].item() == pytest.approx((edge + 2 * corner) / (4 * (edge + corner)) / 2)
    assert target[0, 0, 0, 2, 4].item() == 1
    assert target.sum(dim=2).allclose(torch.ones(()))


def test_spatial_smoothing_leaves_out_what_does_not_count():
    label = torch.tensor([[[1, 0, IGNORE], [1, 0, IGNORE]]])
    target = spatially_smoothed(*one_hot(label))
    edge, corner = math.exp(-0.5), math.exp(-1)
    assert target[0, 0, 1, 0, 1].item() == pytest.approx((edge + corner) / (2 * edge + corner) / 2)
    lonely = torch.full((1, 3, 3), IGNORE)
    lonely[0, 1, 1] = 1
    assert spatially_smoothed(*one_hot(lonely))[0, 0, :, 1, 1].tolist() == [0, 1], "without neighbours"


def test_a_wide_gaussian_weighs_all_neighbours_alike():
    label = torch.randint(0, 2, (1, 4, 4), generator=torch.Generator().manual_seed(0))
    target, counted = one_hot(label)
    eight = (9 * proportions(target, counted) - target)[:, :, :, 1:3, 1:3] / 8
    expected = (target[..., 1:3, 1:3] + eight) / 2
    torch.testing.assert_close(spatially_smoothed(target, counted, sigma=1e4)[..., 1:3, 1:3], expected)


def test_proportions_are_of_counted_cells():
    label = torch.tensor([[[0, 1, 1, IGNORE]]])
    target, counted = one_hot(label)
    expected = torch.tensor([1 / 2, 2 / 3, 1.0])
    torch.testing.assert_close(proportions(target, counted)[0, 0, 1, 0, :3], expected)


@pytest.mark.parametrize("kind", TABLES)
def test_without_penalty_nacl_is_cross_entropy(kind):
    table, case = TABLES[kind], batch(TABLES[kind])
    ours = value_and_gradient(lambda *args: (NeighbourAwareLoss(table, penalty=0.0)(*args[:3]), {}), *case)
    theirs = value_and_gradient(lambda *args: (CrossEntropyLoss(table)(*args[:3]), {}), *case)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    "built, settings", [(LabelSmoothingLoss, {"smoothing": 0.0}), (SpatialSmoothingLoss, {"sigma": 0.01})]
)
def test_without_smoothing_it_is_cross_entropy(kind, built, settings):
    table, case = TABLES[kind], batch(TABLES[kind])
    torch.testing.assert_close(built(table, **settings)(*case), CrossEntropyLoss(table)(*case))


def test_nacl_worked_by_hand():
    # Two cells, class 0 and class 1: each has proportions 1/2 and 1/2.
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    label = torch.tensor([[0, 1]])
    entropy = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    distance = ((1.5 + 0.5) / 2 + (0.5 + 0.5) / 2) / 2
    ours = NeighbourAwareLoss(TABLE, penalty=0.3)(logits, label, label >= 0)
    assert ours.item() == pytest.approx(entropy + 0.3 * distance)


def test_nacl_of_a_region_holds_its_logit_to_the_difference_of_the_shares():
    logits, label = torch.tensor([[[2.0, 0.5, 1.0]]]), torch.tensor([[1, 1, 0]])
    plain = CrossEntropyLoss(REGION)(logits, label, label >= 0).item()
    distance = (abs(1 - 2.0) + abs(1 / 3 - 0.5) + abs(0 - 1.0)) / 3
    ours = NeighbourAwareLoss(REGION, penalty=0.3)(logits, label, label >= 0)
    assert ours.item() == pytest.approx(plain + 0.3 * distance)


def test_nacl_leaves_logits_near_the_shares():
    """Minimised over the logits of a plane of one class, they are what the labels say, not ever larger."""
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    label = torch.ones(1, 4, 4, dtype=torch.long)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(400):
        optimizer.zero_grad()
        NeighbourAwareLoss(TABLE, penalty=2.0)(logits, label, label > 0).backward()
        optimizer.step()
    torch.testing.assert_close(logits[0, :, 1, 1], torch.tensor([0.0, 1.0]), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    "built, settings, name",
    [
        (LabelSmoothingLoss, {"smoothing": 1.5}, "label_smoothing"),
        (SpatialSmoothingLoss, {"sigma": 0.0}, "svls"),
        (NeighbourAwareLoss, {"penalty": -1.0}, "nacl"),
    ],
)
def test_wrong_settings_are_refused(built, settings, name):
    with pytest.raises(InputError, match=f"loss {name}: "):
        built(TABLE, **settings)
