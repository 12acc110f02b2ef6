"""OlmoEarth: files in the format of the publication, tokens of each sensor, bands and shapes."""

from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth import olmoearth
from medseg.models.encoders import published
from medseg.sensors.bands import bands_of
from medseg.weights.pretrained import read
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 4}
WIDTH = 32
V1 = {"sentinel2_l2a": (4, 6, 2), "sentinel1": (2,), "landsat": (1, 10), "worldcover": (1,), "srtm": (1,)}
LATER = {"sentinel2_l2a": (12,), "sentinel1": (2,), "landsat": (11,), "worldcover": (1,), "srtm": (1,)}
L2A = tuple(band for band in s.SENTINEL2 if band != "B10")
OF_FILES = ("B2", "B3", "B4", "B8", "B5", "B6", "B7", "B8A", "B11", "B12", "B1", "B9")
OLI = ("B8", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10", "B11")


def shapes(version: str = "v1") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file: the encoder, and what else the pretraining had."""
    found = {"encoder.composite_encodings.month_embed.weight": (12, WIDTH // 4)}
    for modality, counts in (V1 if version == "v1" else LATER).items():
        channels = f"composite_encodings.per_modality_channel_embeddings.{modality}"
        found |= {f"{part}.{channels}": (len(counts), WIDTH // 4) for part in ("encoder", "decoder")}
        for i, count in enumerate(counts):
            kernel = f"encoder.patch_embeddings.per_modality_embeddings.{modality}.{modality}__{i}"
            if version == "v1":
                found |= p.conv(f"{kernel}.proj", WIDTH, count, 8, 8)
            else:
                found |= p.linear(f"{kernel}.pixel_proj.0", 12, count) | p.linear(f"{kernel}.proj", WIDTH, 12 * 64)
    for part, depth in (("encoder", 4), ("decoder", 6)):
        for i in range(depth):
            found |= p.block(f"{part}.blocks.{i}", WIDTH)
            if version == "v1.2":
                found[f"{part}.blocks.{i}.attn.rope_mixed_freqs"] = (3, 4, 4)
        found |= p.norm(f"{part}.norm", WIDTH)
    return (
        found | p.linear("encoder.project_and_aggregate.projection.0", WIDTH, WIDTH) | {"decoder.mask_token": (WIDTH,)}
    )


@pytest.fixture(scope="module")
def state():
    return s.drawn(shapes())


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    return p.saved(tmp_path_factory.mktemp("olmoearth") / "weights.pth", state)


def of_sensors(*parts):
    channels = tuple(channel for bands, sensor in parts for channel in bands_of(bands, sensor))
    return replace(s.spec(), in_channels=len(channels), channels=channels)


@pytest.mark.parametrize("version", ["v1", "v1.1", "v1.2"])
@pytest.mark.parametrize(
    "about", [of_sensors((OF_FILES, "sentinel-2")), of_sensors((("VV", "VH"), None), (OF_FILES, "sentinel-2")),
              of_sensors((OLI, "landsat-8"))], ids=["sentinel-2", "both", "landsat"],
)  # fmt: skip
def test_files_of_each_version_fill_the_encoder(version, about, tmp_path):
    path = p.saved(tmp_path / "weights.pth", s.drawn(shapes(version)))
    encoder = s.build("olmoearth", about, weights=path, version=version, size="nano", **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows if row.how != "unexpected"} == {"copied"}
    assert {origin for _, origin in report.channels} == {f"copied from {c.name}" for c in about.channels}
    assert report.normalisation.endswith("mean - 2 std of each channel to 0, mean + 2 std to 1")
    s.keeps_its_promises(encoder, (16, 24))


def test_each_kernel_sees_the_bands_of_its_token(state, checkpoint):
    encoder = s.build("olmoearth", s.spec(L2A), weights=checkpoint, **SMALL)
    encoder.initialise()
    assert encoder.places == {
        "sentinel2_l2a__0": (1, 2, 3, 7), "sentinel2_l2a__1": (4, 5, 6, 8, 10, 11), "sentinel2_l2a__2": (0, 9),
    }  # fmt: skip
    kernels = encoder.trunk.patch_embeddings.per_modality_embeddings["sentinel2_l2a"]
    published = state["encoder.patch_embeddings.per_modality_embeddings.sentinel2_l2a.sentinel2_l2a__0.proj.weight"]
    torch.testing.assert_close(kernels["sentinel2_l2a__0"].proj.weight.detach(), published)  # B2, B3, B4, B8


@pytest.mark.parametrize(
    "bands, groups",
    [
        (("B8", "B4"), 1),
        (("B2", "B3", "B4", "B8", "B12"), 2),
        (s.SENTINEL2, 3),
        (("VV_dB",), 1),
        (("B4", "VH", "B8A"), 3),
    ],
)
def test_some_bands_have_only_their_own_tokens(checkpoint, bands, groups):
    encoder = s.build("olmoearth", s.spec(bands), weights=checkpoint, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert len(encoder.places) == groups
    s.keeps_its_promises(encoder, (32, 48))


def test_missing_bands_are_left_out_and_the_rest_scaled(state, checkpoint):
    encoder = s.build("olmoearth", s.spec(("B8", "B2")), weights=checkpoint, **SMALL)
    encoder.initialise()
    name = "patch_embeddings.per_modality_embeddings.sentinel2_l2a.sentinel2_l2a__0.proj.weight"
    torch.testing.assert_close(encoder.trunk.get_parameter(name).detach(), state[f"encoder.{name}"][:, [3, 0]] * 2)


def test_b10_which_weights_do_not_know_is_made_from_its_neighbours(checkpoint):
    report = s.build("olmoearth", s.spec(s.SENTINEL2), weights=checkpoint, **SMALL).initialise()
    assert "by wavelength 1373.5 nm" in dict(report.channels)["B10"] or "nearest" in dict(report.channels)["B10"]


def test_feature_is_the_mean_over_tokens_of_a_sensor_then_over_sensors():
    encoder = s.build("olmoearth", s.spec((*L2A, "VV", "VH"), (16, 16)), **SMALL)
    tokens = torch.randn(2, 2, 4, 3, 32)
    seen = torch.tensor([[True, True], [False, True]])[:, :, None].expand(-1, -1, 4)
    both = (tokens[0, :, :3].mean((0, 1)) + tokens[0, :, 3].mean(0)) / 2
    second = (tokens[1, 1, :3].mean(0) + tokens[1, 1, 3]) / 2
    torch.testing.assert_close(encoder.mean_of_dates(tokens, seen), torch.stack((both, second)))


@pytest.mark.parametrize("patch", [1, 4, 8])
def test_patches_of_other_sizes(checkpoint, patch):
    encoder = s.build("olmoearth", s.spec(L2A), weights=checkpoint, patch=patch, **SMALL)
    assert encoder.initialise().share == 1
    shape = (2 * patch, 3 * patch)
    s.keeps_its_promises(encoder, shape)
    assert encoder.features[0].stride == (patch, patch)


@pytest.mark.parametrize("version", ["v1", "v1.2"])
def test_month_and_place_matter(version):
    flat = torch.ones(1, 3, 24, 24)
    july = s.build("olmoearth", s.spec(), version=version, **SMALL)
    january = s.build("olmoearth", s.spec(), version=version, month=1, **SMALL)
    tokens = s.features(july, flat)[-1][0]
    assert not torch.allclose(tokens, s.features(january, flat)[-1][0])
    assert version == "v1.2" or torch.cdist(tokens, tokens)[0, 4] > 1e-3
    textured = s.noise(july, (24, 24))
    mirrored = s.features(july, textured.flip(3))[-1].unflatten(1, (3, 3)).flip(2).flatten(1, 2)
    assert not torch.allclose(s.features(july, s.noise(july, (24, 24)))[-1], mirrored, atol=1e-4)


def test_size_of_a_cell_is_that_of_the_data_unless_set():
    fine = s.build("olmoearth", s.spec(spacing=(10.0, 5.0)), patch=4, **SMALL)
    assert fine.steps == (4.0, 2.0)
    assert s.build("olmoearth", s.spec(), patch=4, cell_m=20.0, **SMALL).steps == (8.0, 8.0)


@pytest.mark.parametrize("version", olmoearth.PUBLISHED)
@pytest.mark.parametrize("size", olmoearth.SIZES)
def test_every_size_builds_on_the_meta_device(version, size):
    about = s.spec((*L2A, "VV", "VH"))
    encoder = s.builds_on_meta("olmoearth", about, (32, 48), size=size, version=version)
    assert encoder.features[0].channels == olmoearth.SIZES[size].embed_dim


def test_statistics_of_the_data_are_compared(checkpoint):
    encoder = s.build("olmoearth", s.spec(), weights=checkpoint, **SMALL)
    report = encoder.initialise({"mean": [0.15, 0.14, 0.12], "std": [0.17, 0.17, 0.19]})
    assert any("std of the data is far" in w and "plan.std=[1741,1728,1859]" in w for w in report.warnings)
    near = encoder.initialise({"mean": [1500, 1400, 1200], "std": [1700, 1700, 1900]})
    assert not any("far from" in w for w in near.warnings)


def test_own_checkpoint_loads_into_other_bands(tmp_path):
    first = s.build("olmoearth", s.spec(("B8", "B4", "VV")), **SMALL)
    path = p.saved(tmp_path / "own.pt", {f"encoder.net.{n}": t for n, t in first.trunk.state_dict().items()})
    second = s.build("olmoearth", s.spec(("VV", "B4", "B8")), weights=path, trained_on=["B8", "B4", "VV"], **SMALL)
    report = second.initialise()
    assert report.share == 1
    name = "patch_embeddings.per_modality_embeddings.sentinel2_l2a.sentinel2_l2a__0.proj.weight"
    torch.testing.assert_close(second.trunk.get_parameter(name), first.trunk.get_parameter(name)[:, [1, 0]])


def test_published_weights_are_asked_for_by_version_and_size(monkeypatch, checkpoint):
    asked = []
    monkeypatch.setattr(published, "read", lambda name: asked.append(name) or read(checkpoint))
    encoder = s.build("olmoearth", s.spec(L2A), size="tiny", version="v1.1", weights="pretrained", **SMALL)
    encoder.fetch("pretrained")
    assert asked == ["hf-hub:allenai/OlmoEarth-v1_1-Tiny/weights.pth"]
    with pytest.raises(
        InputError, match=r"none are published of size small; choose model\.encoder\.size=nano or tiny or base or large"
    ):
        s.build("olmoearth", s.spec(L2A), size="small", weights="pretrained", **SMALL).initialise()


def test_a_kernel_of_other_bands_is_refused(state, tmp_path):
    name = "encoder.patch_embeddings.per_modality_embeddings.sentinel2_l2a.sentinel2_l2a__0.proj.weight"
    path = p.saved(tmp_path / "weights.pth", state | {name: torch.zeros(32, 3, 8, 8)})
    encoder = s.build("olmoearth", s.spec(L2A), weights=path, **SMALL)
    with pytest.raises(InputError, match=r"wrong shape: .*_l2a__0.proj.weight \[32, 3, 8, 8\] in the file"):
        encoder.initialise()


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
        (s.spec(("B2", "DEM")), {}, r"encoder olmoearth has no kind of token for DEM; it takes B2, B3, .* leave the"),
        (s.spec(), {"size": "giant"}, "size=giant: expected one of nano, tiny, small, base, large"),
        (s.spec(), {"version": "v2"}, "version=v2: expected one of v1, v1.1, v1.2"),
        (s.spec(), {"sensor": "naip"}, "sensor=naip: expected one of sentinel2_l2a, landsat, or null"),
        (s.spec(), {"patch": 16}, "patch=16: expected 1 to 8 cells"),
        (s.spec(), {"month": 0}, "month=0: expected a month from 1 to 12"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("olmoearth", about, **SMALL | settings)


def test_thermal_bands_belong_to_landsat_only():
    about = of_sensors((OLI, "landsat-8"))
    assert set(s.build("olmoearth", about, **SMALL).places) == {"landsat__0", "landsat__1"}
    with pytest.raises(InputError, match="no kind of token for B10, B11"):
        s.build("olmoearth", about, sensor="sentinel2_l2a", **SMALL)
