import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.foreground import ForegroundLoss, foreground_aware
from medseg.losses.weighted_sum import WeightedSum

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def batch(table, shape=(2, 5, 4), seed=0):
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = (torch.randn(b, table.n_outputs, *s, generator=rng) * 2).requires_grad_()
    label = torch.randint(0, 3, (b, *s), generator=rng)
    label[0, :2] = IGNORE
    return logits, label, torch.rand(b, *s, generator=rng) > 0.2


def gradient(value, logits):
    return torch.autograd.grad(value, logits)[0]


def test_worked_by_hand():
    # Probability of the labelled class 1/4 and 1/2: l = 2 log 2 and log 2, h = 9/16 and 1/4;
    # 1/Z = 3 / (9/8 + 1/4) = 24/11, so the weights are 27/22 and 6/11 and the sum of v l is 3 log 2.
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]], requires_grad=True)
    label = torch.ones(1, 2, dtype=torch.long)
    value = foreground_aware(logits, label, label.bool())
    assert value.item() == pytest.approx(1.5 * math.log(2))
    expected = torch.tensor([27 / 22 * 3 / 4, 6 / 11 * 1 / 2]) / 2  # v (p - g), of class 0, over two cells
    torch.testing.assert_close(gradient(value, logits), torch.stack((expected, -expected))[None])


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("focus", [0.0, 0.4, 1.0])
def test_value_is_the_cross_entropy(table, focus):
    logits, label, valid = batch(table)
    ours = ForegroundLoss(table, focus=focus)(logits, label, valid)
    theirs = CrossEntropyLoss(table)(logits, label, valid)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"focus": 0.0}], ids=str)
def test_without_focusing_the_gradient_is_that_of_cross_entropy(table, settings):
    logits, label, valid = batch(table)
    ours = gradient(ForegroundLoss(table, **settings)(logits, label, valid), logits)
    theirs = gradient(CrossEntropyLoss(table)(logits, label, valid), logits)
    torch.testing.assert_close(ours, theirs)


def test_gradient_is_shared_out_as_the_formula_says():
    logits, label, valid = batch(TABLE)
    keep = valid & (label != IGNORE)
    kept = logits.movedim(1, -1)[keep]
    loss = functional.cross_entropy(kept, label[keep], reduction="none")
    hardness = (1 - kept.softmax(dim=1)[torch.arange(len(kept)), label[keep]]).detach() ** 3
    weight = 0.25 + 0.75 * hardness * loss.detach().sum() / (hardness * loss.detach()).sum()
    ours = gradient(foreground_aware(logits, label, valid, gamma=3.0, focus=0.75), logits)
    torch.testing.assert_close(ours, gradient((weight * loss).mean(), logits))


def test_hard_cells_among_thousands_of_easy_ones_keep_their_gradient():
    # 4 cells of foreground that are missed, among 4096 that are clear background.
    def share(loss, logits):
        by_cell = gradient(loss, logits).abs().sum(dim=1).flatten()
        return (by_cell[:4].sum() / by_cell.sum()).item()

    logits = torch.zeros(1, 2, 4100)
    logits[0, 0] = 4.0
    logits[0, 0, :4] = 1.0
    logits.requires_grad_()
    label = (torch.arange(4100) < 4).long()[None]
    case = (logits, label, label >= 0)
    table = LabelTable.declare({"background": 0, "a": 1})
    assert share(CrossEntropyLoss(table)(*case), logits) < 0.05
    assert share(ForegroundLoss(table)(*case), logits) > 0.95


@pytest.mark.parametrize("margin", [10.0, 60.0, 200.0])
@pytest.mark.parametrize("gamma", [2.0, 20.0])
def test_certainty_everywhere_stays_finite(margin, gamma):
    _, label, valid = batch(REGIONS)
    target = torch.stack([label > 0, label == 2], dim=1)
    sure = torch.where(target, margin, -margin).requires_grad_()
    value = ForegroundLoss(REGIONS, gamma=gamma)(sure, label, valid)
    assert value.isfinite()
    assert gradient(value, sure).isfinite().all()


@pytest.mark.parametrize("settings", [{"gamma": -1.0}, {"focus": 1.5}, {"focus": math.nan}, {"anneal": 2.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss foreground"):
        ForegroundLoss(TABLE, **settings)


def test_annealing_rises_from_cross_entropy_by_a_cosine():
    logits, label, valid = batch(TABLE)
    loss = ForegroundLoss(TABLE, focus=0.8, anneal=0.5)
    assert loss.needs == ("annotated", "progress")
    assert ForegroundLoss(TABLE).needs == ("annotated",)
    for progress, focus in ((0.0, 0.0), (0.125, 0.8 * (1 - math.sqrt(0.5)) / 2), (0.25, 0.4), (0.5, 0.8), (0.9, 0.8)):
        ours = gradient(loss(logits, label, valid, progress=progress), logits)
        theirs = gradient(foreground_aware(logits, label, valid, focus=focus), logits)
        torch.testing.assert_close(ours, theirs)


def test_annealing_follows_the_progress_that_the_method_gives():
    logits, label, valid = batch(TABLE)
    loss = WeightedSum(TABLE, {"foreground": partial(ForegroundLoss, anneal=1.0)})
    early = gradient(loss(logits, label, valid, {"progress": 0.0})[0], logits)
    torch.testing.assert_close(early, gradient(CrossEntropyLoss(TABLE)(logits, label, valid), logits))
    with pytest.raises(InputError, match=r"loss\.terms\.foreground needs 'progress'"):
        loss(logits, label, valid)
