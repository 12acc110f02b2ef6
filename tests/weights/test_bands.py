import pytest

from medseg.sample import Channel
from medseg.sensors.bands import SENSORS, bands_of
from medseg.weights.bands import colour, partners, with_wavelengths


def channels(*names):
    return [Channel(name) for name in names]


@pytest.mark.parametrize(
    "one, other",
    [("B04", "B4"), ("B4", "red"), ("R", "RED"), ("b02", "Blue"), ("SWIR_1", "B11"), ("SWIR16", "swir1"),
     ("NIR_NARROW", "B8A"), ("nir", "B08"), ("t1w", "T1w"), ("SR_B4", "B4"), ("Coastal", "B01"),
     ("VV_dB", "vv"), ("VH-linear", "VH_dB")],
)  # fmt: skip
def test_spellings_of_one_band(one, other):
    assert partners(channels(one), channels(other)) == [0]
    assert partners(channels(other), channels(one)) == [0]


@pytest.mark.parametrize(
    "one, other", [("B8", "B8A"), ("VV_dB", "VH_dB"), ("B1", "B11"), ("T1", "T2"), ("R", "G"), ("NIR", "RE1")]
)
def test_different_bands(one, other):
    assert partners(channels(one), channels(other)) == [None]


def test_wavelengths_overrule_names():
    panchromatic, infrared = bands_of(["B8"], "landsat-8"), bands_of(["B8"], "sentinel-2")
    assert partners(panchromatic, infrared) == [None]
    coastal, blue = bands_of(["B1"], "sentinel-2"), bands_of(["B1"], "landsat-5")  # 443 and 485 nm
    assert partners(coastal, blue) == [None]
    assert partners(channels("B8"), infrared) == [0], "an unknown wavelength does not contradict"


@pytest.mark.parametrize("sensor", [s for s in SENSORS if s not in ("sentinel-1",)])
def test_colours_are_the_same_in_every_sensor(sensor):
    photograph = with_wavelengths(channels("R", "G", "B"))
    assert partners(photograph, bands_of(["BLUE", "GREEN", "RED"], sensor)) == [2, 1, 0]


def test_codes_of_landsat_are_not_read_as_those_of_sentinel():
    # B4 of Landsat 5 is infrared (830 nm), its red is B3 (660 nm).
    assert [colour(c) for c in bands_of(["B3", "B4"], "landsat-5")] == [None, None]
    assert partners(channels("R", "G", "B"), bands_of(["B4"], "landsat-5")) == [None]


def test_same_spelling_comes_before_same_colour():
    assert partners(channels("RED", "B4"), channels("B04", "R")) == [1, 0]


def test_wavelengths_of_photographs_only():
    assert [c.wavelength_nm for c in with_wavelengths(channels("blue", "GREEN", "r"))] == [470, 550, 640]
    for names in (("R", "G", "B", "N"), ("R", "G"), ("T1", "T2", "PD"), ("R", "G", "red")):
        assert with_wavelengths(channels(*names)) == tuple(channels(*names))
    told = bands_of(["B2", "B3", "B4"], "sentinel-2")
    assert with_wavelengths(told) == tuple(told)
