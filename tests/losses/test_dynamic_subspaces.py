import copy

import pytest
import torch

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.dynamic_subspaces import DynamicSubspaceLoss, pair_costs, recall_at_one, staying, unit_parts
from medseg.models.encoders.encoder import Feature
from tests.losses.test_boundary_contrast import Encoder

CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2})


def attached(ndim=2, **settings):
    torch.manual_seed(0)
    loss = DynamicSubspaceLoss(CLASSES, **({"feature": 0, "width": 16, "cells": 3, "patience": 3} | settings))
    loss.attach([Feature(4, (1,) * ndim), Feature(6, (2,) * ndim)], torch.nn.Identity())
    return loss


def given(shape=(8, 12)):
    label = torch.zeros(2, *shape, dtype=torch.int64)
    label[:, 2:6, 3:9] = 1
    label[:, 3:5, 5:7] = 2
    image = label[:, None].float() + 0.1 * torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    return torch.zeros(2, 3, *shape), label, torch.ones_like(label).bool(), image


def called(loss, encoder, logits, label, valid, image, **further):
    torch.manual_seed(3)
    return loss(logits, label, valid, features=encoder(image), **further)


def test_pairs_by_hand():
    embedding = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    sums = pair_costs(embedding, torch.tensor([0, 0, 1]))
    # the pair of class 0 is 2 apart and costs 1; of the two pairs of two classes one is 0 apart and costs 1.4
    assert sums.tolist() == pytest.approx([2 * 1.0, 2, 2 * 1.4, 2], abs=1e-3)


def test_parts_staying_and_recall_by_hand():
    parts = unit_parts(torch.tensor([[3.0, 5.0, 4.0]]), torch.tensor([0, 1, 0]))
    assert parts.flatten().tolist() == pytest.approx([0.6, 1.0, 0.8])
    assert staying(torch.tensor([1.0, 0.4, -0.9, 0.0])).tolist() == [True, False, True, False]
    assert staying(torch.zeros(3)).all()
    line = torch.tensor([[0.0], [1.0], [1.5], [9.0]])
    assert recall_at_one(line, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(0.5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_training_pulls_classes_together(ndim):
    encoder = Encoder(ndim)
    loss, batch = attached(ndim, patience=5, max_learners=3), given((8, 12, 4)[:ndim])
    optimizer = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], lr=0.01)
    called(loss, encoder, *batch).backward()
    assert all(p.grad.abs().sum() > 0 for p in (encoder.first.weight, loss.attention[0].weight, loss.embedding.weight))
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = called(loss, encoder, *batch)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
    assert loss.score > 0.3


def due(loss):
    """The score no longer rises, and number i has importance i."""
    loss.improved.fill_(True)
    loss.waited.fill_(loss.patience)
    loss.importance.copy_(torch.arange(len(loss.importance)))
    return loss


def test_a_learner_is_divided_where_the_score_no_longer_rises():
    encoder, loss, batch = Encoder(), attached(), given()
    called(loss, encoder, *batch)
    assert loss.owner.tolist() == [0] * 16
    before = loss.embedding.weight.detach().clone()
    called(due(loss), encoder, *batch)
    # of 0 to 15, those above 7.5 stay
    assert loss.owner.tolist() == [1] * 8 + [0] * 8
    assert torch.equal(loss.embedding.weight[8:], before[8:])
    assert (loss.embedding.weight[:8] != before[:8]).all()
    assert int(loss.learners) == 2
    assert loss.centres[1].any()
    assert loss.waited <= 1
    called(due(loss), encoder, *batch)
    assert int(loss.learners) == 2, "the last learner has 8 numbers, too few to be divided"


@pytest.mark.parametrize(
    ("improved", "waited", "progress"), [(False, 99, 0.0), (True, 2, 0.0), (True, 99, 0.9)],
    ids=["not-better-since", "not-long", "joint"],
)  # fmt: skip
def test_no_learner_is_added(improved, waited, progress):
    encoder, loss = Encoder(), due(attached())
    loss.improved.fill_(improved)
    loss.waited.fill_(waited)
    loss.best.fill_(1.0)
    called(loss, encoder, *given(), progress=progress)
    assert int(loss.learners) == 1


def test_a_bag_trains_the_learner_of_the_nearest_centre_and_all_numbers_at_the_end():
    encoder, loss, batch = Encoder(), attached(max_learners=2), given()
    loss.learners.fill_(2)
    loss.owner[:8] = 1
    loss.centres[0], loss.centres[1] = 1.0, -100.0  # features are not negative: no bag is near the second centre
    (own,) = torch.autograd.grad(called(loss, encoder, *batch), loss.embedding.weight)
    assert (own[:8] == 0).all()
    assert own[8:].abs().sum() > 0
    (own,) = torch.autograd.grad(called(loss, encoder, *batch, progress=0.8), loss.embedding.weight)
    assert own[:8].abs().sum() > 0


def test_a_bag_is_the_mean_of_its_cells_weighted_by_attention():
    loss, (logits, label, valid, image) = attached(cells=2), given()
    features = torch.cat([image, image**2, image + 1, -image], dim=1)
    seen = []
    loss.embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(3)
    loss(logits, label, valid, features=[features, features])
    torch.manual_seed(3)
    cells, bag, classes = loss._drawn(label, valid, label.shape[1:], None)
    weight = loss.attention(features)[:, 0][cells]
    values = features.movedim(1, -1)[cells]
    for n in range(len(classes)):
        assert (label[cells][bag == n] == classes[n]).all()
        assert len(cells[0][bag == n].unique()) == 1, "cells of one image"
        expected = (values * weight[:, None])[bag == n].sum(dim=0) / weight[bag == n].sum()
        torch.testing.assert_close(seen[0][n], expected)
    assert classes.bincount().tolist() == [8, 8, 8]
    assert bag.bincount().tolist() == [2] * 16 + [1] * 8  # class 2 has four cells


def test_cells_that_do_not_count_are_in_no_bag():
    loss, (_, label, valid, _) = attached(bags=50), given()
    label[:, :3] = IGNORE
    valid[:, :, :4] = False
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    (image, row, column), _, _ = loss._drawn(label, valid, label.shape[1:], annotated)
    assert row.min() >= 3
    assert column.min() >= 4
    assert (label[image, row, column][image == 1] > 0).all(), "background of a patch that does not annotate all"
    assert (label[image, row, column][image == 0] == 0).any()


def test_nothing_counted_is_zero_with_zero_gradient():
    encoder, loss, (logits, label, valid, image) = Encoder(), attached(), given()
    value = called(loss, encoder, logits, label, ~valid, image)
    value.backward()
    assert value == 0
    assert all((p.grad == 0).all() for p in [*loss.parameters(), encoder.first.weight])


def test_stored_state_continues_exactly():
    encoder, loss, batch = Encoder(), attached(), given()
    called(loss, encoder, *batch)
    called(due(loss), encoder, *batch)
    stored, other = copy.deepcopy(loss.state_dict()), attached()
    other.load_state_dict(stored)
    assert called(loss, encoder, *batch) == called(other, encoder, *batch) != 0
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in loss.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bags": 0}, "bags 0.* and 1 or more of the others"),
        ({"joint": 1.5}, "got joint 1.5, expected a share"),
        ({"feature": 2}, "got feature 2, the encoder has 2; expected 0 to 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        attached(**settings)
