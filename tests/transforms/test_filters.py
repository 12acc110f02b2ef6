from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from medseg.errors import InputError
from medseg.transforms.filters import Blur, LowResolution
from medseg.transforms.transform import PatchSpec


@pytest.mark.parametrize("space", [(9, 12), (6, 7, 8)])
def test_blur_widths_are_per_channel_and_axis(make_batch, space):
    batch = make_batch(space, b=2, c=2)
    sigma = np.random.default_rng(0).uniform(0.5, 1, (2, 2, len(space)))
    sigma[0, 1] = 0
    blurred = Blur().apply(batch, {"sigma_cells": sigma}).image
    for i, j in ((0, 0), (1, 0), (1, 1)):
        oracle = gaussian_filter(batch.image[i, j].double().numpy(), sigma[i, j], mode="mirror")
        np.testing.assert_allclose(blurred[i, j].numpy(), oracle, atol=2e-6)
    assert torch.equal(blurred[0, 1], batch.image[0, 1])


def test_low_resolution_leaves_the_coarse_axis_alone(make_batch):
    batch = make_batch((4, 10, 12), b=1)
    bound = LowResolution().bind(PatchSpec((4, 10, 12), (5.0, 1.0, 1.0), 0))
    coarse = bound.apply(batch, {"zoom": np.array([[0.5]])}).image
    slices = batch.image[0].movedim(1, 0)
    down = F.interpolate(slices, size=(5, 6), mode="nearest-exact")
    up = F.interpolate(down, size=(10, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(coarse[0].movedim(1, 0), up)


def test_a_depth_of_one_is_two_dimensions(make_batch):
    flat = make_batch((10, 12), b=1)
    deep = replace(flat, image=flat.image[:, :, None], valid=flat.valid[:, None], label=flat.label[:, None])
    for transform, flat_params, deep_params in (
        (Blur(), {"sigma_cells": np.array([[[0.6, 0.9]]])}, {"sigma_cells": np.array([[[0.7, 0.6, 0.9]]])}),
        (LowResolution(), {"zoom": np.array([[0.6]])}, {"zoom": np.array([[0.6]])}),
    ):
        two, three = transform.apply(flat, flat_params).image, transform.apply(deep, deep_params).image
        torch.testing.assert_close(three[:, :, 0], two)


def test_half_precision(make_batch):
    batch = make_batch((10, 12))
    half = replace(batch, image=batch.image.half())
    for transform, params in (
        (Blur(), {"sigma_cells": np.full((2, 1, 2), 0.8)}),
        (LowResolution(), {"zoom": np.full((2, 1), 0.6)}),
    ):
        changed = transform.apply(half, params).image
        assert changed.dtype == torch.float16
        torch.testing.assert_close(changed.float(), transform.apply(batch, params).image, atol=2e-3, rtol=0)


@pytest.mark.parametrize("space", [(12, 14), (8, 9, 10)])
def test_what_is_not_valid_does_not_bleed_in(make_batch, space):
    batch = make_batch(space)
    batch.valid[:, 2:5, 3:6] = False
    batch.valid[1, :, -1] = False
    batch = replace(batch, image=torch.where(batch.valid[:, None], 1.0, 1e6))
    for transform, params in (
        (Blur(), {"sigma_cells": np.full((2, 1, len(space)), 1.0)}),
        (LowResolution(), {"zoom": np.full((2, 1), 0.6)}),
    ):
        changed = transform.apply(batch, params).image[:, 0]
        torch.testing.assert_close(changed[batch.valid], torch.ones(int(batch.valid.sum())))


def test_blur_beside_what_is_not_valid_by_hand(make_batch):
    # three taps a, b, a of sigma 0.3: without its left neighbour a cell is (b i + a i_right) / (b + a)
    batch = replace(make_batch((1, 4), b=1), image=torch.tensor([[[[9.0, 2.0, 5.0, 1.0]]]]))
    batch.valid[0, 0, 0] = False
    a = np.exp(-0.5 / 0.3**2)
    params = {"sigma_cells": np.array([[[0.0, 0.3]]])}
    blurred = Blur().apply(batch, params).image[0, 0, 0].numpy()
    inner = (1 * 5 + a * (2 + 1)) / (1 + 2 * a)
    np.testing.assert_allclose(blurred, [9.0, (2 + a * 5) / (1 + a), inner, (1 + 2 * a * 5) / (1 + 2 * a)], rtol=1e-5)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"transform\.blur\.channel_p: got p=1\.5"):
        Blur(channel_p=1.5)
    with pytest.raises(InputError, match=r"transform\.low_resolution: got low=0"):
        LowResolution(low=0)
