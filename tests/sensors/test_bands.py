import pytest

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.bands import SENSORS, bands_of, role_of, roles


def wavelengths(names: list[str], sensor: str | None = None) -> list[float | None]:
    return [band.wavelength_nm for band in bands_of(names, sensor)]


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        ("sentinel-2", {"B1": 442.7, "B2": 492.7, "B8": 832.8, "B8A": 864.7, "B10": 1373.5, "B12": 2202.4}),
        ("landsat-8", {"B2": 482.0, "B5": 864.7, "B8": 589.5, "B10": 10895.0, "SR_B7": 2200.7, "ST_B10": 10895.0}),
        ("landsat-7", {"B4": 835.0, "SR_B4": 835.0, "ST_B6": 11450.0, "B8": 710.0}),
        ("landsat-5", {"SR_B3": 660.0, "SR_B7": 2215.0}),
        ("naip", {"R": 635.0, "G": 555.0, "B": 465.0, "NIR": 845.0}),
        ("hlsl30", {"B05": 864.7, "B06": 1608.9, "B11": 12005.0}),
        ("hlss30", {"B05": 704.1, "B8A": 864.7, "B11": 1613.7}),
    ],
)
def test_wavelengths_of_a_sensor(sensor: str, expected: dict[str, float]) -> None:
    assert wavelengths(list(expected), sensor) == list(expected.values())


def test_spelling_is_kept_and_does_not_matter() -> None:
    names = ["B08", "b8a", "b12", "RED", "nir", "Swir16", "TCI_R", "cloud mask", "B0", "SUB01"]
    bands = bands_of(names, "Sentinel 2")
    assert [band.name for band in bands] == names
    expected = [832.8, 864.7, 2202.4, 664.6, 832.8, 1613.7, 664.6, None, None, None]
    assert [band.wavelength_nm for band in bands] == expected
    assert bands_of(["SR_B04"], "L8") == (Channel("SR_B04", wavelength_nm=654.6),)


@pytest.mark.parametrize("sensor", ["S2", "sentinel2", "SENTINEL-2", "sentinel_2"])
def test_a_sensor_has_short_names(sensor: str) -> None:
    assert wavelengths(["B8"], sensor) == [832.8]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["B4", "B8", "B12"], [664.6, 832.8, 2202.4]),  # only Sentinel-2 has a twelfth band
        (["TCI_R", "TCI_G", "TCI_B", "B8", "B12"], [664.6, 559.8, 492.7, 832.8, 2202.4]),
        (["VV", "VH", "B8A", "red", "DEM"], [None, None, 864.7, 664.6, None]),
        (["SR_B4", "SR_B6"], [654.6, 1608.9]),  # Landsat 8 or 9, which agree; band 6 of 5 and 7 is thermal
        (["B8"], [None]),  # near infrared or panchromatic
        (["B1", "B2", "B3", "B4"], [None] * 4),
        (["SR_B4"], [None]),  # red in Landsat 8, near infrared before
        (["B11"], [None]),
        (["R", "G", "B"], [None] * 3),  # of a photograph
        (["RED", "NIR"], [None] * 2),
        (["B12", "B16"], [None] * 2),  # a sensor that is not in the table
        ([], []),
    ],
)
def test_a_sensor_is_guessed_only_where_it_is_certain(names: list[str], expected: list[float | None]) -> None:
    assert wavelengths(names) == expected


def test_radar_has_no_wavelength_and_the_unit_of_its_name() -> None:
    bands = bands_of(["VV", "vh_db", "HH_linear", "HV", "VV_dBm"], "sentinel-1")
    assert [band.unit for band in bands] == ["", "dB", "linear", "", ""]
    assert {band.wavelength_nm for band in bands} == {None}


def test_unknown_sensors_and_repeated_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"sensor 'sentinel-9' is not known, expected one of sentinel-1, .*naip"):
        bands_of(["B1"], "sentinel-9")
    with pytest.raises(InputError, match=r"bands \['B1'\] come twice in \['B1', 'B2', 'B1'\]"):
        bands_of(["B1", "B2", "B1"])


def test_every_sensor_by_its_own_name() -> None:
    assert [len(bands_of(["X"], sensor)) for sensor in SENSORS] == [1] * len(SENSORS)


@pytest.mark.parametrize(
    ("sensor", "names", "expected"),
    [
        ("sentinel-2", [f"B{n}" for n in range(1, 13)], ["B2", "B3", "B4", "B8", "B11", "B12"]),
        ("landsat-8", [f"B{n}" for n in range(1, 12)], ["B2", "B3", "B4", "B5", "B6", "B7"]),
        ("landsat-7", [f"B{n}" for n in range(1, 9)], ["B1", "B2", "B3", "B4", "B5", "B7"]),
        ("landsat-5", [f"B{n}" for n in range(1, 8)], ["B1", "B2", "B3", "B4", "B5", "B7"]),
        ("naip", ["R", "G", "B", "N"], ["B", "G", "R", "N"]),
    ],
)
def test_roles_are_the_broad_bands(sensor: str, names: list[str], expected: list[str]) -> None:
    """As each sensor's manual lists them; coastal, red edge, panchromatic and thermal bands have none."""
    order = ["BLUE", "GREEN", "RED", "NIR", "SWIR1", "SWIR2"][: len(expected)]
    assert roles(bands_of(names, sensor)) == dict(zip(order, expected, strict=True))


def test_the_broad_near_infrared_comes_before_the_narrow_one() -> None:
    for names in (["B8A", "B8"], ["B8", "B8A"]):
        assert roles(bands_of(names)) == {"NIR": "B8"}
    assert roles(bands_of(["B8A", "B12"])) == {"NIR": "B8A", "SWIR2": "B12"}


def test_pictures_and_computed_channels_play_no_role() -> None:
    assert roles(bands_of(["TCI_R", "B8"])) == {"NIR": "B8"}
    assert role_of(Channel("X", wavelength_nm=660, formula="B4 / 2")) is None
    assert role_of(Channel("R")) is None
