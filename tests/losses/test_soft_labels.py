"""Losses of soft labels: every term that takes them."""

from typing import Any

import pytest
import torch
from hydra.utils import get_class, instantiate
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.dice import DiceLoss
from medseg.losses.targets import soft_target
from medseg.losses.term import needs
from medseg.losses.weighted_sum import WeightedSum
from tests.losses.test_invariants import CLASSES, PERMUTED, REGIONS, TABLES, batch, settings

TERMS = sorted(name for name, term in settings().items() if "soft" in needs(get_class(term._target_)))


def one_hot(label: Tensor) -> Tensor:
    return torch.stack([label == k for k in range(4)], dim=1).float()


def votes(seed: int) -> tuple[Tensor, Tensor]:
    """Labels of two observers, who ignore the same cells and differ in many."""
    label = batch(CLASSES)[1]
    other = torch.randint(0, 4, label.shape, generator=torch.Generator().manual_seed(seed))
    return label, torch.where(label == IGNORE, IGNORE, other)


def value_and_gradient(loss: Any, logits: Any, label: Tensor, valid: Tensor, **given: Any) -> tuple[Tensor, Any]:
    levels = [level.clone().requires_grad_() for level in (logits if isinstance(logits, list) else [logits])]
    total, _ = loss(levels if isinstance(logits, list) else levels[0], label, valid, {"progress": 0.5, **given})
    total.backward()
    return total.detach(), [level.grad for level in levels]


def build(term: str, kind: str, **changes: Any) -> WeightedSum:
    return WeightedSum(TABLES[kind], {term: instantiate(settings()[term], **changes)})


@pytest.fixture(params=[(term, kind) for term in TERMS for kind in TABLES], ids="-".join)
def term_and_kind(request: Any) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


def test_the_terms_are_those_of_overlap_and_cross_entropy() -> None:
    assert {"cross_entropy", "dice", "tversky"} <= set(TERMS)


def test_observers_that_agree_give_the_loss_of_hard_labels(term_and_kind: tuple[str, str]) -> None:
    term, kind = term_and_kind
    logits, label, valid = batch(TABLES[kind])
    loss = build(term, kind)
    hard, gradient = value_and_gradient(loss, logits, label, valid)
    soft, other = value_and_gradient(loss, logits, label, valid, soft=one_hot(label))
    torch.testing.assert_close(soft, hard, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other[0], gradient[0], rtol=1e-4, atol=1e-7)


