import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from medseg.weights.inflate import inflate, new_axis


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.sampled_from([1, 3, 4]),
    st.integers(0, 99),
)  # fmt: skip
def test_centre_gives_the_slices_response_everywhere(size, stride, axis, padding, plane, seed):
    rng = torch.Generator().manual_seed(seed)
    kernel, image = torch.randn(4, 2, plane, plane, generator=rng), torch.randn(1, 2, 7, 6, generator=rng)
    padding = min(padding, (size - 1) // 2)
    flat = functional.conv2d(image, kernel, stride=stride)
    volume = image.unsqueeze(axis + 2).repeat_interleave(8, axis + 2)
    pads = [0, 0, 0]
    pads[axis] = padding
    thick = functional.conv3d(volume, inflate(kernel, size, axis=axis), stride=stride, padding=pads)
    assert torch.allclose(thick, flat.unsqueeze(axis + 2).expand_as(thick), atol=1e-5)


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 99))
def test_mean_gives_it_off_the_padding(size, axis, seed):
    rng = torch.Generator().manual_seed(seed)
    kernel, image = torch.randn(4, 2, 3, 3, generator=rng), torch.randn(1, 2, 7, 6, generator=rng)
    flat = functional.conv2d(image, kernel)
    volume = image.unsqueeze(axis + 2).repeat_interleave(8, axis + 2)
    thick = functional.conv3d(volume, inflate(kernel, size, how="mean", axis=axis))
    assert torch.allclose(thick, flat.unsqueeze(axis + 2).expand_as(thick), atol=1e-5)


def test_one_cell_is_the_kernel_itself():
    kernel = torch.randn(2, 3, 3, 3)
    for how in ("centre", "mean"):
        assert torch.equal(inflate(kernel, 1, how=how)[..., 0], kernel)


@pytest.mark.parametrize("size, middle", [(2, 1), (3, 1), (4, 2), (16, 8)])
def test_centre_is_in_the_middle(size, middle):
    thick = inflate(torch.ones(1, 1, 2, 2), size)
    assert thick.shape == (1, 1, 2, 2, size)
    assert thick[0, 0, 0, 0].nonzero().tolist() == [[middle]]


def test_default_is_the_axis_of_slices():
    assert new_axis((3, 3), (3, 3, 3)) == 2
    assert new_axis((3, 3), (3, 3, 3), axis=0) == 0
    assert new_axis((3, 5), (3, 1, 5)) == 1
    assert new_axis((3, 5), (3, 5, 3)) == 2
    assert new_axis((3, 3), (3, 3)) is None
    assert new_axis((3, 3, 3), (3, 3, 3)) is None
