import pytest
import torch
from segmentation_models_pytorch.losses import LovaszLoss as SmpLovasz

from medseg.labels import IGNORE, LabelTable
from medseg.losses.lovasz import LovaszLoss, lovasz

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
COVER = LabelTable.declare({"water": 1, "land": 2, "road": 3}, background=None)
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def batch(shape=(2, 5, 4), k=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = torch.randn(b, k, *s, generator=rng) * 2
    label = torch.randint(0, 3, (b, *s), generator=rng)
    label[0, :2] = IGNORE
    return logits, label, torch.rand(b, *s, generator=rng) > 0.2


def certain(pred):
    return torch.nn.functional.one_hot(pred, 3).movedim(-1, 1) * 200.0


def test_worked_by_hand():
    # Errors 0.6 (a miss), 0.5 (a false alarm), 0.2 (a hit not quite sure); two cells of the class. One minus the
    # IoU after each: 1/2, 1 - 1/3, 1; so 0.6 / 2 + 0.5 / 6 + 0.2 / 3 = 0.45. Without cells: the largest p.
    prob, target = torch.tensor([[0.5, 0.8, 0.4]]), torch.tensor([[False, True, True]])
    assert lovasz(prob, target, torch.ones(3).bool()).item() == pytest.approx(0.45)
    assert lovasz(prob, ~(target | True), torch.ones(3).bool()).item() == pytest.approx(0.8)


def test_of_certain_predictions_is_one_minus_the_iou():
    _, label, valid = batch((2, 9, 9))
    pred = torch.randint(0, 3, label.shape, generator=torch.Generator().manual_seed(5))
    known = valid & (label != IGNORE)
    both = [(known & (pred == i) & (label == i)).sum() for i in range(3)]
    either = [(known & ((pred == i) | (label == i))).sum() for i in range(3)]
    expected = [1 - (a / b).item() for a, b in zip(both, either, strict=True)]
    assert LovaszLoss(COVER)(certain(pred), label, valid).item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    foreground = LovaszLoss(TABLE, background=False)(certain(pred), label, valid)
    assert foreground.item() == pytest.approx(sum(expected[1:]) / 2, rel=1e-5)


def test_equals_smp():
    logits, label, valid = batch()
    theirs = SmpLovasz("multiclass", ignore_index=IGNORE)(logits, torch.where(valid, label, IGNORE))
    assert LovaszLoss(TABLE)(logits, label, valid).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_2d_equals_3d_of_depth_one():
    logits, label, valid = batch()
    flat = LovaszLoss(TABLE)(logits, label, valid)
    torch.testing.assert_close(LovaszLoss(TABLE)(logits[..., None], label[..., None], valid[..., None]), flat)


def test_class_without_cells_is_left_out():
    logits, label, valid = batch()
    label = label.clamp(max=1)
    each = [lovasz_of(logits, label, valid, i) for i in range(2)]
    assert LovaszLoss(TABLE)(logits, label, valid).item() == pytest.approx(sum(each) / 2, rel=1e-5)
    alone = torch.zeros_like(label)
    assert LovaszLoss(TABLE, background=False)(logits, alone, valid) == 0


def lovasz_of(logits, label, valid, index):
    prob = logits.softmax(dim=1)[:, index].flatten()[None]
    return lovasz(prob, (label == index).flatten()[None], (valid & (label != IGNORE)).flatten()).item()


def test_region_equals_two_classes_of_which_one_scores_zero():
    table = LabelTable.declare({"background": 0, "a": 1})
    region = LabelTable.declare({"background": 0, "a": [1, 2]}, regions_class_order=[1])
    logits, label, valid = batch(k=1)
    two = torch.cat((torch.zeros_like(logits), logits), dim=1)
    for background in (True, False):
        ours = LovaszLoss(region, background=background)(logits, label, valid)
        theirs = LovaszLoss(table, background=background)(two, label.clamp(max=1), valid)
        torch.testing.assert_close(ours, theirs)


def test_background_of_a_table_without_one_always_counts():
    case = batch()
    expected = LovaszLoss(COVER)(*case)
    assert LovaszLoss(COVER, background=False)(*case) == expected
    assert LovaszLoss(TABLE, background=True)(*case) == expected
    assert LovaszLoss(TABLE, background=False)(*case) != expected


def test_regions_of_a_table_are_read_from_labels():
    logits, label, valid = batch(k=2)
    prob, known = logits.sigmoid().transpose(0, 1).flatten(1), (valid & (label != IGNORE)).flatten()
    target = torch.stack([label > 0, label == 2]).flatten(1)
    expected = lovasz(prob, target, known).mean()
    torch.testing.assert_close(LovaszLoss(REGIONS, background=False)(logits, label, valid), expected)
