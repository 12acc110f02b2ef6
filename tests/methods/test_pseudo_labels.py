"""Pseudo labels: hard and sharpened targets, confidence, and the divergence from them, by hand and by a library."""

import math

import pytest
import torch
from torch.nn import functional

from medseg.methods.pseudo_labels import confidence, divergence, hard, sharpened, summed

LOGITS = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_the_divergence_from_a_hard_target_is_the_cross_entropy() -> None:
    prob = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    target = hard(prob, regions=False)
    expected = functional.cross_entropy(LOGITS, prob.argmax(1), reduction="none")
    torch.testing.assert_close(divergence(LOGITS, target, regions=False)[:, 0], expected)
    inside = hard(prob, regions=True)
    assert torch.equal(inside.bool(), prob > 0.5)
    expected = functional.binary_cross_entropy_with_logits(LOGITS, inside, reduction="none")
    torch.testing.assert_close(divergence(LOGITS, inside, regions=True), expected)


def test_the_first_of_equal_classes_is_the_label() -> None:
    assert hard(torch.full((1, 3, 1), 1 / 3), regions=False).flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_sharpened_probabilities_are_those_of_divided_logits(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(1)
    torch.testing.assert_close(sharpened(LOGITS.softmax(1), temperature, regions=False), expected)
    expected = (LOGITS / temperature).sigmoid()
    torch.testing.assert_close(sharpened(LOGITS.sigmoid(), temperature, regions=True), expected)


def test_cells_that_a_view_does_not_show_stay_0() -> None:
    assert not sharpened(torch.zeros(1, 2, 3), 0.4, regions=False).any()


def test_confidence_is_that_of_the_class_or_of_each_region() -> None:
    prob = torch.tensor([[[0.7], [0.2], [0.1]]])
    assert confidence(prob, regions=False).flatten().tolist() == pytest.approx([0.7])
    assert confidence(prob, regions=True).flatten().tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_what_does_not_count_is_0_be_it_nan() -> None:
    values = torch.tensor([[[1.0, math.nan], [3.0, 5.0]]])
    assert float(summed(values, torch.tensor([[[True, False], [True, True]]]))) == (1 + 3 + 5) / 2
