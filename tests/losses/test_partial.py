"""Losses of partially annotated patches: marginal probabilities, gradients, means, and what equals the plain loss."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.cldice import ClDiceLoss
from medseg.losses.cross_entropy import CrossEntropyLoss
from medseg.losses.dice import DiceLoss
from medseg.losses.exclusion import ExclusionLoss
from medseg.losses.focal import FocalLoss
from medseg.losses.foreground import ForegroundLoss
from medseg.losses.lovasz import LovaszLoss
from medseg.losses.partial import annotated_mean, annotated_rows, marginal_label, marginal_logits
from medseg.losses.skeleton_recall import SkeletonRecallLoss
from medseg.losses.targets import memberships, region_sets, target_of
from medseg.losses.weighted_sum import WeightedSum

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2, "c": 3})
NESTED = LabelTable.declare(
    {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "hot": [3]}, regions_class_order=[1, 2, 3]
)
COVER = LabelTable.declare({"wood": 0, "water": 1, "road": 2, "field": 3}, background=None)
TERMS = {
    "ce": CrossEntropyLoss, "dice": DiceLoss, "focal": FocalLoss, "lovasz": LovaszLoss, "foreground": ForegroundLoss,
    "dice_of_images": lambda labels: DiceLoss(labels, batch=False, background=True),
}  # fmt: skip
A_ALONE = torch.tensor([[True, True, False, False]])
CORE_ALONE = torch.tensor([[False, True, False]])


def drawn(b: int = 2, k: int = 4, n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, k, n, generator=generator) * 3
    label = torch.randint(0, 4, (b, n), generator=generator)
    label[:, :3] = IGNORE
    valid = torch.rand(b, n, generator=generator) > 0.1
    return logits, label, valid


def loss_of(table: LabelTable, name: str, **settings: str) -> WeightedSum:
    return WeightedSum(table, {name: TERMS[name]}, **settings)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("table", [TABLE, NESTED, COVER])
def test_patches_that_annotate_all_classes_have_the_plain_loss_and_gradient(table: LabelTable, name: str) -> None:
    logits, label, valid = drawn(k=table.n_outputs)
    values = []
    for further in ({}, {"annotated": torch.ones(2, table.n_outputs, dtype=torch.bool)}):
        leaf = logits.clone().requires_grad_()
        total, _ = loss_of(table, name)(leaf, label, valid, further)
        total.backward()
        values.append((total.detach(), leaf.grad))
    (plain, plain_grad), (marginal, marginal_grad) = values
    torch.testing.assert_close(marginal, plain, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(marginal_grad, plain_grad, rtol=1e-5, atol=1e-8)
    if name != "dice" and not table.regions:
        assert torch.equal(marginal, plain)


def test_marginal_cross_entropy_is_that_of_merged_probabilities_by_hand() -> None:
    logits, label, valid = drawn(b=1)
    label = torch.where(label > 1, 0, label)
    loss, _ = loss_of(TABLE, "ce")(logits, label, valid, {"annotated": A_ALONE})
    prob = logits.softmax(1)
    merged = torch.stack([prob[0, 0] + prob[0, 2] + prob[0, 3], prob[0, 1]])
    counted = valid[0] & (label[0] != IGNORE)
    expected = -merged.log().gather(0, label[0].clamp(min=0)[None])[0][counted].mean()
    torch.testing.assert_close(loss, expected)


def test_marginal_dice_is_that_of_annotated_classes_by_hand() -> None:
    logits, label, valid = drawn(b=1)
    label = torch.where(label > 1, 0, label)
    loss, _ = loss_of(TABLE, "dice")(logits, label, valid, {"annotated": A_ALONE})
    counted = valid[0] & (label[0] != IGNORE)
    prob, target = logits.softmax(1)[0, 1][counted], (label[0] == 1)[counted].float()
    expected = 1 - (2 * (prob * target).sum() + 1e-5) / (prob.sum() + target.sum() + 1e-5)
    torch.testing.assert_close(loss, expected)  # b and c are neither perfect nor missed


@pytest.mark.parametrize("name", TERMS)
def test_the_split_of_the_merged_probability_is_not_pushed(name: str) -> None:
    logits, label, valid = drawn(b=1)
    leaf = logits.clone().requires_grad_()
    loss, _ = loss_of(TABLE, name)(leaf, torch.where(label > 1, 0, label), valid, {"annotated": A_ALONE})
    loss.backward()
    assert leaf.grad is not None
    members = [0, 2, 3]
    share = logits[:, members].softmax(1)
    pushed = leaf.grad[:, members]
    torch.testing.assert_close(pushed, share * pushed.sum(1, keepdim=True), rtol=1e-4, atol=1e-9)
    assert pushed.abs().sum() > 0


@pytest.mark.parametrize("name", TERMS)
def test_a_region_that_is_not_annotated_has_exactly_no_gradient(name: str) -> None:
    logits, label, valid = drawn(b=1, k=3)
    leaf = logits.clone().requires_grad_()
    loss, _ = loss_of(NESTED, name)(leaf, label, valid, {"annotated": CORE_ALONE})
    loss.backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad[:, [0, 2]], torch.zeros(1, 2, 40))
    assert leaf.grad[:, 1].abs().sum() > 0


@pytest.mark.parametrize("name", [name for name in TERMS if name != "foreground"])
def test_a_region_that_is_alone_has_the_loss_of_a_table_of_it_alone(name: str) -> None:
    logits, label, valid = drawn(b=2, k=3)
    loss, _ = loss_of(NESTED, name)(logits, label, valid, {"annotated": CORE_ALONE.expand(2, -1)})
    alone = LabelTable.declare({"background": 0, "rest": 1, "core": [2, 3]}, regions_class_order=[1, 2])
    core = LabelTable(alone.classes, regions=(alone.regions[-1],))
    expected, _ = loss_of(core, name)(logits[:, 1:2], label, valid)
    if name == "lovasz":  # its mean goes over what is outside of each region too
        assert 0 < loss < 1
    else:
        torch.testing.assert_close(loss, expected)


def test_mixed_patches_count_each_class_where_it_is_annotated() -> None:
    logits, label, valid = drawn(b=2, seed=1)
    own = torch.tensor([[True, True, False, False], [True, False, True, False]])
    loss, _ = loss_of(TABLE, "dice")(logits, label, valid, {"annotated": own})
    counted = valid & (label != IGNORE)
    prob = logits.softmax(1)
    expected = []
    for image, k in ((0, 1), (1, 2)):
        p, g = prob[image, k][counted[image]], (label[image] == k)[counted[image]].float()
        expected.append(1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5))
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_mean_over_regions_divides_by_the_annotated_ones() -> None:
    logits, label, valid = drawn(b=2, k=3)
    own = torch.tensor([[True, True, True], [True, False, False]])
    loss, _ = loss_of(NESTED, "ce")(logits, label, valid, {"annotated": own})
    members = torch.from_numpy(NESTED.region_matrix()).float()
    each = functional.binary_cross_entropy_with_logits(
        logits, members[:, label.clamp(min=0)].transpose(0, 1), reduction="none"
    )
    counts = (valid & (label != IGNORE))[:, None] & own[:, :, None]
    torch.testing.assert_close(loss, each[counts].mean())


@pytest.mark.parametrize(("table", "own"), [(TABLE, A_ALONE), (NESTED, CORE_ALONE)])
def test_background_that_is_ignored_does_not_count(table: LabelTable, own: torch.Tensor) -> None:
    _, label, _ = drawn(b=1)
    changed = marginal_label(label, own, table, ignore=True)
    foreground = label == 1 if table is TABLE else label >= 2
    assert torch.equal(changed != IGNORE, foreground)
    complete = torch.ones_like(own)
    assert torch.equal(marginal_label(label, complete, table, ignore=True), label)


def test_ignored_background_reaches_the_terms() -> None:
    logits, label, valid = drawn(b=1)
    label = torch.where(label > 1, 0, label)
    further = {"annotated": A_ALONE}
    leaf = logits.clone().requires_grad_()
    loss, _ = loss_of(TABLE, "ce", partial="ignore")(leaf, label, valid, further)
    loss.backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad.abs().sum(1) > 0, (label == 1) & valid)
    with pytest.raises(InputError, match=r"loss.partial=merge: choose marginal or ignore"):
        loss_of(TABLE, "ce", partial="merge")


def test_without_a_background_other_classes_do_not_count_and_logits_stay() -> None:
    logits, label, valid = drawn(b=1)
    own = torch.tensor([[False, True, False, True]])
    changed = marginal_label(label, own, COVER)
    assert torch.equal(changed, torch.where((label == 1) | (label == 3), label, IGNORE))
    assert marginal_logits(logits, changed, valid, own, COVER) is logits


def test_cells_that_do_not_count_may_hold_anything() -> None:
    logits, label, valid = drawn(b=1)
    expected, _ = loss_of(TABLE, "ce")(logits, label, valid, {"annotated": A_ALONE})
    leaf = torch.where(valid & (label != IGNORE), logits[0], torch.inf)[None, :, 0].clone().requires_grad_()
    leaf = torch.where((valid & (label != IGNORE))[:, None], logits, torch.nan).requires_grad_()
    loss, _ = loss_of(TABLE, "ce")(leaf, label, valid, {"annotated": A_ALONE})
    loss.backward()
    assert torch.equal(loss, expected)
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_levels_of_deep_supervision_are_marginal_too() -> None:
    fine, label, valid = drawn(b=1)
    coarse = fine[:, :, ::2].clone().requires_grad_()
    loss, _ = loss_of(TABLE, "ce")([fine, coarse, coarse[:, :, ::2]], label, valid, {"annotated": A_ALONE})
    loss.backward()
    assert coarse.grad is not None
    members = coarse.grad[:, [0, 2, 3]]
    torch.testing.assert_close(members, fine[:, [0, 2, 3], ::2].softmax(1) * members.sum(1, keepdim=True))
    assert members.abs().sum() > 0


def test_half_precision_is_computed_in_float32() -> None:
    logits, label, valid = drawn(b=1)
    half = logits.half()
    loss, _ = loss_of(TABLE, "ce")(half, label, valid, {"annotated": A_ALONE})
    expected, _ = loss_of(TABLE, "ce")(half.float(), label, valid, {"annotated": A_ALONE})
    assert torch.equal(loss, expected)


def test_means_over_outputs_by_hand() -> None:
    own = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    counted = torch.tensor([[True], [True], [False]])  # the third image has no cell that counts
    values = torch.tensor([[1.0, 2.0, 6.0]])
    of_batch = annotated_rows(own, counted, batch=True)
    assert annotated_mean(values, annotated_rows(None, counted, batch=True)).tolist() == [3.0]
    assert annotated_mean(values, of_batch).tolist() == [1.5]
    assert annotated_mean(values.expand(3, -1), annotated_rows(own, counted, batch=False)).tolist() == [1.5, 1.0, 3.0]


def chained(n: int, *, nested: bool = False) -> LabelTable:
    """Regions of two neighbouring classes each, or with ``nested`` of all classes from one on."""
    names = {f"r{i}": [*range(i, n + 1)] if nested else [i, i + 1] for i in range(1, n + 1)}
    return LabelTable.declare({"background": 0, **names}, regions_class_order=list(range(1, n + 1)))


@pytest.mark.parametrize("table", [NESTED, chained(4), chained(40), chained(6, nested=True)])
def test_a_cell_is_in_the_annotated_regions_of_its_class(table: LabelTable) -> None:
    rng = torch.Generator().manual_seed(0)
    label = torch.randint(-1, table.n_classes, (5, 200), generator=rng)
    annotated = torch.rand(5, len(table.regions), generator=rng) < 0.5
    annotated[:, 0] = True
    annotated[4] = True
    changed = marginal_label(label, annotated, table)
    target = target_of(changed, memberships(table))
    expected = target_of(label, torch.from_numpy(table.region_matrix())) & annotated[:, :, None]
    counted = label != IGNORE
    assert torch.equal(changed != IGNORE, counted)
    assert torch.equal(target & counted[:, None], expected & counted[:, None])
    assert torch.equal(changed[4], label[4])


def test_sets_are_the_subsets_of_the_regions_of_a_class() -> None:
    assert region_sets(chained(40)).sum(0).bincount().tolist() == [1, 40, 39]  # none, each, and neighbours


def test_too_many_sets_of_regions_are_refused() -> None:
    table = chained(13, nested=True)
    with pytest.raises(InputError, match="class r13 is in 13 of 13 regions, so that cells may be"):
        marginal_label(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 13, dtype=torch.bool), table)


def test_exclusion_is_the_probability_of_other_classes_in_foreground_by_hand() -> None:
    logits, label, valid = drawn(b=2)
    label = torch.where(label > 1, 0, label)
    own = torch.cat([A_ALONE, torch.ones(1, 4, dtype=torch.bool)])
    leaf = logits.clone().requires_grad_()
    loss, _ = WeightedSum(TABLE, {"exclusion": ExclusionLoss})(leaf, label, valid, {"annotated": own})
    cells = valid[0] & (label[0] == 1)
    torch.testing.assert_close(loss.detach(), logits.softmax(1)[0, 2:, cells].sum(0).mean())
    loss.backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad[1], torch.zeros(4, 40))  # complete
    assert torch.equal(leaf.grad[0].abs().sum(0) > 0, cells)
    assert ExclusionLoss(TABLE)(logits, label, valid) == 0


@pytest.mark.parametrize(("table", "kind"), [(NESTED, "regions, which may overlap"), (COVER, "without a background")])
def test_exclusion_is_refused_where_classes_do_not_exclude_each_other(table: LabelTable, kind: str) -> None:
    with pytest.raises(InputError, match=f"loss exclusion: got .*{kind}"):
        ExclusionLoss(table)


@pytest.mark.parametrize("kind", [ClDiceLoss, SkeletonRecallLoss])
def test_structures_of_the_batch_that_nobody_annotates_do_not_enter_a_mean(kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 7, generator=generator)
    label = torch.randint(0, 2, (2, 6, 7), generator=generator)
    valid = torch.ones_like(label).bool()
    loss, _ = WeightedSum(TABLE, {"term": kind})(logits, label, valid, {"annotated": A_ALONE.expand(2, -1)})
    merged = torch.stack([logits[:, [0, 2, 3]].logsumexp(1), logits[:, 1]], dim=1)
    alone = LabelTable.declare({"background": 0, "a": 1})
    torch.testing.assert_close(loss, kind(alone)(merged, label, valid))