def test_deep_supervision_takes_soft_labels_where_it_takes_labels(term_and_kind: tuple[str, str]) -> None:
    term, kind = term_and_kind
    logits, label, valid = batch(TABLES[kind], (2, 8, 8))
    levels = [logits, logits[..., ::2, ::2].contiguous(), logits[..., ::4, ::4].contiguous()]
    loss = build(term, kind)
    hard, _ = value_and_gradient(loss, levels, label, valid)
    soft, _ = value_and_gradient(loss, levels, label, valid, soft=one_hot(label))
    torch.testing.assert_close(soft, hard, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", list(TABLES))
def test_cross_entropy_is_the_mean_of_the_observers(kind: str) -> None:
    logits, _, valid = batch(TABLES[kind])
    first, second = votes(3)
    loss = build("cross_entropy", kind)
    each = [value_and_gradient(loss, logits, label, valid) for label in (first, second)]
    soft, gradient = value_and_gradient(loss, logits, first, valid, soft=(one_hot(first) + one_hot(second)) / 2)
    torch.testing.assert_close(soft, (each[0][0] + each[1][0]) / 2, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient[0], (each[0][1][0] + each[1][1][0]) / 2, rtol=1e-5, atol=1e-8)


def test_weights_of_classes_by_hand() -> None:
    """One cell, half of it class 1 with weight 3: (3 log 2 + log 4) / 4, for p = 1/4, 1/2, 1/8, 1/8."""
    logits = torch.tensor([0.25, 0.5, 0.125, 0.125]).log().view(1, 4, 1)
    soft = torch.tensor([0.5, 0.5, 0.0, 0.0]).view(1, 4, 1)
    loss = CrossEntropyLoss(CLASSES, class_weights={"a": 3.0})
    label = torch.zeros(1, 1, dtype=torch.long)
    value = loss(logits, label, label == 0, soft=soft)
    torch.testing.assert_close(value, (3 * torch.tensor(2.0).log() + torch.tensor(4.0).log()) / 4)


def test_dice_is_lowest_where_probabilities_are_the_shares() -> None:
    """With a product it would be lower for a certain network."""
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(1, 4, 30, generator=generator).softmax(1)
    label, valid = soft.argmax(1), torch.ones(1, 30, dtype=torch.bool)
    loss = DiceLoss(CLASSES, smooth=1e-9)
    assert loss(soft.log(), label, valid, soft=soft) < 1e-6
    assert loss(one_hot(label).mul(100), label, valid, soft=soft) > 0.1


def test_dice_by_hand() -> None:
    """Two cells of one foreground class: p = 3/4, 1/4 and q = 1/2, 1/2: min 1/2 + 1/4, sums 1 and 1."""
    logits = torch.tensor([[[0.25, 0.75], [0.75, 0.25]]]).log()
    logits = torch.cat([logits, torch.full((1, 2, 2), -100.0)], dim=1)
    soft = torch.tensor([[[0.5, 0.5], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]])
    label = torch.zeros(1, 2, dtype=torch.long)
    value = DiceLoss(CLASSES, smooth=1e-6)(logits, label, label == 0, soft=soft)
    assert value.item() == pytest.approx((1 - 2 * 0.75 / 2) / 3, abs=1e-5)  # absent classes score 1


def test_ignored_and_invalid_cells_do_not_count(term_and_kind: tuple[str, str]) -> None:
    term, kind = term_and_kind
    logits, label, valid = batch(TABLES[kind])
    first, second = votes(5)
    soft = (one_hot(first) + one_hot(second)) / 2
    loss = build(term, kind)
    value, gradient = value_and_gradient(loss, logits, label, valid, soft=soft)
    out = ~valid | (label == IGNORE)
    junk = torch.where(out[:, None], torch.rand_like(soft), soft)
    wild = torch.where(out[:, None], torch.full_like(logits, 1e30), logits)
    other, changed = value_and_gradient(loss, wild, label, valid, soft=junk)
    torch.testing.assert_close(other, value, rtol=1e-6, atol=1e-7)
    assert (changed[0].movedim(1, -1)[out] == 0).all()
    torch.testing.assert_close(changed[0], gradient[0], rtol=1e-5, atol=1e-8)
    nothing, none = value_and_gradient(loss, logits, label, torch.zeros_like(valid), soft=soft)
    assert nothing == 0
    assert (none[0] == 0).all()


def test_outputs_permute_and_a_plane_is_a_volume_of_depth_one(term_and_kind: tuple[str, str]) -> None:
    term, kind = term_and_kind
    logits, label, valid = batch(TABLES[kind])
    first, second = votes(7)
    soft = (one_hot(first) + one_hot(second)) / 2
    value, _ = value_and_gradient(build(term, kind), logits, label, valid, soft=soft)
    deep = [part.unsqueeze(-3) for part in (logits, label, valid, soft)]
    flat, _ = value_and_gradient(build(term, kind), *deep[:3], soft=deep[3])
    torch.testing.assert_close(flat, value, rtol=1e-5, atol=1e-7)
    table, order, index = PERMUTED[kind]
    moved = soft if index is None else soft[:, [0, 2, 3, 1]]
    label = label if index is None else torch.where(label == IGNORE, IGNORE, torch.tensor(index)[label.clamp(min=0)])
    loss = WeightedSum(table, {term: instantiate(settings()[term])})
    other, _ = value_and_gradient(loss, logits[:, order], label, valid, soft=moved)
    torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-7)


def test_half_precision_is_computed_in_float32(term_and_kind: tuple[str, str]) -> None:
    term, kind = term_and_kind
    logits, label, valid = batch(TABLES[kind])
    soft = (one_hot(votes(9)[0]) + one_hot(votes(9)[1])) / 2
    value, _ = value_and_gradient(build(term, kind), logits.half().float(), label, valid, soft=soft)
    half, _ = value_and_gradient(build(term, kind), logits.half(), label, valid, soft=soft)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, value, rtol=1e-5, atol=1e-7)


def test_the_share_of_a_region_is_that_of_its_classes() -> None:
    soft = torch.tensor([0.4, 0.3, 0.2, 0.1]).view(1, 4, 1)
    loss = CrossEntropyLoss(REGIONS)  # whole: 1, 2 and 3; core: 2; rim: 3
    torch.testing.assert_close(soft_target(soft, loss.members).flatten(), torch.tensor([0.6, 0.2, 0.1]))


def test_soft_labels_of_partial_labels_are_refused() -> None:
    logits, label, valid = batch(CLASSES)
    annotated = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(InputError, match=r"data\.annotations=soft\).*data\.annotated.*take data\.annotations=draw"):
        value_and_gradient(build("dice", "classes"), logits, label, valid, soft=one_hot(label), annotated=annotated)
