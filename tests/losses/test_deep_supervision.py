import pytest
import torch
from torch.nn import functional

from medseg.labels import IGNORE
from medseg.losses.deep_supervision import coarsen, level_weights


def test_weights_worked_by_hand():
    assert level_weights(1) == (1.0,)
    assert level_weights(2) == (1.0, 0.0)
    assert level_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


@pytest.mark.parametrize("fine,coarse", [((8, 8), (4, 2)), ((7, 9, 5), (3, 4, 5)), ((12,), (12,))])
def test_coarsen_equals_nearest_exact(fine, coarse):
    label = torch.randint(0, 9, (2, *fine), generator=torch.Generator().manual_seed(0))
    theirs = functional.interpolate(label[:, None].double(), size=coarse, mode="nearest-exact")[:, 0].long()
    assert torch.equal(coarsen(label, coarse), theirs)


def test_coarsen_keeps_ignore_and_validity_at_the_same_cells():
    label = torch.arange(16).reshape(1, 4, 4) % 3
    label[0, 1, 3] = IGNORE
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[0, 3, 1] = False
    assert coarsen(label, (2, 2)).tolist() == [[[5 % 3, IGNORE], [13 % 3, 15 % 3]]]
    assert coarsen(valid, (2, 2)).tolist() == [[[True, True], [False, True]]]
