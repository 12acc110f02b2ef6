import copy
import math

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.boundary_contrast import BoundaryContrastLoss, contrast
from medseg.losses.partial import marginal_label
from medseg.models.encoders.encoder import Feature

CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2})


class Encoder(nn.Module):
    """Two features of a network with a buffer."""

    def __init__(self, ndim=2):
        super().__init__()
        torch.manual_seed(1)
        convolution = (nn.Conv2d, nn.Conv3d)[ndim - 2]
        self.first, self.second = convolution(1, 4, 3, padding=1), convolution(4, 6, 2, stride=2)
        self.norm = (nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 2](4)

    def forward(self, image):
        fine = self.norm(self.first(image)).relu()
        return [fine, self.second(fine)]


def attached(encoder, ndim=2, **settings):
    torch.manual_seed(0)
    loss = BoundaryContrastLoss(CLASSES, **({"width": 8, "samples": 6, "memory": 16} | settings))
    loss.attach([Feature(4, (1,) * ndim), Feature(6, (2,) * ndim)], encoder)
    return loss


def given(shape=(8, 12)):
    label = torch.zeros(2, *shape, dtype=torch.int64)
    label[:, 2:6, 3:9] = 1
    label[:, 3:5, 5:7] = 2
    image = label[:, None].float() + 0.1 * torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    return torch.zeros(2, 3, *shape), label, torch.ones_like(label).bool(), image


def called(loss, encoder, logits, label, valid, image):
    return loss(logits, label, valid, features=encoder(image), image=image)


def test_value_by_hand():
    anchors, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [9.0, 9.0]]])
    stored = torch.tensor([[True, True], [True, False]])
    value = contrast(anchors, classes, memory, stored, temperature=0.5)
    expected = [math.log(1 + math.exp(0 - 2)), math.log(1 + math.exp(0 - 0))]
    assert value.item() == pytest.approx(sum(expected) / 2)


def test_an_anchor_without_its_own_or_another_class_in_memory_is_left_out():
    anchors = torch.eye(2, requires_grad=True)
    memory = torch.eye(2)[:, None]
    stored = torch.tensor([[True], [False]])
    value = contrast(anchors, torch.tensor([0, 1]), memory, stored)
    value.backward()
    assert value == 0
    assert (anchors.grad == 0).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_memory_fills_and_the_encoder_learns_from_the_second_step_on(ndim):
    encoder = Encoder(ndim)
    loss, batch = attached(encoder, ndim), given((8, 12, 4)[:ndim])
    assert called(loss, encoder, *batch) == 0
    assert loss.stored.sum(1).tolist() == [6, 6, 6]
    called(loss, encoder, *batch).backward()
    assert encoder.first.weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.projection.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in loss.averaged.parameters())


def test_the_oldest_leave_the_memory():
    encoder = Encoder()
    loss, batch = attached(encoder, samples=6, memory=8, momentum=0.0), given()
    called(loss, encoder, *batch)
    before = loss.memory.clone()
    with torch.no_grad():
        loss.projection[-1].bias.add_(1.0)  # every key is another one
    called(loss, encoder, *batch)
    assert loss.stored.all()
    assert loss.place.tolist() == [4, 4, 4]
    same = [bool((loss.memory[1, n] == before[1, n]).all()) for n in range(8)]
    assert same == [False] * 4 + [True] * 2 + [False] * 2


def test_the_second_encoder_is_the_average():
    encoder = Encoder()
    loss, batch = attached(encoder, momentum=0.9), given()
    start = [p.detach().clone() for p in encoder.parameters()]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    called(loss, encoder, *batch)
    for average, one in zip(loss.averaged["encoder"].parameters(), start, strict=True):
        torch.testing.assert_close(average.detach(), one + 0.1, rtol=0, atol=1e-6)


def test_drawn_cells_are_next_to_borders_and_counted():
    encoder = Encoder()
    loss, (_, label, valid, _) = attached(encoder, samples=200, memory=200), given()
    label[:, :3] = IGNORE
    valid[:, :, :4] = False
    *places, classes = loss._drawn(label, valid, label.shape[1:])
    assert torch.equal(label[tuple(places)], classes)
    assert valid[tuple(places)].all()
    assert (places[1] >= 3).all()
    inner = [(0, 7, 11)]  # far from every border
    assert not {tuple(row) for row in torch.stack(places, 1).tolist()} & set(inner)
    assert set(classes.tolist()) == {0, 1, 2}


def test_patches_that_do_not_annotate_every_region_have_no_anchors():
    encoder, (_, label, valid, image) = Encoder(), given()
    table = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    loss = BoundaryContrastLoss(table, width=8, samples=6, memory=16)
    loss.attach([Feature(4, (1, 1)), Feature(6, (2, 2))], encoder)
    annotated = torch.tensor([[True, False], [True, True]])
    part = marginal_label(label, annotated, table)
    called(loss, encoder, torch.zeros(2, 2, 8, 12), part, valid, image)
    image_index, *_, classes = loss._drawn(part, valid, label.shape[1:])
    assert image_index.unique().tolist() == [1]
    assert classes.unique().tolist() == [0, 1, 2]


def test_training_pulls_classes_together():
    encoder = Encoder()
    loss, batch = attached(encoder, momentum=0.0), given()
    optimizer = torch.optim.Adam([*encoder.parameters(), *loss.projection.parameters()], lr=0.02)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = called(loss, encoder, *batch)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[2]


def test_stored_state_continues_exactly():
    encoder = Encoder()
    loss, batch = attached(encoder), given()
    called(loss, encoder, *batch)
    stored, other_encoder = copy.deepcopy(loss.state_dict()), copy.deepcopy(encoder)
    other = attached(other_encoder)
    other.load_state_dict(stored)
    values = []
    for one, by in ((loss, encoder), (other, other_encoder)):
        torch.manual_seed(5)
        values.append(called(one, by, *batch))
    assert values[0] == values[1] != 0
    assert torch.equal(loss.memory, other.memory)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 2}, "at least as much memory as samples"),
        ({"temperature": 0.0}, "got temperature 0.0 and momentum 0.99, expected above 0"),
        ({"feature": 2}, "got feature 2, the encoder has 2; expected 0 to 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        attached(Encoder(), **settings)
