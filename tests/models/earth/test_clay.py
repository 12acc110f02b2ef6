"""Clay: files in the format of the authors, kernels from wavelengths, positions in metres, time and place.

``scripts/check_upstream.py`` compares features with those of the authors' encoder.
"""

import math
from datetime import date

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth.clay import SIZES, known_numbers
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

WIDTH = 32
SMALL = {"size": "base", "embed_dim": WIDTH, "depth": 4, "num_heads": 4}


def published() -> dict[str, object]:
    """A checkpoint of Lightning: encoder, decoder and the teacher of the pretraining, under ``state_dict``."""
    shapes: dict[str, tuple[int, ...]] = {"model.decoder.mask_patch": (16,), "model.proj.weight": (64, WIDTH)}
    for part, width in (("encoder.patch_embedding", WIDTH), ("decoder.embed_to_pixels", 16)):
        at = f"model.{part}"
        shapes |= p.linear(f"{at}.fclayer.l1", 128, 128) | p.linear(f"{at}.fclayer.l2", 128, 128)
        at = f"{at}.weight_generator"
        shapes |= {f"{at}.weight_tokens": (128, 128), f"{at}.bias_token": (1, 128)}
        shapes |= p.linear(f"{at}.fc_weight", 64 * width, 128) | p.linear(f"{at}.fc_bias", width, 128)
        at = f"{at}.encoder.layers.0"
        shapes |= {f"{at}.self_attn.in_proj_weight": (384, 128), f"{at}.self_attn.in_proj_bias": (384,)}
        shapes |= (
            p.linear(f"{at}.self_attn.out_proj", 128, 128) | p.norm(f"{at}.norm1", 128) | p.norm(f"{at}.norm2", 128)
        )
        shapes |= p.linear(f"{at}.linear1", 2048, 128) | p.linear(f"{at}.linear2", 128, 2048)
    for part, width in (("encoder", WIDTH), ("decoder", 16)):
        shapes |= p.norm(f"model.{part}.transformer.norm", width)
        for i in range(4):
            at = f"model.{part}.transformer.layers.{i}"
            shapes |= p.norm(f"{at}.0.norm", width) | p.norm(f"{at}.1.net.0", width)
            shapes |= {f"{at}.0.to_qkv.weight": (3 * width, width), f"{at}.0.to_out.weight": (width, width)}
            shapes |= p.linear(f"{at}.1.net.1", 4 * width, width) | p.linear(f"{at}.1.net.3", width, 4 * width)
    shapes |= {"model.encoder.cls_token": (1, 1, WIDTH), "model.teacher.cls_token": (1, 1, 64)}
    shapes |= s.of_blocks("model.teacher.blocks.", 6, 64, 256)
    return {"state_dict": s.drawn(shapes), "epoch": 76, "hyper_parameters": {"model_size": "large"}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return p.saved(tmp_path_factory.mktemp("clay") / "clay-v1.5.ckpt", published())


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("VV",), ("B4", "VH_dB")])
def test_files_of_the_authors_fill_every_parameter_for_any_bands(checkpoint, bands):
    encoder = s.build("clay", s.spec(bands), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows} == {"copied", "unexpected"}
    assert all("encoder." not in name.split("weight_generator")[0] for name in report.named("unexpected"))
    s.keeps_its_promises(encoder, (16, 24))


def test_the_order_of_channels_is_of_no_account(checkpoint):
    first, other = (
        s.build("clay", s.spec(bands), weights=checkpoint, **SMALL) for bands in (("B4", "B8"), ("B8", "B4"))
    )
    first.initialise()
    other.initialise()
    image = s.noise(first, (16, 24))
    s.assert_close(s.features(other, image.flip(1)), s.features(first, image))


