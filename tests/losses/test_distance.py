import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from medseg.errors import InputError
from medseg.losses.distance import checked_spacing, signed_distance
from tests.losses.drawn import everywhere, mask


def test_signed_distance_equals_scipy_in_unequal_cells():
    masks = torch.rand(2, 2, 7, 9, 6, generator=torch.Generator().manual_seed(0)) > 0.7
    ours = signed_distance(masks, everywhere(masks[:, 0]), (1.5, 1.0, 0.5))
    for place in np.ndindex(2, 2):
        cells = masks[place].numpy()
        out, inside = (distance_transform_edt(m, sampling=(1.5, 1.0, 0.5)) for m in (~cells, cells))
        np.testing.assert_allclose(ours[place].numpy(), out - inside, rtol=1e-5)


def test_no_boundary_no_distance():
    masks = torch.stack([torch.zeros(4, 5), torch.ones(4, 5)]).bool()[None]
    assert signed_distance(masks, everywhere(masks[:, 0])).abs().sum() == 0


def test_cells_that_do_not_count_are_no_boundary():
    inside = mask("..##..##")[:, None].bool()
    counted = torch.tensor([[[True, True, True, True, False, False, True, True]]])
    assert signed_distance(inside, counted).flatten().tolist() == [2, 1, -1, -2, 0, 0, -5, -6]


def test_spacing_that_is_no_length_is_refused():
    assert checked_spacing([1, 2.5], loss="boundary") == (1.0, 2.5)
    for wrong in ([1.0, 0.0], [-1.0]):
        with pytest.raises(InputError, match=r"loss boundary: spacing: got .*expected a positive number for each axis"):
            checked_spacing(wrong, loss="boundary")
    with pytest.raises(InputError, match="got 2 numbers, expected one for each of 3 axes"):
        signed_distance(torch.zeros(1, 1, 2, 2, 2).bool(), torch.ones(1, 2, 2, 2).bool(), (1.0, 2.0))
