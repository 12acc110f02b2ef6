"""TerraMind: files in the format of the authors, modalities by the names of channels, positions worked out apart.

``scripts/check_upstream.py`` compares features with those of the authors' network.
"""

import math

import pytest
import torch

from medseg.errors import InputError
from medseg.models.earth.terramind import GATED, MODALITIES, SIZES
from medseg.weights import report as reports
from tests.models.earth import upstream as p
from tests.models.encoders import spectral as s

WIDTH = 32
SMALL = {"embed_dim": WIDTH, "depth": 4, "num_heads": 4}
L2A = tuple(band for band in s.SENTINEL2 if band != "B10")
COUNTS = {"sen2l2a": 12, "sen2l1c": 13, "sen2rgb": 3, "sen1grd": 2, "sen1rtc": 2, "dem": 1}


def published(*, gated: bool) -> dict[str, torch.Tensor]:
    """Tensors of TerraMind_v1_*.pt: of all modalities; offsets of normalisation are buffers of 0."""
    shapes: dict[str, tuple[int, ...]] = {"encoder_norm.weight": (WIDTH,), "decoder_norm.weight": (WIDTH,)}
    for name, count in COUNTS.items():
        at = f"encoder_embeddings.untok_{name}@224"
        shapes |= {
            f"{at}.proj.weight": (WIDTH, 256 * count),
            f"{at}.mod_emb": (1, 1, WIDTH),
            f"{at}.pos_emb": (1, 196, WIDTH),
        }
    shapes |= {"encoder_embeddings.tok_lulc@224.token_emb.weight": (4375, WIDTH), "mask_token": (1, 1, WIDTH)}
    for stack in ("encoder", "decoder"):
        for i in range(4):
            block = p.block(f"{stack}.{i}", WIDTH, projections=("qkv",))
            if gated:
                block |= {f"{stack}.{i}.mlp.{fc}.weight": (85, WIDTH) for fc in ("fc1", "fc3")}
                block |= {f"{stack}.{i}.mlp.fc2.weight": (WIDTH, 85)}
                block = {k: v for k, v in block.items() if not k.endswith("bias")}
            shapes |= {k: v for k, v in block.items() if "norm" not in k or not k.endswith("bias")}
    offsets = {f"encoder.{i}.norm{n}.bias": torch.zeros(WIDTH) for i in range(4) for n in (1, 2)}
    return s.drawn(shapes) | offsets | {"encoder_norm.bias": torch.zeros(WIDTH)}


@pytest.fixture(scope="module", params=[True, False], ids=["gated", "plain"])
def file(request, tmp_path_factory):
    """Size, path and tensors."""
    state = published(gated=request.param)
    path = p.saved(tmp_path_factory.mktemp("terramind") / "TerraMind_v1.pt", state)
    return "base" if request.param else "tiny", path, state


@pytest.mark.parametrize(
    "names, settings, modalities",
    [
        (L2A, {}, ["sen2l2a"]),
        (s.SENTINEL2, {}, ["sen2l1c"]),
        (("R", "G", "B"), {}, ["sen2rgb"]),
        (("VV", "VH"), {"radar": "S1RTC"}, ["sen1rtc"]),
        ((*L2A, "VV", "VH", "DEM"), {}, ["sen2l2a", "sen1grd", "dem"]),
        (("DEM", "VH", "B4"), {"optical": "S2L1C"}, ["sen2l1c", "sen1grd", "dem"]),
    ],
)
def test_files_of_the_authors_fill_every_parameter(file, names, settings, modalities):
    size, path, _ = file
    sensor = None if "R" in names else "sentinel-2"
    encoder = s.build("terramind", s.spec(names, sensor=sensor), size=size, weights=path, **settings, **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert list(encoder.places) == [f"untok_{name}@224" for name in modalities]
    assert not any("encoder." in name and "bias" in name for name in report.named("unexpected"))
    assert all(origin.startswith("copied from") for _, origin in report.channels)
    assert len(report.channels) == len(names)


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("VV_dB", "DEM")])
@pytest.mark.parametrize("merge", ["mean", "max", "concat"])
def test_any_bands_on_any_shape(bands, merge, file):
    size, path, _ = file
    encoder = s.build("terramind", s.spec(bands), size=size, weights=path, merge=merge, **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (32, 48))


