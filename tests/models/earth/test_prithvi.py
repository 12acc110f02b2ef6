"""Prithvi: files in the format of the authors, positions worked out apart, dates and places.

``scripts/check_upstream.py`` compares features with those of the authors' network.
"""

import math
from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth.prithvi import BANDS, FIRST, SECOND, SIZES
from tests.models.encoders import spectral as s

HLS = tuple(band.name for band in BANDS)
SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
WIDTH, HIDDEN, DECODER = 32, 128, 16


def published(version: str, *, timed: bool = False, patch: int = 16) -> dict[str, torch.Tensor]:
    """Tensors of a file of the authors: of the second version with parts ahead of names, of the first without."""
    encoder = {
        "cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + 4 * 196, WIDTH),
        "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
        "patch_embed.proj.weight": (WIDTH, 6, 1, patch, patch), "patch_embed.proj.bias": (WIDTH,),
        **s.of_blocks("blocks.", 4, WIDTH, HIDDEN),
    }  # fmt: skip
    decoder = {
        "mask_token": (1, 1, DECODER), "decoder_pos_embed": (1, 1 + 4 * 196, DECODER),
        "decoder_embed.weight": (DECODER, WIDTH), "decoder_embed.bias": (DECODER,), "decoder_norm.weight": (DECODER,),
        "decoder_norm.bias": (DECODER,), "decoder_pred.weight": (6 * patch**2, DECODER),
        "decoder_pred.bias": (6 * patch**2,), **s.of_blocks("decoder_blocks.", 8, DECODER, 64),
    }  # fmt: skip
    if timed:
        encoder |= {"temporal_embed_enc.scale": (1,), "location_embed_enc.scale": (1,)}
        decoder |= {"temporal_embed_dec.scale": (1,), "location_embed_dec.scale": (1,)}
    if version == "v1":
        return s.drawn(encoder | decoder)
    return s.drawn({f"encoder.{k}": v for k, v in encoder.items()} | {f"decoder.{k}": v for k, v in decoder.items()})


FILES = {"v1_100": ("v1", False, 16), "v2_300": ("v2", False, 16), "v2_300_tl": ("v2", True, 16)}


@pytest.fixture(scope="module", params=[*FILES, "v2_600_tl"])
def file(request, tmp_path_factory):
    version, timed, patch = FILES.get(request.param, ("v2", True, 14))
    state = published(version, timed=timed, patch=patch)
    path = tmp_path_factory.mktemp("prithvi") / f"{request.param}.pt"
    torch.save(state, path)
    return request.param, path, state


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    path = tmp_path_factory.mktemp("timed") / "Prithvi_EO_V2_300M_TL.pt"
    torch.save(published("v2", timed=True), path)
    return path


def test_files_of_the_authors_fill_every_parameter(file):
    size, path, state = file
    place = {"place": [11.0, 48.0], "day": 19000} if size.endswith("_tl") else {}
    encoder = s.build("prithvi", s.spec(HLS, (224, 224)), size=size, weights=str(path), **place, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert all("decoder" in n or "_dec" in n or "mask_token" in n for n in report.named("unexpected"))
    assert report.named("adapted") == ["patch_embed.proj.weight"]  # of one frame
    assert dict(report.channels) == {name: f"copied from {name}" for name in HLS}
    kernel = next(tensor for name, tensor in state.items() if name.endswith("patch_embed.proj.weight"))
    torch.testing.assert_close(encoder.trunk.patch_embed.proj.weight.detach(), kernel[:, :, 0])


@pytest.mark.parametrize("bands", s.SOME.values())
def test_any_bands_on_any_shape(bands, timed):
    encoder = s.build(
        "prithvi", s.spec(bands), size="v2_300_tl", day=19000, place=[11.0, 48.0], weights=str(timed), **SMALL
    )
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (32, 48))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_without_memory(size):
    encoder = s.builds_on_meta("prithvi", s.spec(HLS, (224, 112)), (224, 112), size=size)
    assert [f.channels for f in encoder.features] == [SIZES[size].embed_dim] * 4
    assert encoder.divisor == ((14, 14) if "600" in size else (16, 16))


@pytest.mark.parametrize("size", SIZES)
def test_statistics_are_those_of_the_version(size):
    family = FIRST if size == "v1_100" else SECOND
    assert (size in family.files) == (size != "tiny")
    assert len(family.mean) == len(family.std) == len(family.channels) == 6
    assert family.mean[0] == (775 if size == "v1_100" else 1087)


def test_statistics_of_data_in_another_unit_are_told(timed):
    encoder = s.build("prithvi", s.spec(HLS), size="v2_300_tl", weights=str(timed), **SMALL)
    report = encoder.initialise({"mean": [0.1] * 6, "std": [0.05] * 6})
    assert any("another unit" in line and "plan.mean=[1087,1342" in line for line in report.warnings)
    assert report.normalisation.startswith("B2, B3, B4, B8A, B11, B12: raw values, minus 1087")


def test_positions_are_sines_of_column_row_and_date():
    encoder = s.build("prithvi", of_dates(2, (224, 224)), **SMALL | {"embed_dim": 16})
    net = encoder.trunk
    with torch.no_grad():
        net.patch_embed.proj.weight.zero_()
        net.patch_embed.proj.bias.zero_()
        tokens = encoder.embed(torch.zeros(1, 12, 224, 224))[0, 1:].reshape(2, 14, 14, 16)
    rates = [1, 10000 ** (-1 / 3), 10000 ** (-2 / 3)]
    for date, row, column in ((0, 0, 0), (1, 3, 5), (1, 13, 0), (0, 2, 13)):
        expected = [f(column * r) for f in (math.sin, math.cos) for r in rates]
        expected += [f(row * r) for f in (math.sin, math.cos) for r in rates]
        expected += [f(date * r) for f in (math.sin, math.cos) for r in (1, 0.01)]
        torch.testing.assert_close(tokens[date, row, column], torch.tensor(expected), rtol=0, atol=1e-5)


