"""Backbones by a registry that stands in for terratorch's, which is not installed for the tests.

``scripts/check_upstream.py`` compares the encoder with terratorch's own backbones.
"""

import copy
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from tests.models.encoders import spectral as s


class Tokens(nn.Module):
    """A plain transformer as terratorch has them: features of every block, positions computed for its grid."""

    def __init__(self, count: int, grid: int = 14) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(count, 8, (1, 16, 16), (1, 16, 16))})
        self.cls_token = nn.Parameter(torch.ones(1, 1, 8))
        self.register_buffer("pos_embed", torch.linspace(0, 1, 8 * (grid**2 + 1)).reshape(1, -1, 8))
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.out_channels = [8] * 6

    def forward(self, image):
        raise AssertionError("the pretraining's")

    def forward_features(self, image):
        patches = self.patch_embed.proj(image[:, :, None]).flatten(2).transpose(1, 2)
        tokens, features = torch.cat((self.cls_token.expand(len(image), -1, -1), patches), 1), []
        for block in self.blocks:
            tokens = torch.tanh(block(tokens)) + tokens + tokens.mean(1, keepdim=True) + self.pos_embed[:, :1]
            features.append(tokens)
        return features


def plain(bands=None, pretrained=False, grid=14, **kwargs):
    net = Tokens(len(bands), grid, **kwargs)
    net.bands = bands
    if pretrained:
        for parameter in net.parameters():
            nn.init.constant_(parameter, 0.5)
    net.forward = lambda image: net.forward_features(image)
    return net


