import pytest
import torch

from medseg.errors import InputError
from medseg.losses.betti_matching import BettiMatchingLoss
from medseg.losses.betti_matching import betti_matching as betti_matching_of_maps
from medseg.topology import matching
from medseg.topology.matching import match_features
from tests.losses.drawn import ONE, REGIONS, TABLE, batch, everywhere, mask

pytest.importorskip("topolosses")

LEFT = mask("........", ".##.....", ".##.....", "........")[0].bool()
RIGHT = mask("........", ".....##.", ".....##.", "........")[0].bool()


def betti_matching(prob, target, **settings):
    """The cost of one map."""
    return betti_matching_of_maps(prob[None], target[None], **settings)[0]


def test_maps_are_matched_one_by_one_in_any_number_of_threads(monkeypatch):
    maps = torch.stack([two_parts(0.8, 0.6), two_parts(0.6, 0.8), two_parts(0.3, 0.9)])
    target = torch.stack([LEFT, LEFT | RIGHT, RIGHT])
    each = torch.stack([betti_matching(*pair) for pair in zip(maps, target, strict=True)])
    for threads in (1, 2, 8):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        torch.testing.assert_close(betti_matching_of_maps(maps, target), each)


def two_parts(left, right):
    """Two parts above a background of 0.1."""
    prob = torch.full(LEFT.shape, 0.1)
    prob[LEFT], prob[RIGHT] = left, right
    return prob


def test_worked_by_hand():
    # The stronger part lives until the plate is reached, at 0; the weaker one until both meet, at 0.1.
    assert betti_matching(two_parts(0.8, 0.6), LEFT).item() == pytest.approx((0.8 - 1) ** 2 + (0.6 - 0.1) ** 2 / 2)
    both = betti_matching(two_parts(0.8, 0.6), LEFT | RIGHT)
    assert both.item() == pytest.approx((0.8 - 1) ** 2 + (0.6 - 1) ** 2 + 0.1**2)


def test_gradient_raises_what_is_matched_and_lowers_what_is_not():
    prob = two_parts(0.8, 0.6).requires_grad_()
    (gradient,) = torch.autograd.grad(betti_matching(prob, LEFT), prob)
    assert gradient[LEFT].sum().item() == pytest.approx(2 * (0.8 - 1))
    assert gradient[RIGHT].sum().item() == pytest.approx(0.6 - 0.1)
    assert gradient.sum().item() == pytest.approx(2 * (0.8 - 1))  # the cell where the parts meet rises
    assert (gradient != 0).sum() == 3


def test_perfect_prediction_costs_nothing_and_an_empty_one_half():
    assert betti_matching(LEFT.float(), LEFT) == 0
    assert betti_matching(torch.zeros(LEFT.shape), LEFT).item() == pytest.approx(0.5)
    assert betti_matching(RIGHT.float(), LEFT).item() == pytest.approx(1.0)


def test_rounding_leaves_out_small_features_and_no_precision():
    rng = torch.Generator().manual_seed(0)
    prob = (LEFT.float() * 0.93 + torch.rand(LEFT.shape, generator=rng) * 0.01).clamp(max=1)
    rough, exact = betti_matching(prob, LEFT, levels=16), betti_matching(prob, LEFT)
    assert rough.item() == pytest.approx(exact.item(), abs=1e-3)
    assert rough.item() == pytest.approx((1 - prob[LEFT].max().item()) ** 2, abs=2e-3)


def test_some_structures():
    logits, label, valid = batch(TABLE)
    each = [BettiMatchingLoss(TABLE, structures=[name])(logits, label, valid) for name in ("a", "b")]
    assert BettiMatchingLoss(TABLE)(logits, label, valid).item() == pytest.approx(sum(each).item() / 2)
    assert BettiMatchingLoss(REGIONS, structures=["core"]).structures == [1]
    with pytest.raises(InputError, match="structures: c is none of the table; the nearest are"):
        BettiMatchingLoss(TABLE, structures=["c"])
    with pytest.raises(InputError, match="structures: got none"):
        BettiMatchingLoss(TABLE, structures=[])
    with pytest.raises(InputError, match="levels must be at least 2"):
        BettiMatchingLoss(TABLE, levels=1)


def test_a_structure_that_an_image_does_not_annotate_has_no_part_in_the_mean():
    logits, label, valid = batch(TABLE)
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    each = [
        BettiMatchingLoss(TABLE, structures=[name])(logits[[i]], label[[i]], valid[[i]])
        for i, name in ((0, "a"), (1, "a"), (1, "b"))
    ]
    value = BettiMatchingLoss(TABLE)(logits, label, valid, annotated)
    assert value.item() == pytest.approx(sum(each).item() / 3)
    assert BettiMatchingLoss(TABLE, structures=["b"])(logits[:1], label[:1], valid[:1], annotated[:1]) == 0


def test_descent_corrects_the_topology():
    label = mask("........", ".######.", "........")
    logits = torch.zeros(1, 2, 3, 8)
    logits[0, 1] = torch.where(label[0] > 0, 2.0, -2.0)
    logits[0, 1, 1, 4] = -1.0  # a gap
    logits.requires_grad_()

    def unmatched():
        pred = (logits[0, 1] > logits[0, 0]).double().numpy()
        return match_features(pred, label[0].double().numpy()).unmatched

    assert unmatched() == (1, 0)
    loss, optimizer = BettiMatchingLoss(ONE), torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, label, everywhere(label)).backward()
        optimizer.step()
    assert unmatched() == (0, 0)


def test_missing_library_is_named_before_the_training(monkeypatch):
    monkeypatch.setattr(matching, "find_spec", lambda name: None)
    matching.compiled.cache_clear()
    with pytest.raises(InputError, match="topolosses"):
        BettiMatchingLoss(TABLE)
    matching.compiled.cache_clear()