def test_positions_of_other_images_are_stretched():
    encoder = s.build("prithvi", s.spec(HLS), **SMALL)
    small, whole = (encoder._in_plane(grid, 24, torch.device("cpu")) for grid in ((2, 14), (14, 14)))
    torch.testing.assert_close(small.unflatten(0, (2, 14)), whole.unflatten(0, (14, 14))[[0, 13]])


def of_dates(dates, shape=(32, 48)):
    one = s.spec(HLS, shape)
    return replace(one, in_channels=6 * dates, channels=one.channels * dates, dates=dates)


def test_statistics_are_those_of_one_date(timed):
    encoder = s.build("prithvi", of_dates(3), size="v2_300_tl", weights=str(timed), **SMALL)
    report = encoder.initialise({"mean": [1000.0] * 6, "std": [2000.0] * 6})
    assert len(report.channels) == 6
    assert report.warnings == ()


def test_dates_have_features_of_their_own_and_attend_to_each_other(timed):
    encoder = s.build("prithvi", of_dates(3), size="v2_300_tl", weights=str(timed), **SMALL)
    assert encoder.initialise().share == 1
    assert [(f.channels, f.prefix) for f in encoder.features] == [(96, 0)] * 4
    image = torch.randn(1, 18, 32, 48, generator=torch.Generator().manual_seed(1))
    days = torch.tensor([[19000, 19100, 19200]])
    with torch.no_grad():
        both = encoder(image, days=days)[-1].unflatten(2, (3, 32))
        changed = encoder(image.index_fill(1, torch.tensor([13]), 0.0), days=days)[-1].unflatten(2, (3, 32))
    assert all(not torch.allclose(both[:, :, date], changed[:, :, date]) for date in range(3))


def test_a_missing_date_is_as_if_it_had_not_been(timed):
    three, two = (s.build("prithvi", of_dates(n), size="v2_300_tl", weights=str(timed), **SMALL) for n in (3, 2))
    three.initialise()
    two.initialise()
    image = torch.randn(1, 18, 32, 48, generator=torch.Generator().manual_seed(1))
    days = torch.tensor([[19000, 19100, 19200]])
    with torch.no_grad():
        masked = three(image, present=torch.tensor([[True, True, False]]), days=days)[-1]
        fewer = two(image[:, :12], days=days[:, :2])[-1]
    torch.testing.assert_close(masked[..., :64], fewer, rtol=1e-4, atol=1e-4)
    assert masked[..., 64:].abs().max() == 0


def test_date_and_place_add_their_sines(timed):
    plain = s.build("prithvi", s.spec(HLS), size="v2_300_tl", weights=str(timed), **SMALL)
    placed = s.build(
        "prithvi", s.spec(HLS), size="v2_300_tl", day=19782, place=[11.5, 48.0], weights=str(timed), **SMALL
    )
    plain.initialise()
    placed.initialise()
    image = s.noise(plain, (32, 48))
    with torch.no_grad():
        added = (placed.embed(image) - plain.embed(image))[0, 1:]
    scales = [placed.trunk.get_parameter(f"{name}_embed_enc.scale").item() for name in ("temporal", "location")]

    def encoded(first: float, second: float) -> torch.Tensor:
        rates = [10000 ** (-i / 8) for i in range(8)]
        return torch.tensor([f(n * r) for n in (first, second) for f in (math.sin, math.cos) for r in rates])

    expected = scales[0] * encoded(2024, 60) + scales[1] * encoded(48.0, 11.5)
    torch.testing.assert_close(added, expected.expand_as(added), rtol=0, atol=1e-4)
    assert not plain.trunk.temporal_embed_enc.scale.requires_grad
    assert placed.trunk.location_embed_enc.scale.requires_grad


def test_only_the_last_block_is_normalised(timed):
    encoder = s.build("prithvi", s.spec(HLS), size="v2_300_tl", indices=[1, 2], weights=str(timed), **SMALL)
    assert encoder.initialise().share == 1
    assert len(encoder.trunk.blocks) == 3
    assert not list(encoder.trunk.norm.parameters())


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"size": "v2_400"}, "size=v2_400: expected one of tiny, v1_100"),
        (s.spec(), {"size": "v2_300", "day": 3}, r"encoder\.day: prithvi of size v2_300 takes neither"),
        (s.spec(), {"size": "v1_100", "place": [1, 2]}, r"encoder\.place: prithvi of size v1_100"),
        (s.spec(), {"size": "v2_300_tl", "place": [48, 111]}, "expected longitude and then latitude"),
        (of_dates(2), {"size": "v2_300_tl", "day": 3}, "time series have days of their own"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
        (s.spec(), {"indices": [4]}, "each from 0 to 3"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("prithvi", about, **SMALL | settings)


def test_a_size_that_is_not_published_is_refused():
    encoder = s.build("prithvi", s.spec(HLS), size="tiny", weights="pretrained", **SMALL)
    with pytest.raises(InputError, match=r"none are published of size tiny; choose model\.encoder\.size=v2_tiny_tl or"):
        encoder.initialise()


def test_a_file_of_another_size_is_refused(timed):
    encoder = s.build("prithvi", s.spec(HLS), size="v2_300_tl", weights=str(timed), **SMALL | {"depth": 2})
    with pytest.raises(InputError, match="further layers"):
        encoder.initialise()
