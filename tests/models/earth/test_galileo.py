"""Galileo: files in the format of the publication, tokens of each group, patches of other sizes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth import galileo
from medseg.models.encoders import published
from medseg.sample import Channel
from medseg.weights.pretrained import read
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
WIDTH = 32
OF_DATES = {"S1": 2, "S2_RGB": 3, "S2_Red_Edge": 3, "S2_NIR_10m": 1, "S2_NIR_20m": 1, "S2_SWIR": 2, "NDVI": 1}
OF_PLACES = {"SRTM": 2, "DW": 9, "WC": 5}
TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of encoder.pt."""
    found = {"pos_embed": (24, WIDTH // 4), "month_embed.weight": (12, WIDTH // 4)}
    found |= {f"{kind}_channel_embed": (n, WIDTH // 4) for kind, n in (("s_t", 7), ("sp", 3), ("t", 3), ("st", 4))}
    for room, groups in (("space_time_embed", OF_DATES), ("space_embed", OF_PLACES)):
        for name, count in groups.items():
            found |= p.conv(f"{room}.{name}.proj", WIDTH, count, 8, 8)
    for name, count in {"ERA5": 2, "TC": 3, "VIIRS": 1}.items():
        found |= p.linear(f"time_embed.{name}", WIDTH, count)
    for name, count in {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}.items():
        found |= p.linear(f"static_embed.{name}", WIDTH, count)
    for i in range(4):
        found |= p.block(f"blocks.{i}", WIDTH)
    return found | p.norm("norm", WIDTH)


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    return p.saved(tmp_path_factory.mktemp("galileo") / "encoder.pt", state)


def about(*names):
    """Data of Sentinel-2, radar, and channels that no sensor has."""
    return s.spec(names)


@pytest.mark.parametrize(
    "names, groups",
    [
        (TEN, ["S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_NIR_20m", "S2_SWIR"]),
        (("VV", "VH", *TEN, "NDVI"), list(OF_DATES)),
        (("VV", "VH", "elevation", "slope"), ["S1", "SRTM"]),
        (("elevation", "slope"), ["SRTM"]),
    ],
)
def test_published_files_fill_the_encoder(checkpoint, names, groups):
    encoder = s.build("galileo", about(*names), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows if row.how != "unexpected"} == {"copied"}
    assert list(encoder.places) == groups
    assert {origin for _, origin in report.channels} == {f"copied from {name}" for name in names}
    s.keeps_its_promises(encoder, (16, 24))


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("VV_dB",), ("B4", "NDVI")])
def test_some_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("galileo", about(*bands), weights=checkpoint, **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (8, 12))


def test_files_with_one_more_part_in_each_name(state, tmp_path):
    spelt = {f"encoder.backbone.{name}": tensor for name, tensor in state.items()}
    path = p.saved(tmp_path / "encoder.pt", spelt)
    assert s.build("galileo", about(*TEN), weights=path, **SMALL).initialise().share == 1


def test_missing_bands_are_left_out_and_the_rest_scaled(state, checkpoint):
    encoder = s.build("galileo", about("B4", "B12"), weights=checkpoint, **SMALL)
    encoder.initialise()
    kernels = encoder.trunk.space_time_embed
    torch.testing.assert_close(kernels["S2_RGB"].proj.weight, state["space_time_embed.S2_RGB.proj.weight"][:, [2]] * 3)
    torch.testing.assert_close(
        kernels["S2_SWIR"].proj.weight, state["space_time_embed.S2_SWIR.proj.weight"][:, [1]] * 2
    )


@pytest.mark.parametrize("patch", [2, 3, 4, 8])
def test_resampled_kernels_see_in_small_what_they_saw_in_large(patch):
    generator = torch.Generator().manual_seed(1)
    small, kernel = torch.randn(5, patch**2, generator=generator), torch.randn(64, generator=generator)
    cells = torch.eye(64).view(64, 1, 8, 8)
    resized = functional.interpolate(cells, (patch, patch), mode="bicubic", antialias=True).flatten(1)
    large = small @ torch.linalg.pinv(resized)  # the images that resizing turns into the small ones
    torch.testing.assert_close(large @ resized, small, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(small @ (kernel @ galileo.resampling(patch)), large @ kernel, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("patch", [1, 3, 8])
def test_patches_of_other_sizes(checkpoint, patch):
    encoder = s.build("galileo", about(*TEN), weights=checkpoint, patch=patch, **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (2 * patch, 3 * patch))


def test_the_index_keeps_its_values_and_the_rest_is_mapped():
    encoder = s.build("galileo", about("B8", "NDVI"), patch=8, **SMALL)
    kernel = torch.zeros(32, 1, 8, 8)
    kernel[0, 0, 0, 0] = 1
    for name in ("S2_NIR_10m", "NDVI"):
        encoder.trunk.space_time_embed[name].proj.weight.data = kernel
        encoder.trunk.space_time_embed[name].proj.bias.data.zero_()
    image = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert encoder._patches(image, "S2_NIR_10m")[0, 0, 0].item() == pytest.approx(1.0)
    assert encoder._patches(image, "NDVI")[0, 0, 0].item() == pytest.approx(0.289212 - 0.272094, abs=1e-6)


def test_month_and_place_matter_but_terrain_has_no_month():
    flat = torch.ones(1, 3, 24, 24)
    july, january = (s.build("galileo", about(*s.RGB), month=m, patch=8, **SMALL) for m in (7, 1))
    tokens = s.features(july, flat)[-1][0]
    assert not torch.allclose(tokens, s.features(january, flat)[-1][0])
    assert torch.cdist(tokens, tokens)[0, 4] > 1e-3
    july, january = (s.build("galileo", about("slope"), month=m, patch=8, **SMALL) for m in (7, 1))
    torch.testing.assert_close(s.features(july, flat[:, :1]), s.features(january, flat[:, :1]))


@pytest.mark.parametrize("size", galileo.SIZES)
def test_every_size_builds_on_the_meta_device(size):
    encoder = s.builds_on_meta("galileo", about("VV", *TEN, "slope"), (16, 24), size=size)
    assert encoder.features[0].channels == galileo.SIZES[size].embed_dim


def test_statistics_of_the_data_are_compared(checkpoint):
    encoder = s.build("galileo", about("B4", "VV"), weights=checkpoint, **SMALL)
    report = encoder.initialise({"mean": [0.13, -11.0], "std": [0.11, 5.0]})
    assert any("B4 0.11 instead of 1093" in w and "plan.std=[1093,4.887]" in w for w in report.warnings)
    assert report.normalisation.endswith("mean - 2 std of each channel to 0, mean + 2 std to 1")


def test_published_weights_are_asked_for_by_size(monkeypatch, checkpoint):
    asked = []
    monkeypatch.setattr(published, "read", lambda name: asked.append(name) or read(checkpoint))
    s.build("galileo", about(*TEN), size="tiny", **SMALL).fetch("pretrained")
    assert asked == ["hf-hub:nasaharvest/galileo/models/tiny/encoder.pt"]


@pytest.mark.parametrize(
    "data, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
        (about("B2", "DEM"), {}, "encoder galileo has no kind of token for DEM; it takes VV, VH, .* slope, bands of"),
        (replace(about("B2"), channels=(Channel("ST_B10", wavelength_nm=10895.0),)), {}, "no kind of token for ST_B10"),
        (about("B2"), {"size": "large"}, "size=large: expected one of nano, tiny, base"),
        (about("B2"), {"patch": 9}, "patch=9: expected 1 to 8 cells"),
        (about("B2"), {"month": 13}, "month=13: expected a month from 1 to 12"),
    ],
)
def test_refusals(data, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("galileo", data, **SMALL | settings)
