"""Tversky, generalised Dice and MCC; Dice has a file of its own."""

import math

import pytest
import torch
from monai.losses import DiceLoss as MonaiDice
from monai.losses import GeneralizedDiceLoss as MonaiGeneralisedDice
from monai.losses import TverskyLoss as MonaiTversky
from segmentation_models_pytorch.losses import JaccardLoss, MCCLoss

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.dice import DiceLoss
from medseg.losses.generalised_dice import GeneralisedDiceLoss, generalised_dice
from medseg.losses.matthews import MatthewsLoss, matthews_correlation
from medseg.losses.overlap import SoftCounts
from medseg.losses.tversky import TverskyLoss, tversky_index
from tests.losses.test_invariants import CLASSES, REGIONS, TABLES, value_and_gradient

BINARY = LabelTable.declare({"background": 0, "whole": [1, 2]}, regions_class_order=[1])


def batch(table=CLASSES, shape=(2, 5, 4), classes=4):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], table.n_outputs, *shape[1:], generator=rng) * 2
    label = torch.randint(0, classes, shape, generator=rng)
    return logits, label, label >= 0


def counts(both, predicted, labelled, cells=10.0):
    rows = [torch.tensor([part]) for part in (both, predicted, labelled)]
    return SoftCounts(*rows, torch.full_like(rows[0], cells))


def test_tversky_worked_by_hand():
    # 2 true, 1 false positive, 3 missed
    one = counts([2.0], [3.0], [5.0])
    assert tversky_index(one, false_positives=0.3, false_negatives=0.7, smooth=1e-9).item() == pytest.approx(2 / 4.4)
    assert tversky_index(one, false_positives=1.0, false_negatives=1.0, smooth=1e-9).item() == pytest.approx(2 / 6)
    assert tversky_index(one, false_positives=0.5, false_negatives=0.0, smooth=1.0).item() == pytest.approx(3 / 3.5)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 4, 3, 2)])
def test_tversky_equals_monai(batched, shape):
    logits, label, valid = batch(shape=shape)
    theirs = MonaiTversky(
        softmax=True, to_onehot_y=True, include_background=False, alpha=0.2, beta=0.8, batch=batched, smooth_nr=0.1,
        smooth_dr=0.1,
    )(logits, label[:, None])  # fmt: skip
    ours = TverskyLoss(CLASSES, false_positives=0.2, false_negatives=0.8, smooth=0.1, batch=batched)
    torch.testing.assert_close(ours(logits, label, valid), theirs)


def test_iou_equals_monai_and_smp():
    logits, label, valid = batch()
    ours = TverskyLoss(CLASSES, false_positives=1.0, false_negatives=1.0, background=True)(logits, label, valid)
    monai = MonaiDice(softmax=True, to_onehot_y=True, jaccard=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    torch.testing.assert_close(ours, monai(logits, label[:, None]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, JaccardLoss("multiclass")(logits, label), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TABLES)
def test_with_halves_tversky_is_dice(kind):
    case = batch(TABLES[kind])
    ours = TverskyLoss(TABLES[kind], false_positives=0.5, false_negatives=0.5, smooth=0.5)(*case)
    torch.testing.assert_close(ours, DiceLoss(TABLES[kind], smooth=1.0)(*case))


def test_gamma_is_the_power_of_each_class():
    case = batch()
    classes = 1 - tversky_index(counts([2.0, 1.0], [3.0, 1.0], [5.0, 4.0]))
    ours = TverskyLoss(CLASSES, gamma=0.75).cost(counts([2.0, 1.0], [3.0, 1.0], [5.0, 4.0]))
    torch.testing.assert_close(ours, (classes**0.75).mean(dim=1))
    assert TverskyLoss(CLASSES, gamma=0.75)(*case) > TverskyLoss(CLASSES)(*case)


def test_generalised_dice_worked_by_hand():
    # 2 and 4 labelled cells: weights 1 and 1/4. The third class is absent and weighs as much as the rarest.
    three = counts([1.0, 3.0, 0.0], [2.0, 5.0, 1.0], [2.0, 4.0, 0.0])
    expected = 2 * (1 + 3 / 4) / (4 + 9 / 4 + 1)
    assert generalised_dice(three, smooth=1e-9).item() == pytest.approx(expected)
    expected = 2 * (1 + 3 / 2) / (4 + 9 / 2 + 1)
    assert generalised_dice(three, power=1.0, smooth=1e-9).item() == pytest.approx(expected)
    assert generalised_dice(three, power=0.0, smooth=1.0).item() == pytest.approx((2 * 4 + 1) / (14 + 1))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 4, 3, 2)])
