import pytest
import torch

from medseg.errors import InputError
from medseg.losses.skeleton_recall import SkeletonRecallLoss, skeleton_recall, tubes
from tests.losses.drawn import ONE, certain, everywhere, mask

BAR = mask(*["." * 16] * 3, *["." + "#" * 14 + "."] * 5, *["." * 16] * 3)


def test_tube_is_around_the_centreline_and_inside_the_label():
    line, tube, wide = (tubes(BAR[:, None].bool(), radius)[0, 0] for radius in (0, 1, 9))
    assert line[5].sum() == line.sum()
    assert tube[4:7].sum() == tube.sum() >= 3 * line.sum()
    assert torch.equal(wide, BAR[0].bool())


def test_worked_by_hand():
    # A tube of 6 cells of which 2 have probability 1 and 1 has 1/2: (2.5 + 1) / (6 + 1).
    tube = mask(".######.")[:, None].bool()
    prob = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0])[None, None, None]
    assert skeleton_recall(prob, tube).item() == pytest.approx(3.5 / 7)
    assert skeleton_recall(prob, tube & False).item() == 1.0


def test_a_gap_costs_and_a_thinner_or_thicker_tube_does_not():
    loss = SkeletonRecallLoss(ONE, radius=0)
    gap, thin = BAR.clone(), BAR.clone()
    gap[..., 7:9] = 0
    thin[:, :5] = thin[:, 6:] = 0
    of_gap, of_thin, of_same, of_all = (
        loss(certain(p), BAR, everywhere(BAR)).item() for p in (gap, thin, BAR, torch.ones_like(BAR))
    )
    length = tubes(BAR[:, None].bool(), 0).sum().item()
    assert (of_thin, of_same, of_all) == pytest.approx((0, 0, 0), abs=1e-6)
    assert of_gap == pytest.approx(2 / (length + 1))


def test_gradient_is_on_the_tube_alone():
    logits = torch.zeros(1, 2, *BAR.shape[1:], requires_grad=True)
    value = SkeletonRecallLoss(ONE, radius=1)(logits, BAR, everywhere(BAR))
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.equal(gradient[0, 1] < 0, tubes(BAR[:, None].bool(), 1)[0, 0])


@pytest.mark.parametrize("settings", [{"radius": -1}, {"radius": 0.5}, {"smooth": 0.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(InputError, match="loss skeleton_recall"):
        SkeletonRecallLoss(ONE, **settings)
