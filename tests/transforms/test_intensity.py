from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.transforms.intensity import Brightness, Contrast, Gamma, Noise, apply_gamma, gaussian_noise, scale_contrast


def half_valid(space):
    valid = torch.ones(2, *space, dtype=torch.bool)
    valid[:, space[0] // 2 :] = False
    return valid


def test_contrast_by_hand():
    # mean 2 of the valid cells, range [0, 4]; 1.5 (4 - 2) + 2 = 5 is clipped to 4; the last cell is not valid
    maps, valid = torch.tensor([[0.0, 1.0, 3.0, 4.0, 100.0]]), torch.tensor([[True] * 4 + [False]])
    assert scale_contrast(maps, valid, torch.tensor([1.5])).tolist() == [[0.0, 0.5, 3.5, 4.0, 100.0]]
    assert scale_contrast(maps, valid, torch.tensor([0.5])).tolist() == [[1.0, 1.5, 2.5, 3.0, 100.0]]


def test_gamma_is_numpys():
    maps, valid = torch.randn(2, 6, 7), half_valid((6, 7))
    bent = apply_gamma(maps, valid, torch.tensor([0.7, 1.5]))
    for i, gamma in enumerate([0.7, 1.5]):
        cells = maps[i][valid[i]].double().numpy()
        low, high = cells.min(), cells.max()
        oracle = ((cells - low) / (high - low)) ** gamma
        oracle = (oracle - oracle.mean()) / oracle.std() * cells.std() + cells.mean()
        np.testing.assert_allclose(bent[i][valid[i]].numpy(), oracle, atol=1e-5)
        assert torch.equal(bent[i][~valid[i]], maps[i][~valid[i]])


def test_gamma_above_one_darkens_the_middle():
    ramp = torch.linspace(0, 1, 101)[None]
    bent = apply_gamma(ramp, torch.ones_like(ramp, dtype=torch.bool), torch.tensor([1.5]))[0]
    assert (bent.diff() >= 0).all()
    assert bent[-1] - bent[50] > 1.2 * (bent[50] - bent[0])


@pytest.mark.parametrize("change", [scale_contrast, apply_gamma])
def test_constant_and_empty_maps_are_left_alone(change):
    maps = torch.stack([torch.full((4, 4), 3.7), torch.randn(4, 4), torch.zeros(4, 4)])
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[1] = False
    torch.testing.assert_close(change(maps, valid, torch.tensor([1.4, 1.4, 0.8])), maps)


def test_noise_is_normal_and_its_seed_decides():
    noise = gaussian_noise(torch.tensor([5, 6, 5]), (40, 50))
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert noise[:2].mean().item() == pytest.approx(0, abs=0.06)
    assert noise[:2].std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(noise[:1], torch.randn(1, 40, 50, generator=torch.Generator().manual_seed(5)))


def test_noise_is_added_where_it_was_drawn(make_batch):
    batch = make_batch((8, 9), b=2, c=2)
    params = {"std": np.array([[0.0, 0.0], [0.5, 0.5]]), "seed": np.array([[1, 2], [3, 4]])}
    noisy = Noise().apply(batch, params)
    assert torch.equal(noisy.image[0], batch.image[0])
    expected = batch.image[1] + 0.5 * gaussian_noise(torch.tensor([3, 4]), (8, 9))
    torch.testing.assert_close(noisy.image[1], expected)


def test_brightness_multiplies_single_channels(make_batch):
    batch = make_batch((4, 5, 6), b=2, c=2)
    bright = Brightness().apply(batch, {"factor": np.array([[1.0, 0.8], [1.2, 1.0]])})
    expected = batch.image * torch.tensor([[1.0, 0.8], [1.2, 1.0]]).view(2, 2, 1, 1, 1)
    torch.testing.assert_close(bright.image, expected)
    assert torch.equal(bright.label, batch.label)


def test_contrast_and_gamma_use_the_valid_cells_of_their_sample(make_batch):
    batch = make_batch((6, 7), b=2, c=3)
    batch = replace(batch, valid=torch.stack([half_valid((6, 7))[0], torch.ones(6, 7, dtype=torch.bool)]))
    factor = np.array([[0.8, 1.0, 1.2], [1.0, 1.1, 1.0]])
    for transform, change in ((Contrast(), scale_contrast), (Gamma(), apply_gamma)):
        changed = transform.apply(batch, {"factor": factor}).image
        for i, j in ((0, 0), (0, 2), (1, 1)):
            one = change(batch.image[i, j][None], batch.valid[i][None], torch.tensor([factor[i, j]]).float())
            torch.testing.assert_close(changed[i, j], one[0])
        assert torch.equal(changed[0, 1], batch.image[0, 1])


def test_an_absent_channel_stays_zero(make_batch):
    batch = make_batch((8, 9), b=2, c=2)
    batch.present[0, 1] = False
    batch.image[0, 1] = 0
    params = {"std": np.full((2, 2), 0.5), "seed": np.arange(4).reshape(2, 2)}
    noisy = Noise().apply(batch, params).image
    assert (noisy[0, 1] == 0).all()
    assert (noisy[1, 1] != batch.image[1, 1]).all()


def test_inverted_gamma_is_gamma_of_the_negative(make_batch):
    batch, params = make_batch((6, 7)), {"factor": np.full((2, 1), 1.4)}
    negative = replace(batch, image=-batch.image)
    inverted = Gamma(invert=True).apply(batch, params).image
    torch.testing.assert_close(inverted, -Gamma().apply(negative, params).image)
    assert (inverted - Gamma().apply(batch, params).image).abs().max() > 0.1


@pytest.mark.parametrize("transform", [Noise(), Brightness(), Contrast(), Gamma(), Gamma(invert=True)])
def test_half_precision_is_float32_rounded(make_batch, transform):
    batch = make_batch((8, 9))
    batch = replace(batch, image=batch.image.half().float() * 100)  # squares would overflow in half precision
    params = {"factor": np.full((2, 1), 1.2), "std": np.full((2, 1), 0.1), "seed": np.array([[1], [2]])}
    half = transform.apply(replace(batch, image=batch.image.half()), params).image
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), transform.apply(batch, params).image, rtol=2e-3, atol=0.1)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"transform\.gamma: got low=0"):
        Gamma(low=0)
    with pytest.raises(InputError, match=r"transform\.noise: got p=2"):
        Noise(p=2)
