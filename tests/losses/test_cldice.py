import numpy as np
import pytest
import torch
from monai.losses.cldice import soft_skel
from scipy import ndimage

from medseg.errors import InputError
from medseg.losses.cldice import ClDiceLoss, cldice, soft_skeleton
from tests.losses.drawn import ONE, certain, everywhere, mask

BAR = mask("........", ".######.", ".######.", ".######.", "........")
LINE = mask("........", "........", "..####..", "........", "........")


def test_skeleton_of_a_drawn_bar():
    skeleton = soft_skeleton(BAR[:, None].float(), everywhere(BAR), 2)[0, 0]
    assert (skeleton * LINE[0] == LINE[0]).all()
    assert (skeleton * (1 - BAR[0]) == 0).all()
    assert skeleton.sum() < BAR.sum() / 2


def oracle(image, iterations):
    """The same with scipy's grey morphology, whose edges repeat the nearest cell."""
    cross, cube = ndimage.generate_binary_structure(image.ndim, 1), np.ones((3,) * image.ndim)
    erode = lambda x: ndimage.grey_erosion(x, footprint=cross, mode="nearest")  # noqa: E731
    ridge = lambda x: np.maximum(x - ndimage.grey_dilation(erode(x), footprint=cube, mode="nearest"), 0)  # noqa: E731
    skeleton = ridge(image)
    for _ in range(iterations):
        image = erode(image)
        skeleton = skeleton + np.maximum(ridge(image) * (1 - skeleton), 0)
    return skeleton


@pytest.mark.parametrize("shape", [(11, 9), (7, 8, 6)])
def test_skeleton_equals_numpy_and_monai(shape):
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    ours = soft_skeleton(image, everywhere(image[:, 0]), 3)
    np.testing.assert_allclose(ours[0, 0].numpy(), oracle(image[0, 0].numpy(), 3), atol=1e-6)
    torch.testing.assert_close(ours, soft_skel(image, 3))


def test_worked_by_hand():
    # A line of 6 cells of which 4 are predicted: all of the predicted skeleton is right, 4 of 6 cells are covered.
    line, part = mask("........", ".######.", "........"), mask("........", ".####...", "........")
    score = cldice(part[:, None].float(), line[:, None].bool(), everywhere(line), smooth=1e-9)
    assert score.item() == pytest.approx(2 * (4 / 6) / (1 + 4 / 6))
    smoothed = cldice(part[:, None].float(), line[:, None].bool(), everywhere(line), smooth=1.0)
    assert smoothed.item() == pytest.approx(2 * (5 / 7) / (1 + 5 / 7))


def test_a_gap_costs_more_than_a_thinner_tube():
    gap = BAR.clone()
    gap[..., 4] = 0
    thin = BAR * mask("........", "........", ".######.", "........", "........")
    loss = ClDiceLoss(ONE)
    of_gap, of_thin, of_same = (loss(certain(p), BAR, everywhere(BAR)).item() for p in (gap, thin, BAR))
    assert of_same == pytest.approx(0.0, abs=1e-6)
    assert of_gap > of_thin + 0.02


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"iterations": 1.5}, {"smooth": 0.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss cldice"):
        ClDiceLoss(ONE, **settings)
