import math

import pytest
import torch

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.semantic_boundaries import SemanticBoundaryLoss, boundary_cells, boundary_cross_entropy
from medseg.models.encoders.encoder import Feature

CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
LAND = LabelTable.declare({"water": 0, "grass": 1, "wood": 2}, background=None)


def attached(table=CLASSES, ndim=2, **settings):
    torch.manual_seed(0)
    loss = SemanticBoundaryLoss(table, **settings)
    loss.attach([Feature(4, (1,) * ndim), Feature(6, (2,) * ndim)], torch.nn.Identity())
    return loss


def given(shape=(8, 12)):
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(2, *shape, dtype=torch.int64)
    label[:, 2:6, 3:9] = 1
    label[:, 3:5, 5:7] = 2
    features = [torch.randn(2, 4, *shape, generator=generator)]
    features += [torch.randn(2, 6, *(n // 2 for n in shape), generator=generator)]
    return torch.zeros(2, 3, *shape), label, torch.ones_like(label).bool(), features


def test_boundary_of_a_square():
    inside = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    inside[..., 2:5, 2:5] = True
    boundary, counted = boundary_cells(inside, torch.ones(1, 7, 7, dtype=torch.bool), 1)
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[1:6, 1:6] = True
    expected[3, 3] = False
    assert torch.equal(boundary[0, 0], expected)
    assert counted.all()


def test_next_to_cells_that_do_not_count_a_boundary_is_not_known():
    inside = torch.tensor([[[True, True, True, True, False, False, False]]])
    counts = torch.tensor([[False, True, True, True, True, True, True]])
    boundary, counted = boundary_cells(inside, counts, 1)
    assert boundary[0, 0].tolist() == [False, False, False, True, True, False, False]
    assert counted[0, 0].tolist() == [False, False, True, True, True, True, True]


def test_volume_of_equal_slices_has_the_boundary_of_a_slice():
    generator = torch.Generator().manual_seed(3)
    flat = torch.rand(1, 2, 6, 7, generator=generator) > 0.5
    counts = torch.rand(1, 6, 7, generator=generator) > 0.2
    plane = boundary_cells(flat, counts, 2)
    volume = boundary_cells(flat[:, :, None].expand(1, 2, 5, 6, 7), counts[:, None].expand(1, 5, 6, 7), 2)
    for one, other in zip(plane, volume, strict=True):
        assert torch.equal(one[:, :, None].expand_as(other), other)


def test_value_by_hand():
    boundary = torch.tensor([[[True, False, False, False]]])
    counted = torch.tensor([[[True, True, True, True]]])
    value = boundary_cross_entropy(torch.zeros(1, 1, 4), boundary, counted)
    assert value.item() == pytest.approx((0.75 * 1 + 0.25 * 3) * math.log(2) / 4)


def test_cells_that_do_not_count_change_nothing():
    loss, (logits, label, valid, features) = attached(), given()
    label[:, :, 9:] = IGNORE
    other = label.clone()
    other[:, :, 9:] = 2
    hidden = valid.clone()
    hidden[:, :, 9:] = False
    values = [loss(logits, one, two, features=features) for one, two in ((label, valid), (other, hidden))]
    assert values[0] == values[1]
    nothing = loss(logits, label, torch.zeros_like(valid), features=features)
    assert nothing == 0


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("table", "structures"), [(CLASSES, 2), (REGIONS, 2), (LAND, 3)])
def test_head_of_each_table(table, structures, ndim):
    loss = attached(table, ndim)
    logits, label, valid, features = given((8, 12, 4)[:ndim])
    joined, coarse = loss.head(features, label.shape[1:])
    assert joined.shape == coarse.shape == (2, structures, *label.shape[1:])
    value = loss(logits, label, valid, features=features)
    value.backward()
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


def test_the_maps_of_a_structure_are_joined_for_it_alone():
    loss, (_, label, _, features) = attached(), given()
    before, _ = loss.head(features, label.shape[1:])
    with torch.no_grad():
        loss.sides[-1].bias[0] += 1.0  # the coarsest map of the first structure
    after, _ = loss.head(features, label.shape[1:])
    assert not torch.allclose(after[:, 0], before[:, 0])
    assert torch.equal(after[:, 1], before[:, 1])


def test_it_learns_where_classes_end():
    loss, (logits, label, valid, features) = attached(), given()
    edges = boundary_cells(loss.members.T[label].movedim(-1, 1), valid, 1)[0].float()
    features[0][:, :2] = edges
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, label, valid, features=features).backward()
        optimizer.step()
    joined, _ = loss.head(features, label.shape[1:])
    assert ((joined > 0) == edges.bool()).float().mean() > 0.97


def test_bad_radius():
    with pytest.raises(InputError, match="got radius 0, expected 1 cell or more"):
        SemanticBoundaryLoss(CLASSES, radius=0)
