"""The temporal SatMAE: files in the format of the publication, dates, bands and shapes."""

import argparse
from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth import satmae_temporal
from medseg.models.encoders.vit import sines
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
LEAP_DAY = 19782  # 2024-02-29


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state under ``model``; 24 of 32 numbers say the date."""
    found = {
        "cls_token": (1, 1, 32),
        "pos_embed": (1, 197, 8),
        "mask_token": (1, 1, 16),
        "decoder_pos_embed": (1, 197, 4),
    }
    found |= p.conv("patch_embed.proj", 32, 3, 16, 16) | p.norm("norm", 32) | p.linear("decoder_pred", 768, 16)
    return found | s.of_blocks("blocks.", 4, 32, 128) | s.of_blocks("decoder_blocks.", 2, 16, 64)


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    content = {"model": state, "epoch": 50, "args": argparse.Namespace(lr=1e-4)}
    return p.saved(tmp_path_factory.mktemp("satmae") / "pretrain_fmow_temporal.pth", content)


def of_dates(dates, bands=s.RGB):
    one = s.spec(bands)
    return replace(one, in_channels=len(bands) * dates, channels=one.channels * dates, dates=dates)


def run(encoder, image, present=None, days=None):
    with torch.no_grad():
        return encoder(image, None if present is None else torch.tensor([present] * 2), torch.tensor([days] * 2))


@pytest.mark.parametrize("bands", [s.RGB, *s.SOME.values()])
def test_published_files_fill_the_encoder(checkpoint, bands):
    encoder = s.build("satmae_temporal", s.spec(bands), weights=checkpoint, day=LEAP_DAY, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    s.keeps_its_promises(encoder, (32, 48))


def test_colours_are_placed_by_name_and_statistics_compared(state, checkpoint):
    encoder = s.build("satmae_temporal", s.spec(), weights=checkpoint, **SMALL)
    report = encoder.initialise({"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3]})
    assert dict(report.channels) == {"B4": "copied from R", "B3": "copied from G", "B2": "copied from B"}
    assert any("std of the data is far" in line and "plan.std=[73.37,70.23,70.48]" in line for line in report.warnings)
    torch.testing.assert_close(encoder.trunk.patch_embed.proj.weight.detach(), state["patch_embed.proj.weight"])


def test_tokens_say_year_month_and_hour(state, checkpoint):
    encoder = s.build("satmae_temporal", of_dates(2), weights=checkpoint, hour=7, **SMALL)
    encoder.initialise()
    encoder.trunk.patch_embed.proj.bias.data.zero_()
    tokens = encoder.embed(torch.zeros(1, 6, 224, 224), torch.tensor([[LEAP_DAY, LEAP_DAY + 1]]))
    torch.testing.assert_close(tokens[0, 1:197, :8], state["pos_embed"][0, 1:])
    for first, month in ((1, 1.0), (197, 2.0)):  # of February and March, from 0
        expected = torch.cat([sines(8, torch.tensor(n)) for n in (22.0, month, 7.0)])
        torch.testing.assert_close(tokens[0, first, 8:], expected)
    torch.testing.assert_close(tokens[0, 0, 8:], state["cls_token"][0, 0, 8:])


def test_without_a_day_nothing_is_said():
    encoder = s.build("satmae_temporal", s.spec(), **SMALL)
    encoder.trunk.patch_embed.proj.bias.data.zero_()
    assert not encoder.embed(torch.zeros(1, 3, 32, 48))[0, 1:, 8:].any()


def test_missing_dates_are_left_out_and_dates_matter(checkpoint):
    encoder = s.build("satmae_temporal", of_dates(3), weights=checkpoint, **SMALL)
    encoder.initialise()
    image = torch.randn(2, 9, 32, 48, generator=torch.Generator().manual_seed(1))
    days = [LEAP_DAY, LEAP_DAY + 100, LEAP_DAY + 400]
    other = image.clone()
    other[:, 3:6] = 9.0
    given = run(encoder, image, [True, False, True], days)
    s.assert_close(given, run(encoder, other, [True, False, True], days))
    assert not torch.allclose(given[-1], run(encoder, image, [True] * 3, days)[-1])
    assert not torch.allclose(given[-1], run(encoder, image, [True, False, True], [0, 1, 2])[-1], atol=1e-5)


def test_a_series_of_one_date_is_that_date(checkpoint):
    two = s.build("satmae_temporal", of_dates(2), weights=checkpoint, **SMALL)
    one = s.build("satmae_temporal", s.spec(), weights=checkpoint, day=LEAP_DAY, **SMALL)
    two.initialise(), one.initialise()
    image = torch.randn(2, 6, 32, 48, generator=torch.Generator().manual_seed(1))
    s.assert_close(run(two, image, [True, False], [LEAP_DAY, 3]), s.features(one, image[:, :3]))


@pytest.mark.parametrize("size", satmae_temporal.SIZES)
def test_every_size_builds_on_the_meta_device(size):
    encoder = s.builds_on_meta("satmae_temporal", s.spec(), (32, 48), size=size)
    assert encoder.features[0].channels == satmae_temporal.SIZES[size].embed_dim
    assert encoder.trunk.pos_embed.shape[2] == encoder.features[0].channels - 384


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"size": "huge"}, "size=huge: expected one of base, large"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
        (s.spec(), {"hour": 24}, "hour=24: expected an hour from 0 to 23"),
        (of_dates(2), {"day": 3}, "time series have days of their own"),
        (s.spec(), {"weights": "pretrained"}, "none are published of size large; give a file"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("satmae_temporal", about, **SMALL | settings).initialise()
