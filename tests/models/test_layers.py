import pytest
import torch
from timm.layers import LayerNorm2d

from medseg.models.layers import CellNorm


def test_cells_are_normalised_as_in_timm() -> None:
    ours, theirs = CellNorm(6), LayerNorm2d(6, eps=1e-5)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.uniform_(1, 2))
        theirs.bias.copy_(ours.bias.uniform_(-1, 1))
    feature = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(ours(feature), theirs(feature))


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4)])
def test_a_cell_does_not_know_the_others(shape: tuple[int, ...]) -> None:
    norm, feature = CellNorm(6), torch.randn(2, 6, *shape)
    other = torch.randn_like(feature)
    other[1, :, 1, 2] = feature[1, :, 1, 2]
    assert torch.equal(norm(feature)[1, :, 1, 2], norm(other)[1, :, 1, 2])
    assert norm(feature).shape == feature.shape