def test_bands_are_copied_by_name_and_the_rest_scaled(file):
    size, path, state = file
    encoder = s.build("terramind", s.spec(("B8", "B4", "VH")), size=size, weights=path, **SMALL)
    encoder.initialise()
    for name, places, count in (("sen2l2a", [7, 3], 12), ("sen1grd", [1], 2)):
        key = f"encoder_embeddings.untok_{name}@224.proj.weight"
        kernel = state[key].unflatten(1, (256, count))[..., places] * count / len(places)
        torch.testing.assert_close(encoder.trunk.get_parameter(key).detach(), kernel.flatten(1))


def test_a_modality_more_has_tokens_that_the_others_see(file):
    size, path, _ = file
    encoder = s.build("terramind", s.spec((*L2A, "DEM")), size=size, weights=path, merge="concat", **SMALL)
    encoder.initialise()
    image = s.noise(encoder, (32, 32))
    changed = image.index_fill(1, torch.tensor([12]), 0.0)
    first, other = (s.features(encoder, i)[-1][..., :WIDTH] for i in (image, changed))
    assert first.shape == (1, 4, WIDTH)
    assert not torch.allclose(first, other)


def test_positions_are_sines_of_row_and_column():
    encoder = s.build("terramind", s.spec(("B4",), (224, 224)), **SMALL | {"embed_dim": 16})
    found = encoder._positions((14, 14), torch.device("cpu"))[0].unflatten(0, (14, 14))
    rates = [10000 ** (-i / 4) for i in range(4)]
    for row, column in ((0, 0), (3, 5), (13, 1)):
        expected = [f(place * rate) for place in (row, column) for f in (math.sin, math.cos) for rate in rates]
        torch.testing.assert_close(found[row, column], torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_without_memory(size):
    names = (*L2A, "VV", "VH", "DEM")
    encoder = s.builds_on_meta("terramind", s.spec(names, (224, 112)), (224, 112), size=size)
    assert [f.channels for f in encoder.features] == [SIZES[size].embed_dim] * 4
    assert hasattr(encoder.trunk.encoder[0].mlp, "fc3") == (size in GATED)
    assert encoder.files[size] == f"hf-hub:ibm-esa-geospatial/TerraMind-1.0-{size}/TerraMind_v1_{size}.pt"


def test_every_band_has_statistics():
    assert all(len(m.channels) == len(m.mean) == len(m.std) for m in MODALITIES.values())
    assert [len(m.channels) for m in MODALITIES.values()] == list(COUNTS.values())


def test_statistics_of_data_in_another_unit_are_told(file):
    size, path, _ = file
    encoder = s.build("terramind", s.spec(("B4", "VV")), size=size, weights=path, **SMALL)
    report = encoder.initialise({"mean": [0.1, -12.6], "std": [0.05, 5.2]})
    assert isinstance(report, reports.Report)
    assert any("B4 0.05 instead of 2134" in line for line in report.warnings)
    assert not any("VV" in line.split(";")[0] and "instead" in line for line in report.warnings)


def test_only_the_last_block_is_normalised(file):
    size, path, _ = file
    encoder = s.build("terramind", s.spec(("B4",)), size=size, indices=[1, 2], weights=path, **SMALL)
    assert encoder.initialise().share == 1
    assert (len(encoder.trunk.encoder), len(list(encoder.trunk.encoder_norm.parameters()))) == (3, 0)


def test_a_file_of_a_larger_network_is_refused(file):
    size, path, _ = file
    encoder = s.build("terramind", s.spec(("B4",)), size=size, weights=path, **SMALL | {"depth": 2})
    with pytest.raises(InputError, match="further layers"):
        encoder.initialise()


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(("B4", "NDVI")), {}, "terramind has no kind of token for NDVI; it takes B1"),
        (s.spec(), {"size": "huge"}, "size=huge: expected one of tiny, small, base, large"),
        (s.spec(), {"optical": "S2"}, r"encoder\.optical=S2: expected S2L2A, S2L1C or RGB"),
        (s.spec(), {"radar": "GRD"}, r"encoder\.radar=GRD: expected S1GRD or S1RTC"),
        (s.spec(), {"merge": "sum"}, r"encoder\.merge=sum: expected mean, max or concat"),
        (s.spec(), {"embed_dim": 30}, "embed_dim=30: expected a multiple of 4"),
        (s.spec(), {"indices": [4]}, "each from 0 to 3"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("terramind", about, **SMALL | settings)