def test_generalised_dice_equals_monai(batched, shape):
    logits, label, valid = batch(shape=shape)
    theirs = MonaiGeneralisedDice(softmax=True, to_onehot_y=True, batch=batched, smooth_nr=0.0, smooth_dr=0.0)
    ours = GeneralisedDiceLoss(CLASSES, smooth=1e-9, batch=batched)(logits, label, valid)
    torch.testing.assert_close(ours, theirs(logits, label[:, None]))


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    """Half of 10 cells missed cost as much as half of 1000; with equal weights of all cells next to nothing."""
    rare, frequent = (
        counts([1000.0, 5.0], [1000.0, 5.0], [1000.0, 10.0]),
        counts([500.0, 10.0], [500.0, 10.0], [1000.0, 10.0]),
    )
    assert generalised_dice(rare, power=1.0).item() == pytest.approx(generalised_dice(frequent, power=1.0).item())
    assert generalised_dice(rare, power=0.0).item() > 0.99
    assert generalised_dice(frequent, power=0.0).item() < 0.7


def test_mcc_worked_by_hand():
    # 2 true positives, 1 false positive, 3 false negatives, 4 true negatives
    expected = (2 * 4 - 1 * 3) / math.sqrt(3 * 5 * 5 * 7)
    assert matthews_correlation(counts([2.0], [3.0], [5.0]), smooth=1e-9).item() == pytest.approx(expected)


def test_mcc_equals_smp():
    logits, label, valid = batch(BINARY, classes=2)
    theirs = MCCLoss(eps=1e-9)(logits.sigmoid(), label[:, None].float())
    torch.testing.assert_close(MatthewsLoss(BINARY, smooth=1e-9)(logits, label, valid), theirs)


def test_mcc_of_classes_is_the_mean_of_each_against_the_others():
    logits, label, valid = batch()
    predicted = logits.argmax(dim=1)
    certain = torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1) * 200.0
    pairs = [torch.stack((predicted == k, label == k)).flatten(1).double() for k in (1, 2, 3)]
    expected = 1 - sum(torch.corrcoef(pair)[0, 1] for pair in pairs) / 3
    assert MatthewsLoss(CLASSES)(certain, label, valid).item() == pytest.approx(expected.item(), abs=1e-4)


def test_mcc_leaves_out_classes_that_all_or_none_of_the_cells_have():
    both = MatthewsLoss(CLASSES).cost(counts([2.0, 1.0, 0.0], [3.0, 1.0, 0.4], [5.0, 4.0, 0.0]))
    two = MatthewsLoss(CLASSES).cost(counts([2.0, 1.0], [3.0, 1.0], [5.0, 4.0]))
    torch.testing.assert_close(both, two)
    logits, label, valid = batch(REGIONS)
    value, gradient = value_and_gradient(lambda *case: (MatthewsLoss(REGIONS)(*case[:3]), {}), logits, 0 * label, valid)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("built", [TverskyLoss, GeneralisedDiceLoss, MatthewsLoss])
def test_a_million_cells_are_summed_well(built):
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(1, 1000, 1000, generator=generator) > 0.999).long()
    logits = torch.stack((torch.zeros_like(label), 8.0 * label - 7), dim=1).float()
    table = LabelTable.declare({"background": 0, "a": 1})
    ours = built(table)(logits, label, label >= 0).item()
    assert ours == pytest.approx(built(table).double()(logits.double(), label, label >= 0).item(), rel=1e-4)


@pytest.mark.parametrize(
    "built, settings, name",
    [
        (TverskyLoss, {"false_positives": -1.0}, "tversky"),
        (TverskyLoss, {"false_positives": 0.0, "false_negatives": 0.0}, "tversky"),
        (TverskyLoss, {"gamma": 0.0}, "tversky"),
        (TverskyLoss, {"smooth": 0.0}, "tversky"),
        (GeneralisedDiceLoss, {"power": -1.0}, "generalised_dice"),
        (MatthewsLoss, {"smooth": math.nan}, "mcc"),
    ],
)
def test_wrong_settings_are_refused(built, settings, name):
    with pytest.raises(InputError, match=f"loss {name}: "):
        built(CLASSES, **settings)
