import pytest
import torch

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.hardness import HardnessLoss
from medseg.losses.weighted_sum import WeightedSum
from medseg.models.encoders.encoder import Feature
from tests.losses.test_invariants import CLASSES, TABLES, batch


def attached(table=CLASSES, ndim=2, **settings):
    torch.manual_seed(0)
    loss = HardnessLoss(table, width=8, **settings)
    loss.attach([Feature(4, (1,) * ndim), Feature(6, (2,) * ndim)], torch.nn.Identity())
    return loss


def features(shape=(6, 8)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 4, *shape, generator=generator),
        torch.randn(2, 6, *(n // 2 for n in shape), generator=generator),
    ]


def stirred(loss):
    """The branch no longer weighs all cells alike."""
    torch.manual_seed(1)
    torch.nn.init.normal_(loss.joined.weight)
    return loss


@pytest.mark.parametrize("kind", TABLES)
def test_at_first_it_is_cross_entropy(kind):
    case = batch(TABLES[kind], (2, 6, 8))
    expected = CrossEntropyLoss(TABLES[kind])(*case)
    torch.testing.assert_close(attached(TABLES[kind])(*case, features=features()), expected)


def test_it_is_the_weighted_mean():
    loss, (logits, label, valid) = stirred(attached()), batch(CLASSES, (2, 6, 8))
    counted = valid & (label != IGNORE)
    hard = loss.hardness(features(), (6, 8))[:, 0][counted]
    cost = torch.nn.functional.cross_entropy(logits.movedim(1, -1)[counted], label[counted], reduction="none")
    torch.testing.assert_close(loss(logits, label, valid, features=features()), (hard * cost).sum() / hard.sum())


def test_the_network_lowers_what_the_branch_raises():
    loss, (logits, label, valid) = stirred(attached()), batch(CLASSES, (2, 6, 8))
    logits.requires_grad_()
    maps = [part.requires_grad_() for part in features()]
    value = loss(logits, label, valid, features=maps)
    value.backward()
    assert all(part.grad is None for part in maps), "features reach the branch without a gradient"
    with torch.no_grad():
        lower = loss(logits - 0.1 * logits.grad, label, valid, features=maps)
        for parameter in loss.parameters():
            parameter -= 0.05 * parameter.grad / parameter.grad.abs().max().clamp(min=1e-9)
        higher = loss(logits, label, valid, features=maps)
    assert lower < value < higher, "a step of the optimiser along both"


def test_the_gradient_of_the_network_takes_the_weights_as_constants():
    loss, (logits, label, valid) = stirred(attached()), batch(CLASSES, (2, 6, 8))
    logits.requires_grad_()
    (ours,) = torch.autograd.grad(loss(logits, label, valid, features=features()), logits)
    counted = (valid & (label != IGNORE)).float()
    hard = loss.hardness(features(), (6, 8))[:, 0].detach() * counted
    one_hot = torch.nn.functional.one_hot(label.clamp(min=0), 4).movedim(-1, 1)
    expected = (logits.softmax(dim=1) - one_hot) * (hard / hard.sum())[:, None]
    torch.testing.assert_close(ours, expected.detach(), rtol=1e-4, atol=1e-7)


def test_the_branch_finds_the_cells_that_are_hard():
    """Cells where the first feature is large are wrong: their weight rises, up to the bound by the floor."""
    loss, maps = attached(floor=0.5), features()
    hard = maps[0][:, 0] > 0
    logits = torch.zeros(2, 4, 6, 8)
    logits[:, 0] = torch.where(hard, -3.0, 3.0)
    label = torch.zeros(2, 6, 8, dtype=torch.long)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(logits, label, label >= 0, features=maps).backward()
        optimizer.step()
    weight = loss.hardness(maps, (6, 8))[:, 0].detach()
    assert weight[hard].mean() > 1.8 * weight[~hard].mean()
    assert weight.max() / weight.min() <= 3


def test_cells_that_do_not_count_change_nothing():
    loss, (logits, label, valid) = stirred(attached()), batch(CLASSES, (2, 6, 8))
    values = []
    for junk in (0.0, float("nan")):
        other = torch.where((valid & (label != IGNORE))[:, None], logits, junk)
        values.append(loss(other, label, valid, features=features()))
    assert values[0] == values[1]
    assert loss(logits, label, torch.zeros_like(valid), features=features()) == 0


def test_a_volume_has_a_branch_too_and_its_parameters_are_those_of_the_loss():
    loss = WeightedSum(CLASSES, {"hardness": HardnessLoss})
    loss.attach([], [Feature(4, (1,) * 3), Feature(6, (2,) * 3)], torch.nn.Identity())
    assert {name.partition(".")[2] for name, _ in loss.named_parameters()} >= {"hardness.joined.weight"}
    logits, label, valid = batch(CLASSES, (2, 4, 6, 4))
    total, _ = loss(logits, label, valid, {"features": features((4, 6, 4))})
    assert total.isfinite()


@pytest.mark.parametrize("settings", [{"floor": 0.0}, {"width": 0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss hardness: expected floor > 0"):
        HardnessLoss(CLASSES, **settings)
