"""Presto: files in the format of the publication; each cell by itself, over dates and groups of bands."""

from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "num_heads": 4}
GROUPS = {
    "S1": 2, "S2_RGB": 3, "S2_Red_Edge": 3, "S2_NIR_10m": 1, "S2_NIR_20m": 1, "S2_SWIR": 2,
    "ERA5": 2, "SRTM": 2, "NDVI": 1,
}  # fmt: skip
TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def shapes(width: int = 32) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file: the encoder, and the decoder of the pretraining."""
    quarter = width // 4
    found = {
        "encoder.pos_embed": (1, 24, 2 * quarter), "encoder.month_embed.weight": (12, quarter),
        "encoder.channel_embed.weight": (10, quarter), "encoder.dw_embed.weight": (10, width),
        "decoder.pos_embed": (1, 24, 2 * quarter), "decoder.mask_token": (width,),
        "decoder.channel_embed.weight": (10, quarter),
    } | p.linear("encoder.latlon_embed", width, 3) | p.norm("encoder.norm", width)  # fmt: skip
    for name, count in GROUPS.items():
        found |= p.linear(f"encoder.eo_patch_embed.{name}", width, count)
    for part in ("encoder.blocks.", "decoder.decoder_blocks."):
        found |= s.of_blocks(part, 2, width, 2 * width)
    return found | p.linear("decoder.decoder_embed", width, width) | p.norm("decoder.decoder_norm", width)


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    return p.saved(tmp_path_factory.mktemp("presto") / "default_model.pt", state)


def of_dates(dates, bands, shape=(4, 6)):
    one = s.spec(bands, shape)
    return replace(one, in_channels=len(bands) * dates, channels=one.channels * dates, dates=dates)


@pytest.mark.parametrize("names", [TEN, ("VV", "VH", *TEN, "elevation", "slope", "NDVI")])
def test_published_files_fill_the_encoder(checkpoint, names):
    encoder = s.build("presto", s.spec(names), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows if row.how != "unexpected"} == {"copied"}
    assert {origin for _, origin in report.channels} == {f"copied from {name}" for name in names}
    assert "set plan.mean and plan.std to that" in report.normalisation
    s.keeps_its_promises(encoder, (4, 6))


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("VV_dB", "slope")])
def test_some_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("presto", s.spec(bands), weights=checkpoint, place=[11.5, 48.0], **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (3, 5))


def test_cells_do_not_see_each_other(checkpoint):
    encoder = s.build("presto", of_dates(2, ("B4", "B8")), weights=checkpoint, **SMALL)
    encoder.initialise()
    image = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    given = s.features(encoder, image)[0]
    moved = s.features(encoder, image.flip(3))[0].flip(3)
    torch.testing.assert_close(given, moved)
    image[:, :, 0, 0] += 1
    changed = s.features(encoder, image)[0]
    assert not torch.allclose(given[..., 0, 0], changed[..., 0, 0])
    torch.testing.assert_close(given[..., 1:, :], changed[..., 1:, :])


def test_missing_dates_are_left_out_and_months_matter():
    bands = ("B4", "slope")
    encoder = s.moved(s.build("presto", of_dates(3, bands), **SMALL))
    image = torch.randn(2, 6, 4, 6, generator=torch.Generator().manual_seed(1))
    present, days = torch.tensor([[True, False, True]] * 2), torch.tensor([[19905, 19935, 19965]] * 2)
    other = image.clone()
    other[:, 2:4] = 9.0
    with torch.no_grad():
        given, changed = (encoder(one, present, days)[0] for one in (image, other))
        later = encoder(image, present, days + 100)[0]
    torch.testing.assert_close(given, changed)
    assert not torch.allclose(given, later, atol=1e-5)


def test_place_is_a_token_of_its_own():
    bands = ("B4", "B8")
    here, there = (s.moved(s.build("presto", s.spec(bands), place=place, **SMALL)) for place in ([0, 0], [90, 0]))
    assert here.place == pytest.approx((1, 0, 0))
    assert there.place == pytest.approx((0, 1, 0))
    image = s.noise(here, (4, 6))
    assert not torch.allclose(s.features(here, image)[0], s.features(there, image)[0])


def test_its_size_builds_on_the_meta_device():
    encoder = s.builds_on_meta("presto", s.spec(TEN), (8, 8))
    assert encoder.features[0].channels == 128
    assert len(encoder.trunk.blocks) == 2


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
        (s.spec(("B2", "DEM")), {}, "encoder presto has no kind of token for DEM; it takes VV, VH, "),
        (s.spec(), {"size": "large"}, "size=large: expected one of base"),
        (s.spec(), {"month": 13}, "month=13: expected a month from 1 to 12"),
        (s.spec(), {"place": [48.0]}, "expected longitude and then latitude, in degrees"),
        (s.spec(), {"weights": "pretrained"}, "none are published of size base; give a file"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("presto", about, **SMALL | settings).initialise()