class Pyramid(nn.Module):
    """Grids, the coarsest first and with channels last, as some have them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(count, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)
        self.out_channels = [6, 4]

    def forward(self, image):
        fine = self.fine(image)
        return [self.coarse(fine).movedim(1, -1), fine]


WEIGHT = SimpleNamespace(name="SENTINEL2_ALL", meta={"bands": ["B2", "B3", "B4"], "in_chans": 3}, transforms=[])


def pyramid(model_bands, pretrained=False, weights=WEIGHT, **kwargs):
    net = Pyramid(len(model_bands), **kwargs)
    net.bands = model_bands
    if pretrained:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(0.5)
    return net


class Fixed(nn.Module):
    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 16, 16)

    def forward(self, image):
        if image.shape[-1] != 224:
            raise ValueError("only 224")
        return self.conv(image)


class Vector(Fixed):
    def forward(self, image):
        return self.conv(image).mean((2, 3))


class Values(Fixed):
    def forward(self, image):
        return self.conv(image) * float(image.max())


class Registry(dict):
    find_class = dict.__getitem__


@pytest.fixture(autouse=True)
def terratorch(monkeypatch):
    module = ModuleType("terratorch.registry")
    module.BACKBONE_REGISTRY = Registry(
        plain_v1=plain, pyramid=pyramid, fixed=Fixed, vector=Vector, values=Values, terratorch_other=Fixed
    )
    monkeypatch.setitem(sys.modules, "terratorch", ModuleType("terratorch"))
    monkeypatch.setitem(sys.modules, "terratorch.registry", module)


def test_tokens_have_strides_and_evenly_spaced_features():
    encoder = s.build("terratorch", s.spec(), name="plain_v1")
    assert [(f.channels, f.stride, f.tokens, f.prefix) for f in encoder.features] == [(8, (16, 16), True, 1)] * 4
    assert (encoder.divisor, encoder.fixed_shape, encoder.stem) == ((16, 16), None, "patch_embed.proj.weight")
    image = s.noise(encoder, (32, 48))
    with torch.no_grad():
        expected = encoder.trunk.forward_features(image)
    s.assert_close(s.features(encoder, image), [expected[i] for i in (0, 2, 3, 5)])
    assert len(s.build("terratorch", s.spec(), name="plain_v1", indices=[1, 5]).features) == 2


@pytest.mark.parametrize("bands", s.SOME.values())
@pytest.mark.parametrize("name", ["plain_v1", "pyramid"])
def test_any_bands_on_any_shape(bands, name):
    s.keeps_its_promises(s.build("terratorch", s.spec(bands), name=name), (32, 48))


def test_bands_are_named_as_terratorch_does():
    names = ("B1", "B5", "B8", "B8A", "B9", "B10", "B12")
    encoder = s.build("terratorch", s.spec(names), name="pyramid")
    expected = ["COASTAL_AEROSOL", "RED_EDGE_1", "NIR_BROAD", "NIR_NARROW", "WATER_VAPOR", "CIRRUS", "SWIR_2"]
    assert encoder.trunk.bands == expected


def test_bands_of_landsat_go_by_their_wavelengths():
    encoder = s.build("terratorch", s.spec(("B2", "B5", "B6", "B7", "B10"), sensor="landsat-8"), name="plain_v1")
    assert encoder.trunk.bands == ["BLUE", "NIR_NARROW", "SWIR_1", "SWIR_2", "B10"]


def test_grids_are_sorted_and_channels_come_first():
    encoder = s.build("terratorch", s.spec(), name="pyramid")
    assert [(f.channels, f.stride) for f in encoder.features] == [(4, (4, 4)), (6, (8, 8))]


def test_a_copy_runs_itself():
    encoder = s.build("terratorch", s.spec(), name="plain_v1")
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    image = s.noise(encoder, (32, 48))
    assert not torch.allclose(s.features(encoder, image)[-1], s.features(other, image)[-1])


def test_backbones_of_one_shape_say_so():
    encoder = s.build("terratorch", s.spec(), name="fixed")
    assert encoder.fixed_shape == encoder.divisor == (224, 224)


def test_files_are_loaded_with_every_tensor(tmp_path):
    upstream = s.moved(Tokens(6, grid=20))
    path = tmp_path / "file.pt"
    torch.save({f"encoder.{k}": t for k, t in upstream.state_dict().items()}, path)
    bands = ("B2", "B3", "B4", "B8A", "B11", "B12")
    encoder = s.build("terratorch", s.spec(bands), name="plain_v1", weights=str(path), trained_on=list(bands))
    report = encoder.initialise()
    assert report.share == 1
    assert report.named("adapted", "unexpected") == []
    torch.testing.assert_close(encoder.trunk.patch_embed.proj.weight, upstream.patch_embed.proj.weight)


def test_weights_that_terratorch_downloads_are_fitted_by_name():
    encoder = s.build("terratorch", s.spec(("B4", "B2", "B8")), name="pyramid", weights="pretrained")
    report = encoder.initialise()
    assert report.share == 1
    assert dict(report.channels)["B4"] == "copied from B4"
    assert "R" not in dict(report.channels).values()
    assert (encoder.trunk.coarse.weight == 0.5).all()


def test_without_bands_of_the_weights_those_of_the_data_are_taken():
    encoder = s.build("terratorch", s.spec(), name="plain_v1", weights="pretrained")
    assert encoder.initialise().share == 1


@pytest.mark.parametrize(
    "about, settings, words",
    [
        (s.volume(), {}, "takes images of 2 spatial axes"),
        (s.spec(), {"name": "plain_v2"}, "plain_v2 is no backbone of terratorch; the nearest .* plain_v1"),
        (s.spec(), {"name": "terramind_v1_base"}, "choose model/encoder=terramind"),
        (s.spec(), {"name": "timm_resnet18"}, "choose model/encoder=timm"),
        (s.spec(), {"settings": {"width": 3}}, r"can't be built with model.encoder.settings=\{'width': 3\}: .*width"),
        (s.spec(), {"settings": {"out_indices": [1]}}, "can't be built"),
        (s.spec(), {"settings": {"ckpt_path": "a.pt"}}, r"settings\.ckpt_path: .*set model\.encoder\.weights=FILE"),
        (s.spec(), {"name": "vector"}, r"output 0 is \[1, 4\] for an image of 224 x 224, expected a grid"),
        (s.spec(), {"name": "values"}, "gives no features for an image of 224 x 224 without values"),
        (s.spec(), {"indices": [7]}, "each from 0 to 5"),
    ],
)
def test_refusals(about, settings, words):
    with pytest.raises(InputError, match=words):
        s.build("terratorch", about, **{"name": "plain_v1"} | settings)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "terratorch.registry", None)
    with pytest.raises(InputError, match=r"needs terratorch: pip install 'medseg\[terratorch\]'"):
        s.build("terratorch", s.spec())
