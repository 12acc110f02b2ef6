"""Inflated beside the encoder of images whose files it takes."""

import copy
import pickle
from functools import partial

import pytest
import timm
import torch
from hydra.utils import instantiate
from torch import nn

from medseg.command import compose
from medseg.errors import BadInput
from medseg.models.encoders.encoder import check_features
from medseg.models.encoders.inflated import Inflated
from medseg.models.encoders.sliced import Sliced
from medseg.models.encoders.timm import Timm
from medseg.weights import load
from medseg.weights.pretrained import read
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, facts, features, learns, noise, scrambled

NAME = "test_resnet"
KINDS = ["test_resnet", "test_convnext", "test_convnext2", "test_efficientnet", "test_efficientnet_gn", "resnet10t"]
"""Deep and plain stems, pools of both kinds, grouped and depthwise kernels, squeeze and excitation, layer scale."""


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
    return [last[f.stride[0]] for f in encoder.features]


@pytest.mark.parametrize(
    ("name", "depth_stride", "how"),
    [
        *((name, True, "centre") for name in KINDS),
        (NAME, False, "mean"),
        (NAME, True, "mean"),
        (KINDS[2], False, "mean"),
    ],
)
def test_constant_along_the_axis_every_slice_is_that_of_the_image(tmp_path, name, depth_stride, how):
    net, image = upstream(name), noise(2, 1, 32, 64)
    encoder = Inflated(facts(), of=partial(Timm, name=name), depth_stride=depth_stride)
    report = load.load(
        encoder.trunk, read(saved(tmp_path, net)), stem=encoder.stem, channels=encoder.channels, inflate=how
    )
    assert report.share == 1
    given = features(encoder, image[..., None].expand(-1, -1, -1, -1, 32))
    for feature, expected in zip(given, of_images(encoder, net, image), strict=True):
        assert feature.shape[-1] == (32 * expected.shape[-1] // 64 if depth_stride else 32)
        torch.testing.assert_close(feature, expected[..., None].expand_as(feature), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", KINDS[:4])
def test_with_centred_kernels_and_no_stride_every_volume_begins_slice_by_slice(tmp_path, name):
    within = partial(Timm, name=name, weights=saved(tmp_path, upstream(name)))
    encoder, sliced = Inflated(facts(), of=within, depth_stride=False), Sliced(facts(), of=within)
    assert encoder.initialise().share == sliced.initialise().share == 1
    volume = noise(2, 1, 32, 64, 5)
    assert_close(features(encoder, volume), features(sliced, volume))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_meet_along_the_new_axis_only(axis):
    encoder = scrambled(Inflated(facts(), of=partial(Timm, name=NAME), axis=axis, depth_stride=False))
    volume = noise(1, 1, *(8 if a == axis else 32 for a in range(3)))
    changed = volume.clone()
    changed.select(axis + 2, 4).add_(1.0)
    for one, other in zip(features(encoder, volume), features(encoder, changed), strict=True):
        differs = (one != other).movedim(axis + 2, 0).flatten(1).any(1)
        assert differs[3:6].all()  # neighbours see it
    assert encoder.divisor[axis] == 1
    strided = Inflated(facts(), of=partial(Timm, name=NAME), axis=axis)
    assert strided.features[-1].stride == (32, 32, 32)
    check_features(strided, 1, (64, 32, 96))


@pytest.mark.parametrize("channels", [MODALITIES[1], MODALITIES[2], MODALITIES[4], BANDS[5], BANDS[13]])
def test_any_channels(tmp_path, channels):
    net, image = upstream(channels=3), noise(1, 1, 32, 32)
    within = partial(Timm, name=NAME, weights=saved(tmp_path, net))
    encoder = Inflated(facts(channels=channels), of=within)
    assert encoder.initialise().share == 1
    given = features(encoder, image[..., None].expand(-1, len(channels), -1, -1, 32))
    expected = of_images(encoder, net, image.expand(-1, 3, -1, -1))
    assert_close([feature[..., 0] for feature in given], expected)


def test_kernels_are_bounded_along_the_axis():
    encoder = Inflated(facts(), of=partial(Timm, name="test_convnext"), depth_kernel=3)
    kernels = {tuple(m.kernel_size) for m in encoder.modules() if isinstance(m, nn.Conv3d)}
    assert (7, 7, 3) in kernels
    assert max(k[2] for k in kernels) == 4  # of the patches, which tile the volume
    check_features(encoder, 1, (64, 64, 32))


def test_random_kernels_keep_the_size_of_the_response():
    torch.manual_seed(0)
    encoder, flat = Inflated(facts(), of=partial(Timm, name=NAME)), Timm(facts((32, 32)), name=NAME)
    thick = dict(encoder.trunk.named_parameters())
    for name, kernel in flat.trunk.named_parameters():
        if kernel.ndim == 4 and kernel.shape[-1] > 1:
            ratio = (thick[name].std() / kernel.std()).item() * thick[name].shape[-1] ** 0.5
            assert 0.8 < ratio < 1.25


def test_copies_find_their_own_volumes():
    encoder = Inflated(facts(), of=partial(Timm, name=NAME)).eval()
    one, two = noise(1, 1, 32, 32, 32), noise(2, 1, 32, 32, 32)
    expected = features(encoder, two)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        features(encoder, one)
        assert_close(features(other, two), expected)


def test_builds_from_its_option():
    overrides = ["model=segmenter", "model/encoder=inflated", f"model.encoder.of.name={NAME}"]
    encoder = instantiate(compose("train", overrides).model.encoder)(facts())
    assert isinstance(encoder, Inflated)


def test_learns_beneath_a_decoder():
    learns(partial(Inflated, of=partial(Timm, name=NAME)), facts())


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_networks_in_which_nothing_joins_slices_are_refused(name):
    with pytest.raises(BadInput, match=r"nothing of this encoder would reach .* model/encoder=sliced"):
        Inflated(facts(), of=partial(Timm, name=name))


def test_bad_input():
    within = partial(Timm, name=NAME)
    with pytest.raises(BadInput, match=r"model/encoder=inflated: slices are of volumes, the data has 2"):
        Inflated(facts((32, 32)), of=within)
    with pytest.raises(BadInput, match=r"depth_kernel=2: expected an odd number of cells, or null"):
        Inflated(facts(), of=within, depth_kernel=2)
    with pytest.raises(BadInput, match=r"strides in the plane that can't .*depth_stride=false"):
        Inflated(facts(), of=partial(Timm, name="tf_efficientnet_b0"))
