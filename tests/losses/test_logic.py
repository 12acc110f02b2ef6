import math

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.hierarchy import Hierarchy
from medseg.losses.logic import LogicLoss, RuleErrors, power_mean, rule_errors, tree_min
from medseg.losses.partial import marginal_logits
from tests.losses.drawn import REGIONS, TABLE, batch
from tests.losses.test_hierarchy import COVER, GROUPS

TREE = Hierarchy.of(TABLE, {"both": ["a", "b"]}, loss="logic")  # background, a, b, both


def cell(*values):
    return torch.tensor(values)[None, :, None]


def test_rules_by_hand():
    composition, decomposition, exclusion = (rule.values for rule in rule_errors(cell(0.5, 0.8, 0.6, 0.9), TREE))
    assert composition.flatten().tolist() == pytest.approx([0.8 * 0.1, 0.6 * 0.1])
    assert decomposition.flatten().tolist() == pytest.approx([0.9 * 0.2])
    # background against both, a against b, and the other way about
    assert exclusion.flatten().tolist() == pytest.approx([0.5 * 0.9, 0.8 * 0.6, 0.6 * 0.8, 0.9 * 0.5])


@pytest.mark.parametrize("leaf", range(5))
def test_a_certain_cell_breaks_no_rule(leaf):
    tree = Hierarchy.of(COVER, GROUPS, loss="logic")
    score = torch.zeros(1, 8, 1)
    score[0, list(tree.chain(leaf))] = 1.0
    assert [errors.values.sum().item() for errors in rule_errors(score, tree)] == [0, 0, 0]
    without_group = score.clone()
    without_group[0, 5:] = 0.0
    assert rule_errors(without_group, tree)[0].values.sum() == (leaf < 4)
    without_leaf = score.clone()
    without_leaf[0, leaf] = 0.0
    assert rule_errors(without_leaf, tree)[1].values.sum() == (leaf < 4)


def test_power_mean_by_hand():
    errors = torch.tensor([[[0.1, 0.5, 0.9], [0.2, 0.2, 0.7]]])
    counted = torch.tensor([[True, True, False]])
    expected = (math.sqrt((0.01 + 0.25) / 2) + 0.2) / 2
    assert power_mean(RuleErrors(errors), counted, 2.0).item() == pytest.approx(expected)
    assert power_mean(RuleErrors(errors[:, :0]), counted, 2.0) == 0
    zero = torch.zeros(1, 1, 3, requires_grad=True)
    assert torch.autograd.grad(power_mean(RuleErrors(zero), counted, 5.0), zero)[0].abs().sum() == 0


def test_tree_min_by_hand():
    logits = cell(0.0, 2.0, -1.0, 1.0)
    target = cell(False, True, False, True)
    # a: the least of a and both; both: its own; b: the most below, its own; background its own
    assert tree_min(logits, target, TREE.lineage).flatten().tolist() == [0.0, 1.0, -1.0, 1.0]
    nothing = tree_min(logits, ~(target | True), TREE.lineage)
    assert nothing.flatten().tolist() == [0.0, 2.0, -1.0, 2.0]


@pytest.mark.parametrize("least", [False, True])
def test_value_is_cross_entropy_of_nodes_plus_rules(least):
    logits, label, valid = batch(TABLE)
    loss = LogicLoss(TABLE, hierarchy={"both": ["a", "b"]}, rules=0.3, power=2.0, tree_min=least)
    counted = valid & (label != IGNORE)
    cells = logits.movedim(1, -1)[counted]
    scores = torch.cat([cells, cells[:, 1:].sum(dim=1, keepdim=True)], dim=1)
    classes = label[counted]
    target = torch.stack([classes == 0, classes == 1, classes == 2, classes > 0], dim=1)
    s = scores.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(
        tree_min(scores, target, TREE.lineage) if least else scores, target.float()
    )
    mean = lambda x: x.square().mean(dim=0).sqrt().mean()  # noqa: E731
    composition = mean(s[:, 1:3] * (1 - s[:, 3:]))
    decomposition = mean(s[:, 3:] * (1 - s[:, 1:3].amax(dim=1, keepdim=True)))
    exclusion = mean(torch.stack([s[:, 0] * s[:, 3], s[:, 1] * s[:, 2]], dim=1))
    expected = bce + 0.3 * (composition + decomposition + exclusion)
    torch.testing.assert_close(loss(logits, label, valid), expected)


