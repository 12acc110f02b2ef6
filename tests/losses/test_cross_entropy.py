import math

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy, region_cross_entropy

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def batch(k=3):
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(2, k, 5, 4, generator=rng)
    return logits, torch.randint(0, 3, (2, 5, 4), generator=rng), torch.ones(2, 5, 4, dtype=torch.bool)


def test_worked_by_hand():
    # Probabilities 3/4 and 1/4 of the labelled class.
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]])
    label = torch.ones(1, 2, dtype=torch.long)
    value = cross_entropy(logits, label, label.bool())
    assert value.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_regions_worked_by_hand():
    # One cell; p = 3/4 where the target is true, p = 1/2 where it is false.
    logits = torch.tensor([[[math.log(3)], [0.0]]])
    target = torch.tensor([[[True], [False]]])
    counted = torch.ones(1, 1, dtype=torch.bool)
    value = region_cross_entropy(logits, target, counted)
    assert value.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    weighted = region_cross_entropy(logits, target, counted, weight=torch.tensor([3.0, 1.0]))
    assert weighted.item() == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4)


def test_equals_torch_on_the_counted_cells_alone():
    logits, label, valid = batch()
    label[0, :2] = IGNORE
    valid[1, 3] = False
    keep = valid & (label != IGNORE)
    weight = torch.tensor([0.5, 1.0, 3.0])
    theirs = functional.cross_entropy(logits.movedim(1, -1)[keep], label[keep], weight=weight)
    loss = CrossEntropyLoss(TABLE, class_weights={"background": 0.5, "b": 3})
    assert loss(logits, label, valid).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_regions_equal_torch_on_the_counted_cells_alone():
    logits, label, valid = batch(k=2)
    label[0, :2] = IGNORE
    valid[1, 3] = False
    keep = valid & (label != IGNORE)
    target = torch.stack([label > 0, label == 2], dim=-1).float()[keep]
    theirs = functional.binary_cross_entropy_with_logits(logits.movedim(1, -1)[keep], target)
    assert CrossEntropyLoss(REGIONS)(logits, label, valid).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_small_integer_labels_are_taken():
    logits, label, valid = batch()
    assert cross_entropy(logits, label.to(torch.int16), valid) == cross_entropy(logits, label, valid)


def test_half_precision_is_summed_in_float32():
    logits = torch.zeros(1, 2, 200_000, dtype=torch.float16)  # the sum is 138 629, half precision ends at 65 504
    label = torch.ones(1, 200_000, dtype=torch.long)
    value = cross_entropy(logits, label, label.bool())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("weights", [{"liver": 1.0}, {"a": -1.0}, {"a": math.nan}])
def test_wrong_class_weights_are_refused(weights):
    with pytest.raises(InputError, match="class_weights"):
        CrossEntropyLoss(TABLE, class_weights=weights)


def test_weights_of_regions_go_by_region_name():
    assert CrossEntropyLoss(REGIONS, class_weights={"core": 2.0}).weight.tolist() == [1.0, 2.0]