def test_positions_are_sines_of_metres():
    encoder = s.build("clay", s.spec(spacing=(30.0, 10.0)), **SMALL | {"embed_dim": 24})
    found = encoder._positions((3, 5), 24, torch.device("cpu")).unflatten(0, (3, 5))
    rates = [10000 ** (-2 * i / 3 / 16) for i in range(4)]
    for row, column in ((0, 0), (2, 4), (1, 3)):
        expected = [f(10 * column * rate) for f in (math.sin, math.cos) for rate in rates]
        expected += [f(30 * row * rate) for f in (math.sin, math.cos) for rate in rates]
        torch.testing.assert_close(found[row, column], torch.tensor(expected + [0.0] * 8), rtol=0, atol=1e-4)
    other = s.build("clay", s.spec(), cell_m=0.5, **SMALL)
    assert other.cell_m == (0.5, 0.5)


@pytest.mark.parametrize("day", [date(2020, 12, 31), date(2021, 1, 3), date(2024, 7, 1)])
def test_weeks_are_those_of_the_calendar(day):
    number = (day - date(1970, 1, 1)).days
    week = 2 * math.pi * day.isocalendar().week / 52
    assert known_numbers(number, None) == pytest.approx([math.sin(week), math.cos(week), 0, 0, 0, 0, 0, 0])
    assert known_numbers(number + 0.5, None)[2:4] == pytest.approx([0, -1])


def test_time_and_place_are_the_last_numbers_of_each_token(checkpoint):
    plain, placed = (
        s.build("clay", s.spec(), weights=checkpoint, **SMALL, **known)
        for known in ({}, {"day": 19000.25, "place": [11.5, 48.0]})
    )
    plain.initialise()
    placed.initialise()
    image = s.noise(plain, (16, 24))
    with torch.no_grad():
        added = placed.embed(image) - plain.embed(image)
    assert added[:, 0].abs().max() == 0
    expected = torch.tensor([0.0] * (WIDTH - 8) + known_numbers(19000.25, [11.5, 48.0]))
    torch.testing.assert_close(added[0, 1:], expected.expand(6, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "bands, sensor, statistics, line",
    [
        (("B4", "B8"), "sentinel-2", {"mean": [0.1, 0.2], "std": [0.05] * 2}, "B4 0.05 instead of 1888"),
        (("SR_B4", "SR_B5"), "landsat-8", {"mean": [0.1, 0.2], "std": [0.05] * 2}, "SR_B4 0.05 instead of 9578"),
        (("R", "NIR"), "naip", {"mean": [0.4, 0.5], "std": [0.2] * 2}, "R 0.2 instead of 47.23"),
        (("VV",), None, {"mean": [0.1], "std": [0.05]}, "VV 0.05 instead of 8.314"),
    ],
)
def test_statistics_of_the_sensor_are_compared(checkpoint, bands, sensor, statistics, line):
    encoder = s.build("clay", s.spec(bands, sensor=sensor), weights=checkpoint, **SMALL)
    report = encoder.initialise(statistics)
    assert any(line in warning for warning in report.warnings)
    assert not any("lacks" in warning for warning in report.warnings)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_without_memory(size):
    encoder = s.builds_on_meta("clay", s.spec(("B4", "VV"), (32, 48)), (32, 48), size=size)
    assert [f.channels for f in encoder.features] == [SIZES[size].embed_dim] * 4


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B4", "DEM")), {}, "encoder clay reads the wavelength of every channel, but DEM has none"),
        (s.spec(("B4", "HH")), {}, "clay knows the radar channels VV and VH, got HH"),
        (s.spec(), {"size": "huge"}, "size=huge: expected one of tiny, small, base, large"),
        (s.spec(), {"embed_dim": 30}, "embed_dim=30: expected a multiple of 4 and of the 4 heads"),
        (s.spec(), {"place": [48, 111]}, "expected longitude and then latitude"),
        (s.spec(), {"indices": [4]}, "each from 0 to 3"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("clay", about, **SMALL | settings)


def test_sizes_that_are_not_published_are_refused():
    with pytest.raises(InputError, match=r"none are published of size base; choose model\.encoder\.size=large"):
        s.build("clay", s.spec(), weights="pretrained", **SMALL).initialise()


def test_a_file_of_a_larger_network_is_refused(checkpoint):
    with pytest.raises(InputError, match="further layers"):
        s.build("clay", s.spec(), weights=checkpoint, **SMALL | {"depth": 2}).initialise()