def test_rules_of_nodes_that_an_image_does_not_annotate_by_hand():
    nodes = torch.tensor([[True, True, False, False]])  # of background, a, b, both
    composition, decomposition, exclusion = rule_errors(cell(0.5, 0.8, 0.6, 0.9), TREE, nodes)
    assert not composition.annotated.any()
    assert not decomposition.annotated.any()
    assert not exclusion.annotated.any()  # background against both, a against b
    nodes[0, 3] = True
    composition, decomposition, exclusion = rule_errors(cell(0.5, 0.8, 0.6, 0.9), TREE, nodes)
    assert (composition.annotated.tolist(), decomposition.annotated.tolist()) == ([[True, False]], [[False]])
    assert exclusion.annotated.tolist() == [[True, False, False, True]]
    mean = power_mean(exclusion, torch.ones(1, 1, dtype=torch.bool), 1.0)
    assert mean.item() == pytest.approx(0.5 * 0.9), "the mean of two of the four rules"


@pytest.mark.parametrize("least", [False, True])
def test_what_a_patch_does_not_annotate_has_no_part_in_the_mean(least):
    """Of four classes and two groups, the first image annotates three and one: it is as if there were no more."""
    table, part = (LabelTable.declare({"background": 0, "a": 1, "b": 2} | more) for more in ({"c": 3}, {}))
    loss = LogicLoss(table, hierarchy={"first": ["a"], "second": ["b", "c"]}, rules=0.0, tree_min=least)
    own = LogicLoss(part, hierarchy={"first": ["a"]}, rules=0.0, tree_min=least)
    rng = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 4, 5, 6, generator=rng), torch.randint(0, 3, (2, 5, 6), generator=rng)
    annotated = torch.tensor([[True, True, True, False], [True] * 4])
    merged, valid = marginal_logits(logits, label, label >= 0, annotated, table), label >= 0
    first, second = own(merged[:1, :3], label[:1], valid[:1]), loss(logits[1:], label[1:], valid[1:])
    torch.testing.assert_close(loss(merged, label, valid, annotated), (4 * first + 6 * second) / 10)


def test_a_group_of_which_a_class_is_not_annotated_is_left_out():
    label = torch.tensor([[1, 0]])
    annotated = torch.tensor([[True, True, False]])
    loss = LogicLoss(TABLE, hierarchy={"both": ["a", "b"]})
    values = []
    for left_out in (-5.0, 5.0):
        with torch.no_grad():
            loss.groups.bias.fill_(left_out)
        logits = marginal_logits(cell(0.5, 1.0, 0.3).expand(1, 3, 2), label, label >= 0, annotated, TABLE)
        values.append(loss(logits, label, label >= 0, annotated))
    assert values[0] == values[1]


def test_head_of_groups_learns():
    logits, label, valid = batch(TABLE)
    loss = LogicLoss(TABLE, hierarchy={"both": ["a", "b"]})
    loss(logits, label, valid).backward()
    assert {name for name, p in loss.named_parameters() if p.grad.abs().sum() > 0} == {"groups.weight", "groups.bias"}
    assert not list(LogicLoss(TABLE).parameters())
    assert not list(LogicLoss(REGIONS).parameters())


def test_regions_are_held_to_their_nesting():
    label = torch.ones(1, 1, dtype=torch.long)
    loss, plain = LogicLoss(REGIONS), LogicLoss(REGIONS, rules=0.0)
    outside, inside = cell(-3.0, 3.0), cell(3.0, 3.0)  # core outside of the whole, core inside
    broken = [(loss(x, label, label == 1) - plain(x, label, label == 1)).item() for x in (outside, inside)]
    assert broken[0] > 5 * broken[1]


@pytest.mark.parametrize("settings", [{"rules": -1.0}, {"power": 0.5}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss logic: expected rules"):
        LogicLoss(TABLE, **settings)
