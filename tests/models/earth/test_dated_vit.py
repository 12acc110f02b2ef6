"""OlmoEarth and Galileo on the dates of a time series: which are there, when they were, and what is static."""

from dataclasses import replace

import pytest
import torch

from medseg.models.earth.dates import month_of
from medseg.models.encoders.encoder import check_features
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 4, "patch": 4}
FAMILIES = [("olmoearth", {"version": v}) for v in ("v1", "v1.1", "v1.2")] + [("galileo", {})]
BANDS = ("B4", "B8", "VV")
JULY = 19905  # 2024-07-01


def of_dates(dates, bands=BANDS):
    one = s.spec(bands, (8, 12))
    return replace(one, in_channels=len(bands) * dates, channels=one.channels * dates, dates=dates)


def built(family, settings, dates, bands=BANDS):
    return s.moved(s.build(family, of_dates(dates, bands), **SMALL, **settings))


def image_of(dates, bands=BANDS):
    return torch.randn(2, len(bands) * dates, 8, 12, generator=torch.Generator().manual_seed(1))


def run(encoder, image, present=None, days=None):
    with torch.no_grad():
        return encoder(image, None if present is None else torch.tensor([present] * 2), torch.tensor([days] * 2))


@pytest.mark.parametrize("family, settings", FAMILIES)
def test_what_stands_in_a_missing_date_does_not_matter(family, settings):
    encoder, image = built(family, settings, 3), image_of(3)
    days = [JULY, JULY + 100, JULY + 200]
    other = image.clone()
    other[:, 3:6] = 9.0
    given, changed = (run(encoder, one, [True, False, True], days) for one in (image, other))
    s.assert_close(given, changed)
    assert not torch.allclose(given[-1], run(encoder, image, [True, True, True], days)[-1])


@pytest.mark.parametrize("family, settings", FAMILIES)
def test_a_series_of_one_date_is_that_date(family, settings):
    encoder, single = built(family, settings, 2), built(family, settings, 1)
    single.load_state_dict(encoder.state_dict())
    image = image_of(2)
    with torch.no_grad():
        expected = single(image[:, :3])
    s.assert_close(run(encoder, image, [True, False], [JULY, JULY + 50]), expected)


@pytest.mark.parametrize("family, settings", FAMILIES)
def test_month_and_order_of_dates_matter(family, settings):
    encoder, image = built(family, settings, 2), image_of(2)
    first = run(encoder, image, None, [JULY, JULY + 30])[-1]
    assert not torch.allclose(first, run(encoder, image, None, [JULY, JULY + 150])[-1], atol=1e-5)
    swapped = torch.cat((image[:, 3:], image[:, :3]), dim=1)
    assert not torch.allclose(first, run(encoder, swapped, None, [JULY, JULY + 30])[-1], atol=1e-5)


def test_version_1_2_sees_days_within_a_month():
    encoder, image = built("olmoearth", {"version": "v1.2"}, 2), image_of(2)
    near, far = (run(encoder, image, None, [JULY, JULY + n])[-1] for n in (5, 25))
    assert not torch.allclose(near, far, atol=1e-6)


def test_terrain_is_that_of_the_first_date_that_is_there():
    bands = ("B4", "slope")
    encoder, image = built("galileo", {}, 3, bands), image_of(3, bands)
    days, present = [JULY, JULY + 30, JULY + 60], [False, True, True]
    given = run(encoder, image, present, days)
    for slot, matters in ((1, False), (3, True), (5, False)):
        other = image.clone()
        other[:, slot] += 1.0
        assert torch.allclose(run(encoder, other, present, days)[-1], given[-1]) != matters


@pytest.mark.parametrize("family, settings", FAMILIES)
def test_features_are_as_declared(family, settings):
    encoder = built(family, settings, 3)
    check_features(encoder, 9, (8, 12))
    assert {tuple(f.shape) for f in run(encoder, image_of(3), None, [1, 2, 3])} == {(2, 6, 32)}


def test_months_are_those_of_the_calendar():
    days = torch.tensor([0, 31, 58, 59, 364, 19782, 19783, 20453])
    assert month_of(days).tolist() == [1, 2, 2, 3, 12, 2, 3, 12]
