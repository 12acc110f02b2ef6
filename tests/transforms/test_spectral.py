from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.transforms.spectral import ChannelDropout, Gain, Haze
from medseg.transforms.transform import PatchSpec

SENTINEL2_NM = (490.0, 560.0, 665.0, 842.0, 2190.0)


def spec(*wavelengths_nm):
    return PatchSpec((8, 8), (10.0, 10.0), None, wavelengths_nm)


def draw(transform, n=2000, c=5):
    return transform.draw([np.random.default_rng([4, i]) for i in range(n)], (n, c, 8, 8))


def gappy(batch):
    """Some cells are invalid and hold nonsense, and one sample lacks a channel."""
    batch.valid[:, 2:4] = False
    batch.image.masked_fill_(~batch.valid[:, None], 1e6)
    batch.present[1, 0] = False
    batch.image[1, 0] = 0
    return batch


@pytest.mark.parametrize(
    ("transform", "params"),
    [
        (Gain(), {"factor": np.full((2, 3), 1.2), "offset": np.full((2, 3), 0.3)}),
        (Haze(), {"transmission": np.full((2, 3), 0.7)}),
    ],
)
@pytest.mark.parametrize("space", [(8, 8), (5, 6, 7)])
class TestEveryBandChange:
    def test_invalid_cells_and_absent_channels_stay(self, make_batch, transform, params, space):
        batch = gappy(make_batch(space, c=3))
        changed = transform.apply(batch, params)
        hidden = (~batch.valid[:, None]).expand_as(batch.image)
        assert torch.equal(changed.image[hidden], batch.image[hidden])
        assert torch.equal(changed.image[1, 0], batch.image[1, 0])
        assert (changed.image != batch.image)[batch.present][:, batch.valid[0]].all()
        assert torch.equal(changed.label, batch.label)
        assert torch.equal(changed.present, batch.present)

    def test_a_band_that_was_not_drawn_stays(self, make_batch, transform, params, space):
        batch = make_batch(space, c=3)
        neutral = {"factor": 1.0, "offset": 0.0, "transmission": 1.0}
        params = {name: value.copy() for name, value in params.items()}
        for name, value in params.items():
            value[0, 1] = neutral[name]
        changed = transform.apply(batch, params).image
        assert torch.equal(changed[0, 1], batch.image[0, 1])
        assert not torch.equal(changed[0, 0], batch.image[0, 0])

    def test_half_precision_is_float32_rounded(self, make_batch, transform, params, space):
        batch = make_batch(space, c=3)
        half = transform.apply(replace(batch, image=batch.image.half()), params).image
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), transform.apply(batch, params).image, atol=4e-3, rtol=0)


