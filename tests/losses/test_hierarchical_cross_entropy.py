import math

import pytest
import torch

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.hierarchical_cross_entropy import HierarchicalCrossEntropyLoss
from tests.losses.drawn import REGIONS, TABLE, batch
from tests.losses.test_hierarchy import COVER, GROUPS


def one_cell(*prob):
    return torch.tensor(prob).log()[None, :, None]


def test_worked_by_hand():
    # p of tree, grass, road, house, water; label tree: its chain is tree 0.1, vegetation 0.3, land 0.8.
    logits, cell = one_cell(0.1, 0.2, 0.4, 0.1, 0.2), torch.zeros(1, 1, dtype=torch.long)
    value = HierarchicalCrossEntropyLoss(COVER, hierarchy=GROUPS)(logits, cell, cell == 0)
    assert value.item() == pytest.approx(-(math.log(0.1) + 0.5 * math.log(0.3) + 0.25 * math.log(0.8)) / 1.75)
    water = HierarchicalCrossEntropyLoss(COVER, hierarchy=GROUPS)(logits, cell + 4, cell == 0)
    assert water.item() == pytest.approx(-math.log(0.2))


def test_a_mistake_within_a_group_costs_less():
    loss, cell = HierarchicalCrossEntropyLoss(COVER, hierarchy=GROUPS), torch.zeros(1, 1, dtype=torch.long)
    confused = [(0.1, 0.87, 0.01, 0.01, 0.01), (0.1, 0.01, 0.87, 0.01, 0.01), (0.1, 0.01, 0.01, 0.01, 0.87)]
    grass, road, water = (loss(one_cell(*prob), cell, cell == 0).item() for prob in confused)
    assert grass < road < water


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["classes", "regions"])
def test_without_groups_it_is_cross_entropy(table):
    case = batch(table)
    torch.testing.assert_close(HierarchicalCrossEntropyLoss(table)(*case), CrossEntropyLoss(table)(*case))
    if table is TABLE:
        alone = HierarchicalCrossEntropyLoss(table, hierarchy={"both": ["a", "b"]}, decay=0.0)(*case)
        torch.testing.assert_close(alone, CrossEntropyLoss(table)(*case))


def test_equals_cross_entropy_of_summed_probabilities():
    logits, label, valid = batch(TABLE)
    group = LabelTable.declare({"background": 0, "both": 1})
    merged = torch.stack([logits[:, 0], logits[:, 1:].logsumexp(dim=1)], dim=1)
    of_group = CrossEntropyLoss(group)(merged, label.clamp(max=1), valid)
    counted = valid & (label >= 0)
    share = (counted & (label > 0)).sum() / counted.sum()
    own = CrossEntropyLoss(TABLE)(logits, label, valid)
    # Of background cells the weight is that of the class alone; of the others 2/3 and 1/3.
    background = CrossEntropyLoss(TABLE)(logits, label, valid & (label == 0)) * (1 - share)
    of_group = of_group - background
    expected = background + (own - background) * 2 / 3 + of_group / 3
    value = HierarchicalCrossEntropyLoss(TABLE, hierarchy={"both": ["a", "b"]})(logits, label, valid)
    torch.testing.assert_close(value, expected)


def test_negative_decay_is_refused():
    with pytest.raises(InputError, match="loss hierarchical_ce: decay"):
        HierarchicalCrossEntropyLoss(TABLE, decay=-1.0)
