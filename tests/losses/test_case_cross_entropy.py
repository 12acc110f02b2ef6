"""Cross-entropy of the class of a case."""

import math

import pytest
import torch

from medseg.labels import LabelTable
from medseg.losses.case_cross_entropy import CaseCrossEntropyLoss

TABLE = LabelTable.declare({"background": 0, "a": 1})
CELLS = torch.zeros(3, 2, 4), torch.zeros(3, 4, dtype=torch.int64), torch.ones(3, 4).bool()


def test_mean_over_the_cases_whose_class_is_known() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [50.0, 0.0]])
    value = CaseCrossEntropyLoss(TABLE)(*CELLS, case_logits=logits, case_label=torch.tensor([0, 1, -1]))
    assert value.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_no_class_is_known() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    value = CaseCrossEntropyLoss(TABLE)(*CELLS, case_logits=logits, case_label=torch.full((3,), -1))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_label_smoothing() -> None:
    logits = torch.zeros(3, 2)
    logits[:, 0] = math.log(3.0)
    value = CaseCrossEntropyLoss(TABLE, label_smoothing=0.2)(
        *CELLS, case_logits=logits, case_label=torch.zeros(3).long()
    )
    assert value.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))
