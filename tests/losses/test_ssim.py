import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.ssim import SSIMLoss, ssim
from tests.losses.test_invariants import CLASSES

TABLE = LabelTable.declare({"background": 0, "a": 1})


def maps(shape):
    rng = torch.Generator().manual_seed(0)
    prob = torch.rand(2, 1, *shape, generator=rng)
    target = torch.rand(2, 1, *shape, generator=rng) > 0.5
    return prob, target, torch.ones(2, *shape, dtype=torch.bool)


@pytest.mark.parametrize("shape, radius", [((15, 14), 5), ((8, 7, 9), 3)])
def test_inside_it_equals_monai(shape, radius):
    prob, target, counted = maps(shape)
    ndim, size = len(shape), 2 * radius + 1
    theirs, _ = compute_ssim_and_cs(
        prob, target.float(), spatial_dims=ndim, kernel_size=[size] * ndim, kernel_sigma=[1.5] * ndim, data_range=1.0,
        kernel_type="gaussian",
    )  # fmt: skip
    inside = (..., *[slice(radius, -radius)] * ndim)
    torch.testing.assert_close(ssim(prob, target, counted, radius=radius)[inside], theirs, rtol=1e-3, atol=1e-4)


def test_worked_by_hand():
    # Windows of three cells that weigh alike; p = (1/2, 1/2, 0), g = (1, 0, 0).
    prob, target = torch.tensor([[[0.5, 0.5, 0.0]]]), torch.tensor([[[True, False, False]]])
    value = ssim(prob, target, torch.ones(1, 3).bool(), radius=1, sigma=1e4)[0, 0, 1].item()
    covariance, variances = 1 / 6 - 1 / 9, (1 / 6 - 1 / 9) + (1 / 3 - 1 / 9)
    expected = (2 / 9 + 1e-4) * (2 * covariance + 9e-4) / ((2 / 9 + 1e-4) * (variances + 9e-4))
    assert value == pytest.approx(expected, rel=1e-4)


def test_a_window_is_that_of_its_counted_cells():
    """The same values, with cells between them that do not count, and those at a border."""
    prob, target, counted = maps((6, 6))
    counted[:, :, 3:] = False
    narrow = ssim(prob[..., :3], target[..., :3], counted[..., :3])
    torch.testing.assert_close(ssim(prob, target, counted)[..., :3], narrow)


def test_equal_maps_are_alike_and_opposite_ones_unlike():
    label = torch.randint(0, 2, (1, 9, 9), generator=torch.Generator().manual_seed(0))
    valid = label >= 0
    logits = torch.nn.functional.one_hot(label, 2).movedim(-1, 1) * 200.0
    assert SSIMLoss(TABLE)(logits, label, valid).item() == pytest.approx(0, abs=1e-5)
    assert SSIMLoss(TABLE)(-logits, label, valid).item() > 1.5


def test_an_error_at_a_boundary_costs_other_than_one_inside():
    """Cross-entropy of cells does not tell them apart."""
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[:, :, :16] = 1
    sure = torch.nn.functional.one_hot(label, 2).movedim(-1, 1) * 20.0 - 10

    def cost(columns):
        logits = sure.clone()
        logits[..., columns] = 0
        return SSIMLoss(TABLE)(logits, label, label >= 0).item()

    assert abs(cost([15, 16]) / cost([4, 5]) - 1) > 0.1


def test_classes_leave_the_background_out():
    logits = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    label = torch.randint(0, 4, (1, 6, 6), generator=torch.Generator().manual_seed(1))
    label[0, 0] = IGNORE
    counted = label != IGNORE
    target = torch.stack([label == k for k in (1, 2, 3)], dim=1)
    similar = ssim(logits.softmax(dim=1)[:, 1:], target & counted[:, None], counted)
    expected = 1 - similar.movedim(1, -1)[counted].mean()
    torch.testing.assert_close(SSIMLoss(CLASSES)(logits, label, counted), expected)


@pytest.mark.parametrize("settings", [{"radius": 0}, {"sigma": 0.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss ssim: expected a radius"):
        SSIMLoss(CLASSES, **settings)
