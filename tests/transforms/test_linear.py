import pytest
import torch
from torch.nn import functional as F

from medseg.labels import IGNORE
from medseg.transforms.linear import Corners


@pytest.mark.parametrize(("shape", "window"), [((6, 7), (8, 9)), ((4, 5, 6), (7, 6, 5)), ((3, 1, 4), (5, 1, 6))])
def test_blend_is_torchs_grid_sample(shape, window):
    image = torch.randn(2, *window)
    grid = torch.rand(*shape, len(shape)) * 3 - 1.5  # a third of the positions lie outside
    oracle = F.grid_sample(image[None], grid[None], align_corners=False)[0]
    blended = Corners.around(grid, window).blend(image)
    torch.testing.assert_close(blended.view_as(oracle), oracle, atol=1e-5, rtol=0)


def test_weights_sum_to_one_far_outside_too():
    grid = torch.tensor([[-9.0, 0.3], [1.0, 1.0], [0.2, 50.0]])
    corners = Corners.around(grid, (4, 6))
    torch.testing.assert_close(torch.stack(corners.weight).sum(0), torch.ones(3))
    label, valid = corners.vote(torch.ones(4, 6, dtype=torch.int16), torch.ones(4, 6, dtype=torch.bool))
    assert label.tolist() == [IGNORE, IGNORE, IGNORE]
    assert label.dtype == torch.int16
    assert valid.tolist() == [False, False, False]


def test_vote_is_the_argmax_of_blended_classes():
    label, valid = torch.randint(-1, 5, (6, 7, 8)), torch.rand(6, 7, 8) < 0.8
    grid = torch.rand(9, 9, 9, 3) * 2 - 1
    corners = Corners.around(grid, label.shape)
    share = corners.blend(torch.stack([label == k for k in range(5)]).float())
    unknown = 1 - share.sum(0)
    oracle = torch.where(unknown > share.amax(0), IGNORE, share.argmax(0))
    voted, known = corners.vote(label, valid)
    assert (voted == oracle).float().mean() > 0.99  # ties may fall by rounding
    assert torch.equal(known, corners.blend(valid[None].float())[0] > 0.999)
