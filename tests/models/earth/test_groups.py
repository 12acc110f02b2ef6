"""Groups of bands, and what they have in common in files and data."""

import pytest

from medseg.errors import InputError
from medseg.models.earth.groups import Group, assign, group, of_groups
from medseg.sample import Channel
from medseg.sensors.bands import bands_of

TABLE = {"B2": (1.0, 2.0), "B4": (3.0, 4.0), "B11": (5.0, 6.0)}
GROUPS = [
    group("visible", bands_of(["B2", "B4"], "sentinel-2"), TABLE),
    group("swir", bands_of(["B11"], "sentinel-2"), TABLE),
    Group("radar", (Channel("VV"), Channel("VH"))),
]


def test_statistics_are_those_of_each_band():
    assert (GROUPS[0].mean, GROUPS[0].std) == ((1.0, 3.0), (2.0, 4.0))
    both = of_groups(GROUPS, ["swir", "visible"])
    assert [c.name for c in both.channels] == ["B2", "B4", "B11"]
    assert (both.mean, both.std) == ((1.0, 3.0, 5.0), (2.0, 4.0, 6.0))


@pytest.mark.parametrize(
    "channels, expected",
    [
        ([Channel("blue"), Channel("swir16")], {"visible": (0,), "swir": (1,)}),
        ([Channel("HV"), Channel("B04"), Channel("vh_dB")], {"visible": (1,), "radar": (0, 2)}),
        ([Channel("B10", wavelength_nm=1373.5), Channel("x", wavelength_nm=560.0)], {"visible": (1,), "swir": (0,)}),
        ([Channel("x", wavelength_nm=1613.7 * 1.29)], {"swir": (0,)}),
    ],
)
def test_channels_by_name_kind_and_wavelength(channels, expected):
    assert assign(GROUPS, channels, "drawn") == expected


@pytest.mark.parametrize("channel", [Channel("DEM"), Channel("thermal", wavelength_nm=10895.0), Channel("B10")])
def test_other_channels_are_refused_by_name(channel):
    with pytest.raises(InputError, match=f"encoder drawn has no kind of token for {channel.name}; it takes B2, B4, "):
        assign(GROUPS, [Channel("red"), channel], "drawn")


def test_radar_needs_a_group_of_radar():
    with pytest.raises(InputError, match="no kind of token for VV"):
        assign(GROUPS[:2], [Channel("VV")], "drawn")
