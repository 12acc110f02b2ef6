"""SwinViT beside MONAI's own, from files with the names of those that MONAI publishes."""

import re
from functools import partial
from urllib.error import URLError

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR, filter_swinunetr

from medseg.errors import InputError
from medseg.models.encoders.encoder import check_features
from medseg.models.monai.swin_encoder import SwinViT
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec, written

SMALL = {"feature_size": 12, "depths": (1, 1, 1, 2), "num_heads": (2, 2, 2, 2), "window_size": 3}
FC = {"linear1": "fc1", "linear2": "fc2"}


def upstream(ndim: int = 3, channels: int = 1, **settings: object) -> SwinUNETR:
    net = SwinUNETR(channels, 2, spatial_dims=ndim, **{**SMALL, **settings})
    return scrambled(net)


@torch.no_grad()
def expected(net: SwinUNETR, image: torch.Tensor) -> list[torch.Tensor]:
    return net.swinViT(image, net.normalize)


def self_supervised(net: SwinUNETR) -> dict[str, torch.Tensor]:
    """Its Swin transformer under the names of ``model_swinvit.pt``."""
    own = net.swinViT.state_dict()
    state = {f"module.{re.sub('linear[12]', lambda m: FC[m[0]], k)}": v for k, v in own.items()}
    return state | {"module.norm.weight": torch.ones(96), "module.rotation_head.weight": torch.ones(4, 96)}


def test_takes_the_file_that_monais_own_loader_takes(tmp_path):
    net, image = upstream(), noise(1, 1, 32, 32, 64)
    file = written(tmp_path / "model_swinvit.pt", self_supervised(net), epoch=1)
    upstream().load_from(torch.load(file, weights_only=True))  # no KeyError: these are its names
    encoder = SwinViT(spec(), **SMALL, weights=file)
    report = encoder.initialise()
    assert report.share == 1
    assert {row.name for row in report.rows if row.how == "unexpected"} == {
        "module.norm.weight",
        "module.rotation_head.weight",
    }
    assert_close(features(encoder, image), expected(net, image))


def test_takes_disruptive_autoencoders(tmp_path):
    net, image = upstream(), noise(1, 1, 32, 32, 32)
    state = {}
    for name, tensor in net.swinViT.state_dict().items():
        theirs = "encoder." + re.sub(r"^(layers\d\.0)\.", r"\1.0.", name)
        assert filter_swinunetr(theirs, tensor)[0] == f"swinViT.{name}"  # MONAI's own renaming agrees
        state[theirs] = tensor
    torch.save({"model": state | {"encoder.mask_token": torch.ones(1, 1, 12)}}, tmp_path / "ssl.pth")
    encoder = SwinViT(spec(), **SMALL, weights=str(tmp_path / "ssl.pth"))
    assert encoder.initialise().share == 1
    assert_close(features(encoder, image), expected(net, image))


@pytest.mark.parametrize(("ndim", "use_v2"), [(3, True), (2, False)])
def test_takes_whole_swin_unetrs(tmp_path, ndim, use_v2):
    net, image = upstream(ndim, use_v2=use_v2), noise(2, 1, *(32, 64, 32)[:ndim])
    encoder = SwinViT(spec((32,) * ndim), **SMALL, use_v2=use_v2, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    assert_close(features(encoder, image), expected(net, image))


@pytest.mark.parametrize(
    ("ndim", "channels"), [(3, MODALITIES[2]), (3, MODALITIES[4]), (2, BANDS[2]), (2, BANDS[5]), (2, BANDS[13])]
)
def test_other_channels_than_one_respond_alike_where_all_are_equal(tmp_path, ndim, channels):
    net, image = upstream(ndim), noise(1, 1, *(32,) * ndim)
    encoder = SwinViT(spec((32,) * ndim, channels), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    check_features(encoder, len(channels), (32,) * ndim)
    equal = image.expand(-1, len(channels), *image.shape[2:])
    assert_close(features(encoder, equal), expected(net, image))


def test_other_windows_get_resampled_offsets(tmp_path):
    file = written(tmp_path / "a.pt", self_supervised(upstream()))
    encoder = SwinViT(spec(), **{**SMALL, "window_size": 4}, weights=file)
    report = encoder.initialise()
    assert report.share == 1
    adapted = {row.name.rpartition(".")[2] for row in report.rows if row.how == "adapted"}
    assert adapted == {"relative_position_bias_table"}


def test_learns_beneath_a_decoder():
    learns(partial(SwinViT, **SMALL), spec(channels=MODALITIES[2]))


def test_pretrained_reads_torchs_cache_and_names_a_file_where_there_is_no_network(tmp_path, monkeypatch):
    encoder = SwinViT(spec(), **SMALL, weights="pretrained")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def fail(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError, match=r"model_swinvit\.pt can't be downloaded \(URLError\).*weights=FILE"):
        encoder.initialise()
    written(tmp_path / "checkpoints/model_swinvit.pt", self_supervised(upstream()))
    report = encoder.initialise()
    assert report.share == 1
    assert "HU from -1000 to 1000" in report.normalisation


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depths": (2, 2)}, r"expected four depths .* got \[2, 2\]"),
        ({"feature_size": 13}, "feature_size=13, doubled"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        SwinViT(spec(), **{**SMALL, **settings})
