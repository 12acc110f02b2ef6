"""SpectralGPT: files in the format of the publication, cubes of bands, grids of other shapes."""

import argparse

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth import spectralgpt
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
TWELVE = tuple(band for band in s.SENTINEL2 if band != "B10")


def shapes(side: int = 12) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state under ``model``."""
    found = {"patch_embed.proj.weight": (32, 1, 3, 8, 8), "patch_embed.proj.bias": (32,), "mask_token": (1, 1, 16)}
    for part, width in (("", 32), ("decoder_", 16)):
        found |= {
            f"{part}pos_embed_spatial": (1, side**2, width),
            f"{part}pos_embed_temporal": (1, 4, width),
        } | p.norm(f"{part}norm", width)
        for i in range(4):
            found |= p.block(f"{part}blocks.{i}", width)
    return found | p.linear("decoder_embed", 16, 32) | p.linear("decoder_pred", 192, 16)


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    content = {"model": state, "epoch": 199, "args": argparse.Namespace(lr=1e-4)}
    return p.saved(tmp_path_factory.mktemp("spectralgpt") / "SpectralGPT.pth", content)


def test_published_files_fill_the_encoder(checkpoint):
    encoder = s.build("spectralgpt", s.spec(TWELVE), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows if row.how != "unexpected"} == {"copied"}
    assert report.channels == tuple((name, f"in the place of {name}") for name in TWELVE)
    s.keeps_its_promises(encoder, (16, 24))


@pytest.mark.parametrize("bands", s.SOME.values())
def test_some_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("spectralgpt", s.spec(bands), weights=checkpoint, **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (16, 24))


def test_positions_of_the_second_pretraining_are_resampled(tmp_path):
    larger = s.drawn(shapes(16))
    larger["pos_embed_spatial"] = torch.ones(1, 256, 32) * torch.arange(32.0)
    path = p.saved(tmp_path / "SpectralGPT+.pth", {"model": larger})
    encoder = s.build("spectralgpt", s.spec(TWELVE), weights=path, **SMALL)
    assert encoder.initialise().share == 1
    torch.testing.assert_close(encoder.trunk.pos_embed_spatial[0, 7], torch.arange(32.0))


def test_a_token_is_the_kernel_on_three_bands_at_their_place(state, checkpoint):
    encoder = s.build("spectralgpt", s.spec(("B4", "B5", "B6"), (96, 96)), weights=checkpoint, **SMALL)
    encoder.initialise()
    image = s.noise(encoder, (96, 96))
    values = (image / 4 + 0.5)[0, :, :8, 8:16]
    kernel, bias = state["patch_embed.proj.weight"][:, 0], state["patch_embed.proj.bias"]
    expected = (kernel * values).sum((1, 2, 3)) + bias
    expected = expected + state["pos_embed_spatial"][0, 1] + state["pos_embed_temporal"][0, 1]
    torch.testing.assert_close(encoder.embed(image)[0, 1], expected)


def test_one_band_of_a_cube_counts_three_times_and_two_in_a_place_are_averaged():
    encoder = s.build("spectralgpt", s.spec(("B8A", "B10", "B11")), **SMALL)
    assert encoder.cubes == [2, 3]
    assert encoder.mixing == [[0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 0, 0], [0, 1.5, 1.5], [0, 0, 0]]


@pytest.mark.parametrize("size", spectralgpt.SIZES)
def test_every_size_builds_on_the_meta_device(size):
    encoder = s.builds_on_meta("spectralgpt", s.spec(TWELVE), (16, 24), size=size)
    assert encoder.features[0].channels == spectralgpt.SIZES[size].embed_dim


def test_statistics_of_the_data_are_compared(checkpoint):
    encoder = s.build("spectralgpt", s.spec(("B4", "B8")), weights=checkpoint, **SMALL)
    report = encoder.initialise({"mean": [0.11, 0.17], "std": [0.09, 0.12]})
    assert any("B4 0.09 instead of 965.2" in w and "plan.std=[965.2,1233]" in w for w in report.warnings)


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B2", "VV")), {}, "encoder spectralgpt has no kind of token for VV; it takes B1, B2, "),
        (s.spec(), {"size": "giant"}, "size=giant: expected one of base, large, huge"),
        (s.spec(), {"weights": "pretrained"}, "none are published of size base; give a file, model.encoder.weights=F"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("spectralgpt", about, **SMALL | settings).initialise()
