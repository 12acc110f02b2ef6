"""What the user says of weights goes before what their file says."""

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.options import WeightOptions
from medseg.weights.pretrained import Pretrained

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
DATA = (Channel("B4", wavelength_nm=664.6), Channel("B8", wavelength_nm=832.8), Channel("NBR"))


def loaded(kernel, channels=DATA, **options):
    net = nn.Conv2d(len(channels), 4, 3)
    found = Pretrained({"weight": kernel, "bias": torch.zeros(4)}, "net.pth")
    return net, load(net, found, stem="weight", channels=channels, options=WeightOptions(**options))


def test_bands_of_weights_without_metadata():
    kernel = torch.randn(4, 13, 3, 3)
    net, report = loaded(kernel, trained_on=S2)
    assert report.channels == (
        ("B4", "copied from B4, times 4.33"),
        ("B8", "copied from B8, times 4.33"),
        ("NBR", "mean of all 13, times 4.33"),
    )
    torch.testing.assert_close(net.weight[:, 0], kernel[:, 3] * 13 / 3)
    assert not any("do not say" in line for line in report.warnings)


def test_names_with_wavelengths():
    _, report = loaded(torch.randn(4, 2, 3, 3), DATA[:2], trained_on={"red": 665.0, "far": 1600.0})
    assert report.channels[0][1].startswith("copied from red")
    assert report.channels[1][1].startswith("0.82 red + 0.18 far, by wavelength 832.8 nm")


def test_statistics_are_those_that_were_said():
    options = WeightOptions(trained_on=["B4", "B8"], mean=[0.1, 0.3], std=[0.05, 0.1], scale=10000)
    found = options.describe(Pretrained({}, "net.pth", (Channel("x"),), (1.0,), (2.0,), 255.0))
    assert (found.mean, found.std, found.scale) == ((0.1, 0.3), (0.05, 0.1), 10000.0)
    assert [c.name for c in found.channels] == ["B4", "B8"]


def test_statistics_of_other_channels_do_not_stay():
    found = WeightOptions(trained_on=["B4", "B8"]).describe(Pretrained({}, "net.pth", (Channel("x"),), (1.0,), (2.0,)))
    assert (found.mean, found.std) == ((), ())


def test_nothing_said_changes_nothing():
    found = Pretrained({}, "net.pth", (Channel("x"),), (1.0,), (2.0,), 255.0)
    assert WeightOptions().describe(found) == found


def test_another_number_of_channels_than_the_kernel():
    with pytest.raises(InputError, match=r"trained_on has 2 channels, the first kernel of net.pth takes 13"):
        loaded(torch.randn(4, 13, 3, 3), trained_on=["B4", "B8"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adapt": "nearest"}, "adapt=nearest is no strategy"),
        ({"least_share": 90}, "least_share=90: expected a share from 0 to 1"),
        ({"accept": ["stem", "head"]}, "accept=.* expected a list with some of stem, positions, norm, deeper"),
        ({"accept": "stem"}, "accept=stem: expected a list"),
        ({"trained_on": "B4"}, "trained_on=B4: expected a list of channels"),
        ({"trained_on": ["B4", "B8"], "mean": [1.0]}, "mean has 1 values, model.encoder.trained_on has 2"),
        ({"std": [0.0]}, "std=.* expected numbers above 0"),
        ({"mean": [float("nan")]}, "mean=.* expected finite numbers"),
        ({"scale": -1}, "scale=-1: expected numbers above 0"),
        ({"frames": 0}, "frames=0: expected a number of frames"),
    ],
)
def test_settings_that_make_no_sense(options, words):
    with pytest.raises(InputError, match=words):
        WeightOptions(**options)
