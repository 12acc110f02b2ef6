"""Inflated beside the encoder of images whose files it takes."""

import copy
import pickle
from functools import partial

import pytest
import timm
import torch
from hydra.utils import instantiate
from torch import nn

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.models.encoders.encoder import check_features
from medseg.models.encoders.inflated import Inflated
from medseg.models.encoders.slice_wise import SliceWise
from medseg.models.timm.encoder import Timm
from medseg.weights import load
from medseg.weights.pretrained import read
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec

NAME = "test_resnet"
SMALL = ["test_resnet", "test_convnext", "test_convnext2"]
LARGER = [
    "resnet10t", "convnextv2_atto", "regnety_002", "densenet121", "test_efficientnet_gn", "test_efficientnet_ln",
    "mobilenetv3_small_050", "mobilenetv4_conv_small",
]  # fmt: skip
"""With pools of both kinds, squeeze and excitation, response normalisation, norms of groups and of channels."""


def upstream(name: str = NAME, channels: int = 1) -> nn.Module:
    return scrambled(timm.create_model(name, in_chans=channels, pretrained=False))


def saved(tmp_path, net) -> str:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    return str(tmp_path / "net.pt")


@torch.no_grad()
def of_images(encoder: Inflated, net: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Features of the upstream's own forward pass, those that the encoder gives."""
    given = net.forward_intermediates(image, intermediates_only=True)
    strides = [image.shape[-1] // g.shape[-1] for g in given]
    last = dict(zip(strides, given, strict=True))
    return [last[max(f.stride)] for f in encoder.features]


@pytest.mark.parametrize(
    ("name", "depth_stride"),
    [
        *((n, stride) for n in SMALL for stride in (True, False)), ("test_efficientnet", True),
        *(pytest.param(n, True, marks=pytest.mark.slow) for n in LARGER),
    ],
)  # fmt: skip
def test_constant_along_the_axis_every_slice_is_that_of_the_image(tmp_path, name, depth_stride):
    net, image = upstream(name), noise(*((1, 1, 32, 32) if name in LARGER else (2, 1, 32, 64)))
    within = partial(Timm, name=name, weights=saved(tmp_path, net))
    encoder = Inflated(spec(), of=within, depth_stride=depth_stride)
    assert encoder.initialise().share == 1
    depth = 32 if depth_stride else 3
    given = features(encoder, image[..., None].expand(-1, -1, -1, -1, depth))
    for feature, expected in zip(given, of_images(encoder, net, image), strict=True):
        assert feature.shape[-1] == (depth * expected.shape[-2] // 32 if depth_stride else depth)
        assert (feature - expected[..., None]).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", SMALL)
def test_spread_kernels_agree_away_from_the_ends(tmp_path, name):
    net, image = upstream(name), noise(1, 1, 32, 64)
    encoder = Inflated(spec(), of=partial(Timm, name=name), depth_stride=False)
    found = read(saved(tmp_path, net))
    load.load(encoder.trunk, found, stem=encoder.stem, channels=encoder.channels, inflate="mean")
    feature = features(encoder, image[..., None].expand(-1, -1, -1, -1, 40))[0]
    expected = of_images(encoder, net, image)[0]
    torch.testing.assert_close(feature[..., 20], expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(feature[..., 0], expected, rtol=1e-2)


@pytest.mark.parametrize("name", SMALL)
def test_with_centred_kernels_and_no_stride_every_volume_begins_slice_by_slice(tmp_path, name):
    within = partial(Timm, name=name, weights=saved(tmp_path, upstream(name)))
    encoder, sliced = Inflated(spec(), of=within, depth_stride=False), SliceWise(spec(), of=within)
    assert encoder.initialise().share == sliced.initialise().share == 1
    volume = noise(2, 1, 32, 64, 3)
    assert_close(features(encoder, volume), features(sliced, volume))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_may_be_the_new_one(tmp_path, axis):
    net, image = upstream(), noise(1, 1, 32, 64)
    within = partial(Timm, name=NAME, weights=saved(tmp_path, net))
    encoder = Inflated(spec(), of=within, axis=axis, depth_stride=False)
    assert encoder.initialise().share == 1
    given = features(encoder, image.unsqueeze(axis + 2).repeat_interleave(6, axis + 2))
    assert_close([feature.select(axis + 2, 5) for feature in given], of_images(encoder, net, image))
    assert encoder.divisor[axis] == 1
    volume = noise(1, 1, *(6 if a == axis else 32 for a in range(3)))
    changed = volume.clone()
    changed.select(axis + 2, 3).add_(1.0)
    moved = scrambled(encoder)
    for one, other in zip(features(moved, volume), features(moved, changed), strict=True):
        assert (one != other).movedim(axis + 2, 0).flatten(1).any(1)[2:5].all()  # neighbours see it
    strided = Inflated(spec(), of=partial(Timm, name=NAME), axis=axis)
    assert strided.features[-1].stride == (32, 32, 32)
    check_features(strided, 1, (64, 32, 96))


@pytest.mark.parametrize("channels", [MODALITIES[1], MODALITIES[2], MODALITIES[4], BANDS[5], BANDS[13]])
def test_any_channels(tmp_path, channels):
    net, image = upstream(channels=3), noise(1, 1, 32, 32)
    within = partial(Timm, name=NAME, weights=saved(tmp_path, net))
    encoder = Inflated(spec(channels=channels), of=within)
    assert encoder.initialise().share == 1
    given = features(encoder, image[..., None].expand(-1, len(channels), -1, -1, 32))
    expected = of_images(encoder, net, image.expand(-1, 3, -1, -1))
    assert_close([feature[..., 0] for feature in given], expected)


def test_kernels_are_bounded_along_the_axis():
    encoder = Inflated(spec(), of=partial(Timm, name="test_convnext"), depth_kernel=3)
    kernels = {tuple(m.kernel_size) for m in encoder.modules() if isinstance(m, nn.Conv3d)}
    assert (7, 7, 3) in kernels
    assert max(k[2] for k in kernels) == 4  # of the patches, which tile the volume
    check_features(encoder, 1, (64, 64, 32))


def test_random_kernels_keep_the_size_of_the_response():
    torch.manual_seed(0)
    encoder, flat = Inflated(spec(), of=partial(Timm, name=NAME)), Timm(spec((32, 32)), name=NAME)
    thick = dict(encoder.trunk.named_parameters())
    for name, kernel in flat.trunk.named_parameters():
        if kernel.ndim == 4 and kernel.shape[-1] > 1:
            ratio = (thick[name].std() / kernel.std()).item() * thick[name].shape[-1] ** 0.5
            assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet"])
def test_copies_do_the_same(name):
    encoder, volume = Inflated(spec(), of=partial(Timm, name=name)), noise(1, 1, 32, 32, 32)
    expected = features(encoder, volume)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert_close(features(other, volume), expected)


def test_builds_from_its_option():
    overrides = ["model=encoder_decoder", "model/encoder=inflated", f"model.encoder.of.name={NAME}"]
    encoder = instantiate(compose("train", overrides).model.encoder)(spec())
    assert isinstance(encoder, Inflated)


def test_learns_beneath_a_decoder():
    learns(partial(Inflated, of=partial(Timm, name=NAME)), spec())


@pytest.mark.parametrize(
    ("name", "layer"),
    [("test_vit", "VisionTransformer"), ("tf_efficientnet_b0", "Conv2dSame"), ("resnetblur18", "BlurPool2d")],
)
def test_layers_that_are_not_known_are_refused(name, layer):
    with pytest.raises(InputError, match=rf"knows timm's ResNet, .* but no {layer} .*model/encoder=sliced runs any"):
        Inflated(spec(), of=partial(Timm, name=name))


def test_bad_input():
    within = partial(Timm, name=NAME)
    with pytest.raises(InputError, match=r"model/encoder=inflated: slices are of volumes, the data has 2"):
        Inflated(spec((32, 32)), of=within)
    with pytest.raises(InputError, match=r"depth_kernel=2: expected an odd number of cells, or null"):
        Inflated(spec(), of=within, depth_kernel=2)
    with pytest.raises(InputError, match=r"depth_kernel=1 nothing reaches .* model/encoder=sliced"):
        Inflated(spec(), of=within, depth_kernel=1)


def test_tensors_of_other_names_are_taken_in_order_as_in_the_inner_encoder(tmp_path):
    net = upstream()
    torch.save({f"tensor{i}": t for i, t in enumerate(net.state_dict().values())}, tmp_path / "numbered.pt")
    by_name, by_order = (
        Inflated(spec(), of=partial(Timm, name=NAME, weights=file))
        for file in (saved(tmp_path, net), str(tmp_path / "numbered.pt"))
    )
    by_name.initialise()
    report = by_order.initialise()
    assert report.share == 1
    assert any(warning.startswith("no name of the file fits") for warning in report.warnings)
    own = by_order.trunk.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in by_name.trunk.state_dict().items())
