import pytest
import torch

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.losses.cross_entropy import CrossEntropyLoss, cell_cross_entropy
from medseg.losses.hard_cells import HardCellsLoss, hardest
from tests.losses.test_invariants import CLASSES, REGIONS, TABLES, batch


def test_worked_by_hand():
    cost = torch.tensor([0.1, 3.0, 0.5, 2.0, 9.0])
    counted = torch.tensor([True, True, True, True, False])
    assert hardest(cost, counted, share=0.25).tolist() == [False, True, False, False, False]
    assert hardest(cost, counted, share=0.26).tolist() == [False, True, False, True, False], "a share is rounded up"
    assert hardest(cost, counted, share=0.25, sure=0.7).tolist() == [False, True, True, True, False], "-log 0.7 = 0.36"
    assert hardest(cost, counted, share=0.25, sure=0.01).tolist() == [False, True, False, False, False]
    assert hardest(torch.ones(4), torch.ones(4).bool(), share=0.25).all(), "cells of one cost are not told apart"
    assert not hardest(cost, torch.zeros(5).bool(), share=1.0, sure=1.0).any()


def test_it_is_the_mean_of_the_largest():
    logits, label, valid = batch(CLASSES)
    counted = valid & (label != IGNORE)
    cells = cell_cross_entropy(logits, label, counted)[counted].sort(descending=True).values
    most = -(-len(cells) // 5)
    ours = HardCellsLoss(CLASSES, share=0.2)(logits, label, valid)
    torch.testing.assert_close(ours, cells[:most].mean())


def test_a_region_is_taken_by_itself():
    # one cell, of which one region is right and the other wrong
    logits, label = torch.tensor([[[9.0], [9.0], [-9.0]]]), torch.tensor([[1]])
    ours = HardCellsLoss(REGIONS, share=0.3)(logits, label, label.bool())
    assert ours.item() == pytest.approx(9.0, abs=1e-3)


@pytest.mark.parametrize("kind", TABLES)
def test_with_all_cells_it_is_cross_entropy(kind):
    table, case = TABLES[kind], batch(TABLES[kind])
    expected = CrossEntropyLoss(table)(*case)
    torch.testing.assert_close(HardCellsLoss(table, share=1.0)(*case), expected)
    torch.testing.assert_close(HardCellsLoss(table, share=0.01, sure=1.0)(*case), expected)


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.5}, {"sure": -0.1}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss top_k: expected share"):
        HardCellsLoss(CLASSES, **settings)