class TestGain:
    def test_by_hand(self, make_batch):
        batch = replace(make_batch((1, 2), b=1, c=2), image=torch.tensor([[[[1.0, -2.0]], [[0.5, 0.0]]]]))
        params = {"factor": np.array([[1.1, 0.8]]), "offset": np.array([[0.2, -0.3]])}
        torch.testing.assert_close(Gain().apply(batch, params).image, torch.tensor([[[[1.3, -2.0]], [[0.1, -0.3]]]]))

    def test_parts_are_as_large_as_told(self):
        params = draw(Gain(p=1, factor=1.1, offset=0.1, common_factor=1.5, common_offset=0.4))
        exponent, offset = np.log(params["factor"]), params["offset"]
        for value, own, common in ((exponent, np.log(1.1), np.log(1.5)), (offset, 0.1, 0.4)):
            assert np.abs(value).max() <= own + common + 1e-12
            assert value.mean() == pytest.approx(0, abs=0.02)
            covariance = np.cov(value.T)  # variances of uniform numbers: a^2 / 3; bands share the common part
            between = covariance[~np.eye(5, dtype=bool)]
            assert between == pytest.approx(common**2 / 3, rel=0.1)
            assert np.diag(covariance) == pytest.approx((common**2 + own**2) / 3, rel=0.1)
        assert np.corrcoef(exponent[:, 0], offset[:, 0])[0, 1] == pytest.approx(0, abs=0.08)

    def test_bands_are_independent_without_a_common_part_and_equal_without_their_own(self):
        own = draw(Gain(p=1, factor=1.3, offset=0.2, common_factor=1, common_offset=0))
        common = draw(Gain(p=1, factor=1, offset=0, common_factor=1.3, common_offset=0.2))
        for name in ("factor", "offset"):
            assert np.corrcoef(own[name].T)[~np.eye(5, dtype=bool)] == pytest.approx(0, abs=0.08)
            assert common[name] == pytest.approx(np.repeat(common[name][:, :1], 5, axis=1))
            assert common[name][:, 0].std() > 0.05

    def test_light_reaches_optical_bands_alone(self):
        gain = Gain(p=1, factor=1, offset=0)
        mixed = draw(gain.bind(spec(490.0, None, 842.0, None, None)))
        assert (mixed["factor"][:, [1, 3, 4]] == 1).all()
        assert (mixed["offset"][:, [1, 3, 4]] == 0).all()
        assert (mixed["factor"][:, [0, 2]] != 1).all()
        for unknown in (spec(), spec(*[None] * 5)):
            assert (draw(gain.bind(unknown))["factor"] != 1).all()

    def test_the_probability_changes_only_who_is_chosen(self):
        often, seldom = draw(Gain(p=1)), draw(Gain(p=0.3))
        chosen = (seldom["factor"] != 1).all(1)
        assert chosen.mean() == pytest.approx(0.3, abs=0.05)
        for name, neutral in (("factor", 1), ("offset", 0)):
            np.testing.assert_array_equal(seldom[name][chosen], often[name][chosen])
            assert (seldom[name][~chosen] == neutral).all()

    def test_settings_are_checked(self):
        with pytest.raises(InputError, match=r"transform\.gain: got factor=0\.9"):
            Gain(factor=0.9)
        with pytest.raises(InputError, match=r"transform\.gain: offset=.*-0\.1"):
            Gain(offset=-0.1)
        with pytest.raises(InputError, match="got an image of 5 channels, wavelengths_nm names 2"):
            draw(Gain().bind(spec(490.0, 842.0)), n=1)


class TestHaze:
    def test_by_hand(self, make_batch):
        # mean 1 of the valid cells, so the haze is 1 + 2 = 3; half of it is let through: 0.5 z + 1.5
        batch = replace(make_batch((1, 4), b=1), image=torch.tensor([[[[0.0, 2.0, 1.0, 50.0]]]]))
        batch.valid[0, 0, 3] = False
        hazy = Haze(airlight=2).apply(batch, {"transmission": np.array([[0.5]])}).image
        torch.testing.assert_close(hazy, torch.tensor([[[[1.5, 2.5, 2.0, 50.0]]]]))

    def test_depth_follows_the_power_of_the_wavelength(self):
        haze = Haze(p=1, low=0.3, high=0.3, low_exponent=1.3, high_exponent=1.3).bind(spec(550.0, 1100.0, None, 275.0))
        depth = -np.log(draw(haze, n=1, c=4)["transmission"][0])
        assert depth == pytest.approx([0.3, 0.3 / 2**1.3, 0, 0.3 * 2**1.3])

    def test_short_wavelengths_lose_most_contrast_and_gain_most_light(self, make_batch):
        batch = make_batch((16, 16), b=4, c=5)
        haze = Haze(p=1).bind(spec(*SENTINEL2_NM))
        hazy = haze.apply(batch, draw(haze, n=4)).image
        contrast = (hazy.std((2, 3)) / batch.image.std((2, 3))).numpy()
        light = (hazy.mean((2, 3)) - batch.image.mean((2, 3))).numpy()
        assert (np.diff(contrast) > 0).all()
        assert (np.diff(light) < 0).all()
        assert light == pytest.approx(2.0 * (1 - contrast), abs=1e-4)

    def test_draws_reach_their_ranges_and_the_probability_changes_only_who_is_chosen(self):
        often, seldom = (
            draw(Haze(p=p, low=0.1, high=0.5).bind(spec(550.0, 1100.0)), c=2)["transmission"] for p in (1, 0.3)
        )
        depth = -np.log(often)
        exponent = np.log2(depth[:, 0] / depth[:, 1])
        assert 0.1 <= depth[:, 0].min() < 0.105
        assert 0.495 < depth[:, 0].max() <= 0.5
        assert 1.3 <= exponent.min() < 1.32
        assert 3.98 < exponent.max() <= 4.0
        chosen = (seldom != 1).all(1)
        assert chosen.mean() == pytest.approx(0.3, abs=0.05)
        np.testing.assert_array_equal(seldom[chosen], often[chosen])
        assert (seldom[~chosen] == 1).all()

    @pytest.mark.parametrize("wavelengths_nm", [(), (None, None)])
    def test_without_wavelengths_it_is_refused_unless_it_is_off(self, wavelengths_nm):
        with pytest.raises(InputError, match=r"no channel has a wavelength.*transform\.haze=null"):
            Haze(p=0.1).bind(spec(*wavelengths_nm))
        off = Haze(p=0).bind(spec(*wavelengths_nm))
        assert (draw(off, n=3, c=2)["transmission"] == 1).all()

    def test_settings_are_checked(self):
        with pytest.raises(InputError, match=r"transform\.haze: got low=-1"):
            Haze(low=-1)
        with pytest.raises(InputError, match=r"transform\.haze: low_exponent=5"):
            Haze(low_exponent=5)
        with pytest.raises(InputError, match="got an image of 5 channels, wavelengths_nm names 2"):
            draw(Haze().bind(spec(490.0, 842.0)), n=1)


