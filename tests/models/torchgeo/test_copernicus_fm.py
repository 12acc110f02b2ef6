"""Copernicus-FM beside torchgeo's own."""

import pytest
import torch
from torchgeo.models.copernicusfm import CopernicusFM

from medseg.errors import InputError
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
SPECTRUM = {
    "B2": (492.7, 65), "B3": (559.8, 35), "B4": (664.6, 30), "B8": (832.8, 115), "B12": (2202.4, 180),
    "VV": (5e7, 1e9), "VH": (5e7, 1e9),
}  # fmt: skip
NAN = float("nan")


@pytest.fixture(scope="module")
def upstream():
    torch.manual_seed(5)
    return s.moved(CopernicusFM(**SMALL))


@pytest.fixture(scope="module")
def checkpoint(upstream, tmp_path_factory):
    """As the authors publish it: under ``model``, without the pooled normalisation."""
    state = {k: v for k, v in upstream.state_dict().items() if not k.startswith("fc_norm")}
    path = tmp_path_factory.mktemp("copernicus") / "CopernicusFM_ViT_small.pth"
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("side", [224, 96])
@pytest.mark.parametrize(
    "bands, told, metadata",
    [
        (s.RGB, {}, [NAN, NAN, NAN, NAN]),
        (
            ("B2", "B3", "B4", "B8", "B12"),
            {"place": [13.4, 52.5], "day": 19000, "cell_m": 10},
            [13.4, 52.5, 19000, 0.0256],
        ),
        (("VV", "VH"), {"day": 19000}, [NAN, NAN, 19000, NAN]),
    ],
)
def test_weights_of_the_authors_give_their_features(upstream, checkpoint, side, bands, told, metadata):
    encoder = s.build("copernicus_fm", s.spec(bands, (side, side)), weights=str(checkpoint), **SMALL, **told)
    report = encoder.initialise()
    assert report.share == 1
    assert all(row.name.startswith("patch_embed_variable") for row in report.rows if row.how == "unexpected")
    image = s.noise(encoder, (side, side), batch=2)
    waves, widths = zip(*(SPECTRUM[band] for band in bands), strict=True)

    def run():
        return upstream.forward_features(image, torch.tensor([metadata, metadata]), waves, widths)

    found = s.features(encoder, image)
    s.assert_close(found, s.recorded(upstream.blocks, run))
    with torch.no_grad():
        s.assert_close([upstream.fc_norm(found[-1][:, 1:].mean(dim=1))], [run()])


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("B4", "VH")])
def test_any_bands_on_any_shape(bands):
    s.keeps_its_promises(s.build("copernicus_fm", s.spec(bands), cell_m=10, **SMALL), (32, 48))


def test_bandwidths_are_taken_as_given():
    narrow, wide = (s.build("copernicus_fm", s.spec(), bandwidths_nm=[nm] * 3, **SMALL) for nm in (5, 100))
    image = s.noise(narrow, (32, 48))
    assert not torch.allclose(s.features(narrow, image)[0], s.features(wide, image)[0])


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B2", "DEM")), {}, "DEM has none; name the sensor"),
        (s.spec(("B2", "B10"), sensor="landsat-8"), {}, "channel B10 at 10895.0 nm has no bandwidth; give"),
        (s.spec(), {"bandwidths_nm": [20, 20]}, r"bandwidths_nm=\[20, 20\]: expected one of each of 3 channels"),
        (s.spec(), {"bandwidths_nm": [20, 20, 0.5]}, "expected each from 1 to 1e9"),
        (s.spec(), {"cell_m": 1}, "cell_m=1: got patches of 0.000256 km², .* leave it null"),
        (s.spec(), {"place": [52.5, 113.4]}, r"place=\[52.5, 113.4\]: expected longitude .* latitude"),
        (s.spec(), {"size": "huge"}, "expected one of small, base, large"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("copernicus_fm", about, **SMALL | settings)
