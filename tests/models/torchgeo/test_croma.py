"""CROMA beside torchgeo's own."""

import pytest
import torch
from torchgeo.models.croma import CROMA, get_2dalibi

from medseg.errors import InputError
from medseg.models.torchgeo.croma import distance_bias
from tests.models.encoders import spectral as s

SMALL = {"embed_dim": 32, "depth": 4}
BANDS = tuple(band for band in s.SENTINEL2 if band != "B10")
PARTS = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
SIDE = 48


@pytest.fixture(scope="module")
def upstream():
    torch.manual_seed(5)
    return s.moved(CROMA(encoder_dim=32, encoder_depth=4, image_size=SIDE))


@pytest.fixture(scope="module")
def checkpoint(upstream, tmp_path_factory):
    """As the authors publish it: the state of each transformer under its own key."""
    path = tmp_path_factory.mktemp("croma") / "CROMA_small.pt"
    torch.save({name: getattr(upstream, name).state_dict() for name in PARTS}, path)
    return path


@pytest.mark.parametrize(
    "bands, key",
    [(BANDS, "optical_encodings"), (("VV", "VH"), "sar_encodings"), (("VV", *BANDS, "VH"), "joint_encodings")],
)
def test_weights_of_the_authors_give_their_features(upstream, checkpoint, bands, key):
    encoder = s.build("croma", s.spec(bands, (SIDE, SIDE), sensor=None), weights=str(checkpoint), **SMALL)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.how for row in report.rows} == {"copied"}
    assert [origin for _, origin in report.channels] == [f"copied from {c}" for c, _ in report.channels]
    image = s.noise(encoder, (SIDE, SIDE), batch=2)
    radar = [bands.index(band) for band in ("VV", "VH")] if "VV" in bands else [0, 0]
    optical = [bands.index(band) for band in BANDS] if "B2" in bands else [0] * 12
    with torch.no_grad():
        s.assert_close([s.features(encoder, image)[-1]], [upstream(image[:, radar], image[:, optical])[key]])


def test_features_are_those_of_the_blocks(upstream, checkpoint):
    encoder = s.build("croma", s.spec(BANDS, (SIDE, SIDE)), weights=str(checkpoint), **SMALL)
    encoder.initialise()
    image = s.noise(encoder, (SIDE, SIDE))
    last = upstream.s2_encoder.transformer
    grown = s.recorded([feed for _, feed in last.layers], lambda: upstream(image[:, :2], image))
    attended = s.recorded([attend for attend, _ in last.layers], lambda: upstream(image[:, :2], image))
    with torch.no_grad():
        tokens = upstream.s2_encoder.linear_input(_patches(image))
        expected = []
        for by_attention, by_feeding in zip(attended, grown, strict=True):
            tokens = tokens + by_attention + by_feeding
            expected.append(last.norm_out(tokens))
    s.assert_close(s.features(encoder, image), expected)


def _patches(image):
    side = SIDE // 8
    return torch.stack([
        image[:, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].flatten(1) for i in range(side) for j in range(side)
    ], dim=1)  # fmt: skip


def test_bias_is_that_of_the_authors_and_turns_with_the_grid():
    torch.testing.assert_close(distance_bias(3, 3, torch.device("cpu")), get_2dalibi(16, 9))
    wide, tall = (
        distance_bias(*grid, torch.device("cpu")).unflatten(2, grid).unflatten(4, grid) for grid in ((2, 3), (3, 2))
    )
    torch.testing.assert_close(wide, tall.permute(0, 1, 3, 2, 5, 4))


@pytest.mark.parametrize("bands", [*s.SOME.values(), ("VV",), ("B4", "VH", "B8")])
def test_any_bands_on_any_shape(checkpoint, bands):
    encoder = s.build("croma", s.spec(bands, sensor=None), weights=str(checkpoint), **SMALL)
    assert encoder.initialise().share == 1
    s.keeps_its_promises(encoder, (32, 48))


def test_bands_that_the_data_lacks_are_left_out(upstream, checkpoint):
    encoder = s.build("croma", s.spec(("B8", "B4")), weights=str(checkpoint), **SMALL)
    encoder.initialise()
    kernel = upstream.s2_encoder.linear_input.weight.detach().unflatten(1, (12, 64))
    found = encoder.trunk.s2_encoder.linear_input.weight.detach().unflatten(1, (2, 64))
    torch.testing.assert_close(found, kernel[:, [7, 3]] * 12 / 2)


def test_own_checkpoint_loads_in_another_order_of_channels(tmp_path):
    first = s.build("croma", s.spec(("VV", "B2", "B3")), **SMALL)
    path = tmp_path / "own.pt"
    torch.save({f"encoder.net.{name}": t for name, t in first.trunk.state_dict().items()}, path)
    second = s.build("croma", s.spec(("VV", "B2", "B3")), weights=str(path), **SMALL)
    torch.manual_seed(9)
    assert second.initialise().share == 1
    assert second.trunk.joint_encoder.layers[0][0].to_qkv.weight.equal(
        first.trunk.joint_encoder.layers[0][0].to_qkv.weight
    )


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"size": "small"}, "expected one of base, large"),
        (s.spec(), {"embed_dim": 40}, "embed_dim=40: expected a multiple of 16"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("croma", about, **SMALL | settings)


def test_a_file_of_one_modality_does_not_fill_the_other(upstream, tmp_path):
    path = tmp_path / "radar.pt"
    torch.save({"s1_encoder": upstream.s1_encoder.state_dict()}, path)
    encoder = s.build("croma", s.spec(BANDS), weights=str(path), **SMALL)
    with pytest.raises(InputError, match="no such part; the nearest are s1_encoder"):
        encoder.initialise()
