"""MonaiSegResNet beside MONAI's SegResNet and SegResNetDS."""

from functools import partial

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResNetDS, SegResNetDS2

from medseg.errors import InputError
from medseg.models.encoders.encoder import check_features
from medseg.models.monai.segresnet_encoder import MonaiSegResNet
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec, written

SMALL = {"init_filters": 8, "blocks": (1, 1, 2)}


def plain(ndim: int = 3, channels: int = 1) -> SegResNet:
    return scrambled(SegResNet(ndim, 8, channels, blocks_down=(1, 1, 2), blocks_up=(1, 1)))


@torch.no_grad()
def expected(net: SegResNet, image: torch.Tensor) -> list[torch.Tensor]:
    return net.encode(image)[1]


@pytest.mark.parametrize("ndim", [2, 3])
def test_takes_whole_segresnets(tmp_path, ndim):
    net, image = plain(ndim), noise(2, 1, *(16, 24, 16)[:ndim])
    encoder = MonaiSegResNet(spec((16,) * ndim), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    assert_close(features(encoder, image), expected(net, image))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_takes_whole_segresnet_ds(tmp_path, norm):
    net = scrambled(SegResNetDS(3, 8, 1, norm=norm, blocks_down=(1, 1, 2)))
    file = written(tmp_path / "a.pt", net.state_dict())
    encoder = MonaiSegResNet(spec(), kind="ds", norm=norm, **SMALL, weights=file)
    assert encoder.initialise().share == 1
    image = noise(1, 1, 16, 24, 16)
    with torch.no_grad():
        assert_close(features(encoder, image), net.encoder(image))


def test_takes_the_image_encoder_of_vista3d(tmp_path):
    net = scrambled(SegResNetDS2(3, 8, 1, norm="instance", blocks_down=(1, 1, 2)))
    file = written(tmp_path / "model.pt", net.state_dict(), "image_encoder.")
    encoder = MonaiSegResNet(spec(), kind="ds", norm="instance", **SMALL, weights=file)
    assert encoder.initialise().share == 1
    image = noise(1, 1, 16, 16, 24)
    with torch.no_grad():
        assert_close(features(encoder, image), net.encoder(image))


def test_strides_and_kernels_follow_the_spacing(tmp_path):
    spacing = [1.0, 1.0, 3.0]
    net = scrambled(SegResNetDS(3, 8, 1, norm="instance", blocks_down=(1, 1, 1, 1), resolution=spacing))
    file = written(tmp_path / "a.pt", net.state_dict())
    encoder = MonaiSegResNet(
        spec(spacing=spacing), kind="ds", norm="instance", init_filters=8, blocks=(1, 1, 1, 1), anisotropic=True,
        weights=file,
    )  # fmt: skip
    assert [f.stride for f in encoder.features] == [(1, 1, 1), (2, 2, 1), (4, 4, 2), (8, 8, 4)]
    assert encoder.divisor == tuple(net.shape_factor())
    assert encoder.initialise().share == 1
    image = noise(1, 1, 16, 24, 12)
    check_features(encoder, 1, image.shape[2:])
    with torch.no_grad():
        assert_close(features(encoder, image), net.encoder(image))


@pytest.mark.parametrize(
    ("ndim", "channels"), [(3, MODALITIES[2]), (3, MODALITIES[4]), (2, BANDS[2]), (2, BANDS[5]), (2, BANDS[13])]
)
def test_other_channels_than_one_respond_alike_where_all_are_equal(tmp_path, ndim, channels):
    net, image = plain(ndim), noise(1, 1, *(16,) * ndim)
    file = written(tmp_path / "a.pt", net.state_dict())
    encoder = MonaiSegResNet(spec((16,) * ndim, channels), **SMALL, weights=file)
    assert encoder.initialise().share == 1
    check_features(encoder, len(channels), (16,) * ndim)
    equal = image.expand(-1, len(channels), *image.shape[2:])
    assert_close(features(encoder, equal), expected(net, image))


@pytest.mark.parametrize("settings", [{}, {"kind": "ds", "norm": "batch"}])
def test_learns_beneath_a_decoder(settings):
    learns(partial(MonaiSegResNet, **SMALL, **settings), spec((16, 16, 16), MODALITIES[2]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "dd"}, "kind=dd, norm=group: expected plain or ds; group, instance, batch"),
        ({"norm": "layer"}, "norm=layer: expected"),
        ({"init_filters": 12}, "init_filters=12 must be a multiple of 8"),
        ({"anisotropic": True}, "anisotropic needs kind=ds"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        MonaiSegResNet(spec(), **{**SMALL, **settings})