class TestBandDrop:
    def test_by_hand(self, make_batch):
        batch = make_batch((4, 5), b=4, c=4)
        batch.present[2, [0, 1]], batch.present[3, :3] = False, False
        rank = np.array([[3, 0, 2, 1]] * 4)
        # at most 3 bands: ceil(0.5 x 3) = 2, those of rank 0 and 1; none; of two, one; of one, none
        dropped = ChannelDropout(most=3).apply(batch, {"rank": rank, "share": np.array([0.5, 0.0, 1.0, 1.0])})
        expected = [[True, False, True, False], [True] * 4, [False, False, True, False], [False] * 3 + [True]]
        assert dropped.present.tolist() == expected
        assert torch.equal(dropped.image[1], batch.image[1])
        assert (dropped.image[0, [1, 3]] == 0).all()
        assert torch.equal(dropped.image[0, [0, 2]], batch.image[0, [0, 2]])
        assert torch.equal(dropped.valid, batch.valid)
        assert batch.present[0].all()  # what came is left as it was

    @pytest.mark.parametrize(
        ("most", "largest"), [(0.5, 2), (0.99, 4), (0.01, 1), (1, 1), (3, 3), (99, 4)]
    )  # 0.5 x 5 = 2.5 is rounded to even
    def test_numbers_of_bands_are_equally_frequent_and_so_are_bands(self, make_batch, most, largest):
        drop = ChannelDropout(p=1, most=most)
        batch = make_batch((1, 1), b=2000, c=5)
        present = drop.apply(batch, draw(drop)).present
        gone = (~present).sum(1).numpy()
        assert np.bincount(gone, minlength=5)[1 : largest + 1] / 2000 == pytest.approx(1 / largest, abs=0.05)
        assert gone.max() == largest
        assert (~present).float().mean(0).numpy() == pytest.approx(gone.mean() / 5, abs=0.05)

    def test_the_probability_changes_only_who_is_chosen(self):
        often, seldom = draw(ChannelDropout(p=1)), draw(ChannelDropout(p=0.3))
        chosen = seldom["share"] > 0
        assert chosen.mean() == pytest.approx(0.3, abs=0.05)
        np.testing.assert_array_equal(seldom["share"][chosen], often["share"][chosen])
        np.testing.assert_array_equal(seldom["rank"], often["rank"])
        assert often["share"].min() > 0

    @pytest.mark.parametrize("most", [0, -1, 1.5, float("nan")])
    def test_settings_are_checked(self, most):
        with pytest.raises(InputError, match=r"transform\.channel_drop: got most=.*whole number of channels"):
            ChannelDropout(most=most)
