"""MonaiResNet beside MONAI's own, from files with MedicalNet's names."""

from functools import partial

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from monai.networks.nets.resnet import ResNet

from medseg.errors import InputError
from medseg.models.encoders.encoder import check_features
from medseg.models.monai.resnet_encoder import MonaiResNet, Thinned
from tests.models.encoders.spectral import assert_close, recorded
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec, written

WIDTH = 8
KINDS = {  # by depth: block, layers, shortcut
    10: ("basic", [1, 1, 1, 1], "B"),
    18: ("basic", [2, 2, 2, 2], "A"),
    50: ("bottleneck", [3, 4, 6, 3], "B"),
}


def upstream(depth: int = 10, ndim: int = 3, channels: int = 1, *, bias: bool = False, stride: int = 2) -> ResNet:
    block, layers, shortcut = KINDS[depth]
    net = ResNet(
        block, layers, [WIDTH * 2**i for i in range(4)], ndim, channels, conv1_t_stride=stride,
        shortcut_type=shortcut, feed_forward=False, bias_downsample=bias,
    )  # fmt: skip
    return scrambled(net)


def expected(net: ResNet, image: torch.Tensor) -> list[torch.Tensor]:
    stages = [net.act, net.layer1, net.layer2, net.layer3, net.layer4]
    return recorded(stages, lambda: net(image))[:5]


@pytest.mark.parametrize(("depth", "ndim"), [(10, 3), (18, 3), (50, 3), (18, 2)])
def test_takes_the_names_of_medicalnet(tmp_path, depth, ndim):
    net, image = upstream(depth, ndim), noise(1, 1, *(64, 32, 32)[:ndim])
    file = written(tmp_path / "resnet_23dataset.pth", net.state_dict(), "module.")
    encoder = MonaiResNet(spec((32,) * ndim), depth=depth, width=WIDTH, weights=file)
    assert encoder.initialise().share == 1
    assert_close(features(encoder, image), expected(net, image))


def test_a_bias_before_a_normalisation_is_taken_into_it(tmp_path):
    net, image = upstream(bias=True), noise(1, 1, 32, 32, 32)
    assert net.layer2[0].downsample[0].bias.abs().min() > 0
    encoder = MonaiResNet(spec(), depth=10, width=WIDTH, weights=written(tmp_path / "a.pt", net.state_dict()))
    report = encoder.initialise()
    assert not [row for row in report.rows if row.how == "unexpected"]
    assert_close(features(encoder, image), expected(net, image))


@pytest.mark.parametrize(
    ("ndim", "channels"), [(3, MODALITIES[2]), (3, MODALITIES[4]), (2, BANDS[2]), (2, BANDS[5]), (2, BANDS[13])]
)
def test_other_channels_than_one_respond_alike_where_all_are_equal(tmp_path, ndim, channels):
    net, image = upstream(ndim=ndim), noise(1, 1, *(32,) * ndim)
    file = written(tmp_path / "a.pt", net.state_dict())
    encoder = MonaiResNet(spec((32,) * ndim, channels), depth=10, width=WIDTH, weights=file)
    assert encoder.initialise().share == 1
    check_features(encoder, len(channels), (32,) * ndim)
    equal = image.expand(-1, len(channels), *image.shape[2:])
    assert_close(features(encoder, equal), expected(net, image))


def test_stem_may_stride_less_along_some_axis():
    encoder = MonaiResNet(spec(), depth=10, width=WIDTH, stem_stride=(2, 2, 1))
    assert encoder.divisor == (32, 32, 16)
    assert encoder.features[1].stride == (4, 4, 2)
    check_features(encoder, 1, (64, 32, 48))


def test_thinned_shortcut_is_monais_but_for_the_gradient():
    net, feature = upstream(18), noise(1, 4, 5, 6, 7)
    theirs = net._downsample_basic_block(feature, 10, 2)
    mine = feature.clone().requires_grad_()
    given = Thinned(10, 2)(mine)
    torch.testing.assert_close(given, theirs, rtol=0, atol=0)
    given.sum().backward()
    assert mine.grad.sum() == 4 * 3 * 3 * 4


@pytest.mark.parametrize("depth", [10, 18])
def test_learns_beneath_a_decoder(depth):
    learns(partial(MonaiResNet, depth=depth, width=WIDTH), spec(channels=MODALITIES[2]))


def test_pretrained_is_medicalnets_and_names_a_file_where_there_is_no_network(tmp_path, monkeypatch):
    asked = []

    def missing(repository, file, **_):
        asked.append((repository, file))
        raise LocalEntryNotFoundError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    monkeypatch.setattr("medseg.weights.hub._reach", lambda *_: None)
    for depth in (10, 101):
        with pytest.raises(InputError, match=r"can't be reached.*model\.encoder\.weights=FILE"):
            MonaiResNet(spec(), depth=depth, width=WIDTH, weights="pretrained").initialise()
    assert asked == [
        ("TencentMedicalNet/MedicalNet-Resnet10", "resnet_10_23dataset.pth"),
        ("TencentMedicalNet/MedicalNet-Resnet101", "resnet_101.pth"),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 20}, "depth=20: expected one of 10, 18, 34"),
        ({"shortcut": "C"}, "shortcut=C: expected A, B or null"),
        ({"stem_stride": (2, 1)}, r"stem_stride=\[2, 1\]: expected one number, or 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        MonaiResNet(spec(), width=WIDTH, **settings)
