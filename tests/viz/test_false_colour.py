import numpy as np
import pytest

from medseg.sample import Channel
from medseg.viz import false_colour as module
from medseg.viz.false_colour import NO_DATA, Band, Named, composite, reduced, stretched

RAMP = np.linspace(0, 1, 10_000).reshape(100, 100).astype(np.float32)


def coded(n):
    """Channels that can be told apart after stretching: only channel i is bright in row i."""
    image = np.zeros((n, n, 50), dtype=np.float32)
    for i in range(n):
        image[i, i] = 1000 * (i + 1)
    return image


def order(channels):
    """Which channels are shown as red, green and blue."""
    shown = composite(coded(len(channels)), channels)
    return [int(shown[:, 0, colour].argmax()) for colour in range(3)]


def bands(**wavelengths):
    return [Channel(name, wavelength_nm=nm) for name, nm in wavelengths.items()]


SENTINEL = bands(B2=492.7, B3=559.8, B4=664.6, B8=832.8, B8A=864.7, B11=1613.7, B12=2202.4)


@pytest.mark.parametrize(
    "channels,expected",
    [
        (SENTINEL, [6, 3, 2]),  # SWIR2, the near infrared nearest to 840 nm, red
        (SENTINEL[:5], [3, 2, 1]),  # near infrared, red, green
        (SENTINEL[:3], [2, 1, 0]),  # true colour, whatever the order of the file
        (bands(blue=None, green=None, red=None), [2, 1, 0]),
        ([Named("TCI_R"), Named("TCI_G"), Named("TCI_B"), Named("B8"), Named("B12")], [0, 1, 2]),
        ([Named(n) for n in ("NIR", "R", "G", "B")], [0, 1, 2]),
        ([Named(n) for n in ("band 1", "band 2", "band 3")], [0, 1, 2]),
        ([Channel("NBR", formula="(B8 - B12) / (B8 + B12)"), *SENTINEL[:3]], [3, 2, 1]),
        ([], [0, 0, 0]),
    ],
)
def test_bands_are_chosen_by_what_they_are(channels, expected):
    assert all(isinstance(c, Band) for c in channels)
    if channels:
        assert order(channels) == expected


def test_other_wavelengths_are_the_longest_a_middle_and_the_shortest_one():
    assert order(bands(B3=560.0, B8=842.0, B11=1610.0)) == [2, 1, 0]


def test_channels_that_say_nothing_of_colour_are_grey():
    for channels in (
        [Named("T1"), Named("T2"), Named("FLAIR")],
        bands(B1=443.0, B5=704.1),
        [Named("VV"), Named("DEM")],
    ):
        shown = composite(coded(len(channels)), channels)
        assert (shown == shown[..., :1]).all()
        assert shown[:, 0, 0].argmax() == 0
    assert (composite(RAMP[None], ()) == composite(RAMP[None], [Named("B8")])).all()
    unnamed = composite(coded(5), ())
    assert (unnamed == unnamed[..., :1]).all()


def test_stretch_between_percentiles_of_the_valid_cells():
    image = np.stack([RAMP * 3000, RAMP * 50 - 7, RAMP])
    valid = RAMP <= 0.5
    shown = composite(image, SENTINEL[:3], valid).astype(int)
    at = [int(np.searchsorted(RAMP.ravel(), share)) for share in (0.005, 0.25, 0.4999)]
    values = shown.reshape(-1, 3)[at]
    assert values[0].tolist() == [0, 0, 0]
    assert values[1] == pytest.approx(127, abs=2)
    assert values[2].tolist() == [255, 255, 255]
    assert (shown[~valid] == NO_DATA).all()


def test_nothing_of_an_invalid_cell_is_seen():
    image, valid = np.stack([RAMP] * 3), np.ones((100, 100), dtype=bool)
    valid[3, 4] = False
    before = composite(image, SENTINEL[:3], valid)
    for value in (1e9, np.nan, -np.inf):
        image[:, 3, 4] = value
        np.testing.assert_array_equal(composite(image, SENTINEL[:3], valid), before)
    np.testing.assert_array_equal(composite(image, SENTINEL[:3]), before), "what is not finite is not valid"


def test_photographs_stay_as_they_are():
    photo = np.random.default_rng(0).integers(20, 90, (3, 8, 9)).astype(np.uint8)
    rgb = [Named(n) for n in "RGB"]
    for image in (photo, photo.astype(np.float32)):
        np.testing.assert_array_equal(composite(image, rgb), np.moveaxis(photo, 0, -1))
    np.testing.assert_array_equal(composite(photo, ()), np.moveaxis(photo, 0, -1))
    normalised = composite((photo - 50.0) / 20, rgb)
    assert (normalised.min(), normalised.max()) == (0, 255)


@pytest.mark.parametrize("names", [("VV", "VH"), ("VH_dB", "VV_dB"), ("s1_HH", "s1_HV")])
def test_radar_worked_by_hand(names):
    co, cross = np.array([[-5.0, -10, -20]]), np.array([[-12.0, -20, -20]])
    first_is_co = names[0] in ("VV", "s1_HH")
    image = np.stack([co, cross] if first_is_co else [cross, co]).astype(np.float32)
    red, green, blue = np.moveaxis(composite(image, [Named(n) for n in names]), -1, 0)
    assert red.argmax() == green.argmax() == 0
    assert blue.tolist() == [[int(255 * (7 - 0.28) / (9.88 - 0.28)), 255, 0]]  # differences of 7, 10 and 0 dB
    linear = composite(10 ** (image / 10), [Named(n) for n in names])[..., 2]
    assert (linear.argmax(), linear.argmin()) == (1, 2)


def test_all_invalid_and_constant():
    assert (composite(RAMP[None], (), RAMP > 2) == NO_DATA).all()
    assert (composite(np.full((1, 3, 3), 7.0, np.float32)) == 0).all()
    assert (stretched(RAMP, RAMP > 2) == 0).all()


def test_large_arrays_are_sampled(monkeypatch):
    whole = stretched(RAMP, RAMP >= 0)
    monkeypatch.setattr(module, "_ENOUGH", 500)
    assert stretched(RAMP, RAMP >= 0) == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize("shape,expected", [((1200, 5), (1200, 5)), ((1201, 5), (601, 3)), ((100, 3700), (25, 925))])
def test_reduced_keeps_places(shape, expected):
    array = np.broadcast_to(np.arange(shape[1]), shape)
    smaller = reduced(array)
    assert smaller.shape == expected
    step = -(-max(shape) // 1200)
    assert smaller[0].tolist() == list(range(0, shape[1], step))
    assert reduced(np.stack([array, array])).shape == (2, *expected)
