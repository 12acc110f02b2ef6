"""MonaiViT beside MONAI's own, from whole UNETRs and from the older form with a linear embedding."""

from functools import partial

import pytest
import torch
from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT
from monai.networks.nets.unetr import UNETR
from monai.networks.nets.vit import ViT

from medseg.errors import InputError
from medseg.models.encoders.encoder import check_features
from medseg.models.monai.vit_encoder import MonaiViT
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec, written

SMALL = {"hidden_size": 24, "mlp_dim": 32, "num_heads": 3}


def upstream(ndim: int = 3, channels: int = 1, **settings: object) -> ViT:
    net = ViT(channels, (32,) * ndim, (16,) * ndim, spatial_dims=ndim, num_layers=12, **SMALL, **settings)
    return scrambled(net)


@torch.no_grad()
def expected(net: ViT, image: torch.Tensor) -> list[torch.Tensor]:
    last, hidden = net(image)
    return [hidden[2], hidden[5], hidden[8], last]


@pytest.mark.parametrize("ndim", [2, 3])
def test_takes_whole_unetrs(tmp_path, ndim):
    shape = (32, 64, 32)[:ndim]
    net = scrambled(UNETR(2, 3, shape, feature_size=4, spatial_dims=ndim, **SMALL))
    encoder = MonaiViT(spec(shape, MODALITIES[2]), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    image = noise(2, 2, *shape)
    assert_close(features(encoder, image), expected(net.vit, image))


def test_a_linear_map_of_patches_becomes_the_same_convolution(tmp_path):
    net, image = upstream(channels=2, proj_type="perceptron"), noise(1, 2, 32, 32, 32)
    file = written(tmp_path / "a.pt", net.state_dict(), "module.vit.")
    encoder = MonaiViT(spec(channels=MODALITIES[2]), **SMALL, weights=file)
    assert encoder.initialise().share == 1
    assert_close(features(encoder, image), expected(net, image))


def test_takes_masked_autoencoders_without_the_class_token(tmp_path):
    sizes = {"decoder_hidden_size": 12, "decoder_mlp_dim": 12, "decoder_num_heads": 2}
    kinds = {"pos_embed_type": "learnable", "decoder_pos_embed_type": "learnable"}
    net = scrambled(MaskedAutoEncoderViT(1, (32,) * 3, (16,) * 3, num_layers=12, **SMALL, **sizes, **kinds))
    encoder = MonaiViT(spec(), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict(), "module."))
    assert encoder.initialise().share == 1
    image = noise(1, 1, 32, 32, 32)
    with torch.no_grad():
        expected = net.blocks(net.patch_embedding(image))
    torch.testing.assert_close(features(encoder, image)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ndim", "channels"), [(3, MODALITIES[2]), (3, MODALITIES[4]), (2, BANDS[2]), (2, BANDS[5]), (2, BANDS[13])]
)
def test_other_channels_than_one_respond_alike_where_all_are_equal(tmp_path, ndim, channels):
    net, image = upstream(ndim), noise(1, 1, *(32,) * ndim)
    encoder = MonaiViT(spec((32,) * ndim, channels), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    check_features(encoder, len(channels), (32,) * ndim)
    equal = image.expand(-1, len(channels), *image.shape[2:])
    assert_close(features(encoder, equal), expected(net, image))


def test_positions_are_resampled_to_the_patch_on_its_own_axes(tmp_path):
    net = upstream()
    encoder = MonaiViT(spec((64, 30, 32)), **SMALL, weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.fixed_shape == (64, 32, 32)
    encoder.initialise()
    old = net.patch_embedding.position_embeddings.detach().reshape(1, 2, 2, 2, 24).movedim(-1, 1)
    new = torch.nn.functional.interpolate(old, (4, 2, 2), mode="trilinear", align_corners=False)
    found = encoder.trunk.patch_embedding.position_embeddings.detach()
    torch.testing.assert_close(found, new.movedim(1, -1).reshape(1, 16, 24))


def test_early_features_leave_out_what_follows_them(tmp_path):
    net, image = upstream(), noise(1, 1, 32, 32, 32)
    encoder = MonaiViT(spec(), **SMALL, indices=(1, 4), weights=written(tmp_path / "a.pt", net.state_dict()))
    assert encoder.initialise().share == 1
    with torch.no_grad():
        hidden = net(image)[1]
    assert_close(features(encoder, image), [hidden[1], hidden[4]])
    assert len(encoder.trunk.blocks) == 5


def test_parts_of_it_make_the_whole():
    encoder, image = scrambled(MonaiViT(spec(), num_layers=3, **SMALL)), noise(2, 1, 32, 32, 32)
    with torch.no_grad():
        tokens = encoder.embed(image)
        torch.testing.assert_close(encoder.attend(tokens), features(encoder, image)[-1])
        assert encoder.attend(tokens[:, 2:5]).shape == (2, 3, 24)


def test_tokens_may_be_longer_on_some_axes():
    encoder = MonaiViT(spec((32, 32, 12)), token=(16, 16, 4), num_layers=2, **SMALL)
    assert encoder.divisor == (16, 16, 4)
    check_features(encoder, 1, (32, 32, 12))


def test_learns_beneath_a_decoder():
    learns(partial(MonaiViT, num_layers=4, token=8, **SMALL), spec((16, 16, 16), MODALITIES[2]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_heads": 5}, "hidden_size=24 must be a multiple of num_heads=5"),
        ({"token": (16, 16)}, r"token=.*expected cells of a token, one number or 3"),
        ({"indices": (3, 12)}, "expected blocks in rising order, each from 0 to 11"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        MonaiViT(spec(), **{**SMALL, **settings})
