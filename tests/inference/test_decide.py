import pytest
import torch

from medseg.errors import InputError
from medseg.inference.decide import decide
from medseg.labels import LabelTable


def test_softmax_takes_the_largest_logit() -> None:
    table = LabelTable.declare({"background": 0, "a": 1, "b": 2})
    assert decide(torch.tensor([[0.0, 3, 1], [1, 2, 1], [0, 9, 0]]), table).tolist() == [1, 2, 0]


def test_regions_are_painted_in_order() -> None:
    table = LabelTable.declare(
        {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}, regions_class_order=[1, 2, 3]
    )
    logits = torch.tensor([[-1.0, 1, 1, 1, -1], [-1, -1, 1, 1, 1], [-1, -1, -1, 1, -1]])
    assert decide(logits, table).tolist() == [0, 1, 2, 3, 2]


def test_wrong_number_of_outputs_is_refused() -> None:
    with pytest.raises(InputError, match="got 2 logits for 3 outputs"):
        decide(torch.zeros(2, 4), LabelTable.declare({"background": 0, "a": 1, "b": 2}))
