import pytest
import torch

from medseg.losses.features import as_maps, to_shape
from medseg.models.encoders.encoder import Feature


def test_maps_stay_and_tokens_take_their_grid():
    maps, tokens = torch.randn(2, 3, 4, 6), torch.randn(2, 1 + 6, 5)
    declared = [Feature(3, (2, 2)), Feature(5, (4, 4), tokens=True, prefix=1)]
    first, second = as_maps([maps, tokens], declared, (8, 12))
    assert torch.equal(first, maps)
    assert second.shape == (2, 5, 2, 3)
    assert torch.equal(second[:, :, 1, 2], tokens[:, 1 + 5])


def test_other_tokens_than_declared_are_a_defect():
    with pytest.raises(ValueError, match=r"got 5 tokens, expected 0 and a grid of \[2, 3\]"):
        as_maps([torch.zeros(1, 5, 2)], [Feature(2, (4, 4), tokens=True)], (8, 12))


def test_interpolation_covers_the_same_extent():
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 4)
    finer = to_shape(ramp, (8, 8))[0, 0, :, 0]
    assert finer.tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert to_shape(ramp, (4, 4)) is ramp
