import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceLoss as MonaiDice

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.dice import DiceLoss, region_dice, soft_dice

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})


def batch(shape=(2, 5, 4), k=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = torch.randn(b, k, *s, generator=rng) * 2
    label = torch.randint(0, k, (b, *s), generator=rng)
    return logits, label, torch.ones(b, *s, dtype=torch.bool)


def test_worked_by_hand():
    # Two cells of class 1, probability 3/4 and 1/4 for class 1: 2 * 1 / (1 + 2) = 2/3.
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]])
    label = torch.ones(1, 2, dtype=torch.long)
    score = soft_dice(logits, label, label.bool(), smooth=0.0)
    assert score[0, 1].item() == pytest.approx(2 / 3)
    assert score[0, 0].item() == 0  # class 0 has probability but no label
    smoothed = soft_dice(logits, label, label.bool(), smooth=1.0)
    assert smoothed[0].tolist() == pytest.approx([1 / 2, 3 / 4])  # (0 + 1) / (1 + 1), (2 + 1) / (3 + 1)


def test_absent_class_without_smoothing_is_nan_as_documented():
    logits = torch.tensor([[[0.0], [-math.inf]]])
    label = torch.zeros(1, 1, dtype=torch.long)
    assert soft_dice(logits, label, label == 0, smooth=0.0)[0, 1].isnan()


@pytest.mark.parametrize("dice_of_batch", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 4, 3, 2)])
def test_equals_monai(dice_of_batch, shape):
    logits, label, valid = batch(shape)
    theirs = MonaiDice(
        softmax=True,
        to_onehot_y=True,
        include_background=False,
        batch=dice_of_batch,
        smooth_nr=0.5,
        smooth_dr=0.5,
    )(logits, label[:, None])
    ours = DiceLoss(TABLE, smooth=0.5, batch=dice_of_batch)(logits, label, valid)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_regions_equal_monai_sigmoid():
    logits, _, valid = batch(k=2)
    target = torch.rand(2, 2, 5, 4, generator=torch.Generator().manual_seed(3)) > 0.5
    theirs = MonaiDice(sigmoid=True, smooth_nr=0.5, smooth_dr=0.5)(logits, target.float())
    ours = 1 - region_dice(logits, target, valid, smooth=0.5).mean()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_region_loss_reads_regions_from_labels():
    table = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    logits, label, valid = batch(k=2)
    label = batch(k=3)[1]
    target = torch.stack([label > 0, label == 2], dim=1)
    expected = 1 - region_dice(logits, target, valid, smooth=1e-5, batch=True).mean()
    assert DiceLoss(table)(logits, label, valid).item() == pytest.approx(expected.item())


def test_background_counts_only_when_told():
    logits, label, valid = batch()
    scores = soft_dice(logits, label, valid, batch=True)[0]
    assert DiceLoss(TABLE)(logits, label, valid).item() == pytest.approx(1 - scores[1:].mean().item())
    assert DiceLoss(TABLE, background=True)(logits, label, valid).item() == pytest.approx(1 - scores.mean().item())


def test_table_without_background_drops_no_class():
    cover = LabelTable.declare({"water": 1, "land": 2, "road": 3}, background=None)
    logits, label, valid = batch()
    expected = DiceLoss(TABLE, background=True)(logits, label, valid)
    assert DiceLoss(cover)(logits, label, valid) == expected
    assert DiceLoss(TABLE)(logits, label, valid) != expected


def test_perfect_prediction_costs_nothing():
    _, label, valid = batch()
    logits = torch.nn.functional.one_hot(label, 3).movedim(-1, 1) * 100.0
    assert DiceLoss(TABLE)(logits, label, valid).item() == pytest.approx(0, abs=1e-6)


@given(st.permutations(range(3)))
def test_classes_permute(order):
    logits, label, valid = batch()
    inverse = torch.tensor(order).argsort()
    permuted = soft_dice(logits[:, list(order)], inverse[label], valid)
    torch.testing.assert_close(permuted, soft_dice(logits, label, valid)[:, list(order)])


def test_2d_equals_3d_of_depth_one():
    logits, label, valid = batch()
    flat = soft_dice(logits, label, valid)
    deep = soft_dice(logits[..., None], label[..., None], valid[..., None])
    torch.testing.assert_close(flat, deep, rtol=0, atol=0)


def test_half_precision_is_summed_in_float32():
    # 70 000 cells exceed the range of half precision, 65 504.
    logits = torch.zeros(1, 2, 70_000, dtype=torch.float16)
    label = torch.ones(1, 70_000, dtype=torch.long)
    score = soft_dice(logits, label, label.bool())
    assert score.dtype == torch.float32
    assert score[0, 1].item() == pytest.approx(2 / 3, rel=1e-5)


def test_image_without_counted_cells_leaves_the_mean():
    logits, label, valid = batch()
    one = DiceLoss(TABLE, batch=False)(logits[:1], label[:1], valid[:1])
    label[1] = IGNORE
    assert DiceLoss(TABLE, batch=False)(logits, label, valid).item() == one.item()


@pytest.mark.parametrize("smooth", [0.0, -1.0, math.nan])
def test_smooth_must_be_positive(smooth):
    with pytest.raises(InputError, match="smooth must be positive"):
        DiceLoss(TABLE, smooth=smooth)
