"""Weights of torchgeo by enum, beside torchgeo's own networks."""

import urllib.error

import pytest
import torch
from torchgeo.models import get_model, get_weight
from torchvision.models import _api

from medseg.errors import InputError
from medseg.models.encoders.encoder import check_features
from medseg.models.torchgeo import bands as torchgeo_bands
from medseg.models.torchgeo import weights
from medseg.sensors.bands import bands_of
from tests.models.encoders import spectral as s

ENTRIES = weights.entries()
USABLE = {name: entry for name, entry in ENTRIES.items() if weights.refusal(entry[0]) is None}
MODELS = sorted({model for model, _ in USABLE.values()})
QUICK = {"resnet18", "vit_small_patch16_224", "swin_t"}
RESNET, VIT = "ResNet18_Weights.SENTINEL2_ALL_MOCO", "ViTSmall16_Weights.SENTINEL2_ALL_MOCO"
SWIN, DINO = "Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS", "ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON"
SATLAS = ("B4", "B3", "B2", "B5", "B6", "B7", "B8", "B11", "B12")
CASES = [(RESNET, s.SENTINEL2, 64), (VIT, s.SENTINEL2, 224), (DINO, s.SENTINEL2, 224), (SWIN, SATLAS, 64)]


def upstream_of(name: str) -> torch.nn.Module:
    """torchgeo's network for an entry, random, with as many channels as the entry has."""
    model, weight = ENTRIES[name]
    torch.manual_seed(5)
    if not model.startswith("swin"):
        size = {"img_size": weight.meta["img_size"]} if "img_size" in weight.meta else {}
        return s.moved(get_model(model, in_chans=weight.meta["in_chans"], **size))
    net = get_model(model)
    first = net.features[0][0]
    net.features[0][0] = torch.nn.Conv2d(weight.meta["in_chans"], first.out_channels, 4, 4)
    return s.moved(net)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Networks of torchgeo and their files, each made once."""
    made = {}

    def case(name: str):
        if name not in made:
            net = upstream_of(name)
            path = tmp_path_factory.mktemp("torchgeo") / "weights.pth"
            torch.save(net.state_dict(), path)
            made[name] = net, str(path)
        return made[name]

    return case


def last_of(net: torch.nn.Module, name: str, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if name == SWIN:
            return net.norm(net.features(image)).permute(0, 3, 1, 2)
        return net.forward_features(image)


@pytest.mark.parametrize("name, bands, side", CASES)
def test_weights_of_torchgeo_give_its_features(cases, name, bands, side):
    upstream, path = cases(name)
    encoder = s.build("torchgeo", s.spec(bands, (side, side)), name=None, weights=name, file=path)
    report = encoder.initialise()
    assert report.share == 1
    assert not report.warnings
    assert {row.name.partition(".")[0] for row in report.rows if row.how == "unexpected"} <= {"fc", "head"}
    image = s.noise(encoder, (side, side))
    s.assert_close([s.features(encoder, image)[-1]], [last_of(upstream, name, image)])


@pytest.mark.parametrize("name, n", [(RESNET, 2), (RESNET, 5), (RESNET, 13), (VIT, 2), (SWIN, 5)])
def test_any_bands_in_any_order(cases, name, n):
    upstream, path = cases(name)
    bands = s.SOME[n][::-1]
    encoder = s.build("torchgeo", s.spec(bands), name=None, weights=name, file=path)
    report = encoder.initialise()
    trained = [channel.name for channel in torchgeo_bands.bands(ENTRIES[name][1])]
    common = [band for band in bands if band in trained]
    assert {c for c, origin in report.channels if origin.startswith(f"copied from {c}")} == set(common)
    kernel = upstream.get_parameter(encoder.stem)[:, [trained.index(band) for band in common]]
    found = encoder.trunk.get_parameter(encoder.stem)[:, [bands.index(band) for band in common]]
    torch.testing.assert_close(found, kernel * len(trained) / n)
    check_features(encoder, n, (64, 96))


def test_other_order_of_bands_gives_the_same_features(cases):
    upstream, path = cases(RESNET)
    encoder = s.build("torchgeo", s.spec(s.SENTINEL2[::-1]), name=None, weights=RESNET, file=path)
    assert "the data's order" in encoder.initialise().warnings[0]
    image = s.noise(encoder, (64, 96))
    s.assert_close([s.features(encoder, image)[-1]], [last_of(upstream, RESNET, image.flip(1))])


def test_radar_on_optical_weights(cases):
    _, path = cases(RESNET)
    radar = s.spec(("VV", "VH"), sensor="sentinel-1")
    encoder = s.build("torchgeo", radar, name=None, weights=RESNET, file=path, adapt="name")
    with pytest.raises(
        InputError, match="adapt=name needs a name in common: the data has VV, VH, the weights have B1, B2"
    ):
        encoder.initialise()
    report = s.build("torchgeo", radar, name=None, weights=RESNET, file=path).initialise()
    assert [origin.partition(",")[0] for _, origin in report.channels] == ["mean of all 13"] * 2
    assert "no channel in common" in report.warnings[0]


def test_positions_of_an_entry_are_kept_on_its_own_grid():
    with torch.device("meta"):
        encoder = s.build("torchgeo", s.spec(s.SENTINEL2, (28, 42)), name=None, weights=DINO)
    assert encoder.trunk.pos_embed.shape == (1, 1 + 16 * 16, 384)  # 224 cells of 14, not DINOv2's 518
    check_features(encoder, 13, (28, 42))


@pytest.mark.parametrize("name", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MODELS])
def test_every_network_gives_what_it_declares(name):
    patch = 14 if "patch14" in name else 16
    shape = (4 * patch, 6 * patch)
    with torch.device("meta"):
        encoder = s.build("torchgeo", s.spec(s.SOME[5], shape), name=name)
    check_features(encoder, 5, shape)
    strides = {"resnet": [2, 4, 8, 16, 32], "swin": [4, 8, 16, 32], "vit": [patch] * 4}
    family = next(start for start in strides if name.startswith(start))
    assert [feature.stride[0] for feature in encoder.features] == strides[family]


@pytest.mark.parametrize("indices", [None, [0, 2]])
@pytest.mark.parametrize("name", ["resnet18", "swin_v2_t"])
def test_any_shape_and_choice_of_features(name, indices):
    s.keeps_its_promises(s.build("torchgeo", s.spec(shape=(64, 96)), name=name, indices=indices), (64, 96))


@pytest.mark.parametrize("name", USABLE)
def test_bands_of_every_entry_are_those_of_the_sensors(name):
    _, weight = USABLE[name]
    channels = torchgeo_bands.bands(weight)
    assert len(channels) == weight.meta["in_chans"]
    entry = name.partition(".")[2]
    sensors = {
        "SENTINEL2": "sentinel-2",
        "SENTINEL1": "sentinel-1",
        "LANDSAT_TM": "landsat-5",
        "LANDSAT_ETM": "landsat-7",
    }
    sensors |= {"LANDSAT": "landsat-8", "NAIP": "naip"}
    sensor = next((told for start, told in sensors.items() if entry.startswith(start)), None)
    codes = [channel.name.removesuffix("_VCID_1").removesuffix("_VCID_2") for channel in channels]
    if sensor is None:
        assert [channel.name for channel in channels] == ["R", "G", "B"]
    else:
        expected = [bands_of([code], sensor)[0].wavelength_nm for code in codes]
        assert [channel.wavelength_nm for channel in channels] == expected
        assert all(nm is not None or code in ("VV", "VH", "NDVI") for code, nm in zip(codes, expected, strict=True))


@pytest.mark.parametrize("name", USABLE)
def test_preparation_of_every_entry_is_that_of_its_transforms(name):
    _, weight = USABLE[name]
    told = torchgeo_bands.preparation(weight)
    chain = weight.transforms if hasattr(weight.transforms, "__iter__") else [weight.transforms]
    stages = [stage for stage in chain if hasattr(stage, "mean")]
    assert bool(told) == bool(stages)
    if "normalisation" in told or not stages:
        return
    raw = 1000 * torch.rand(1, weight.meta["in_chans"], 2, 2, generator=torch.Generator().manual_seed(1))
    prepared = raw / 255 if "CITYSCAPES" in name else raw.clone()  # of whose transforms dividing is no part
    for stage in stages:
        prepared = stage(prepared)
    mean, std = (
        torch.tensor(told.get(key, default)).reshape(-1, 1, 1) for key, default in (("mean", (0.0,)), ("std", (1.0,)))
    )
    torch.testing.assert_close((raw / told["scale"] - mean) / std, prepared)


def test_preparations_by_hand():
    def told(name):
        return torchgeo_bands.preparation(get_weight(name))

    assert told(RESNET) == {"scale": 10000.0}
    assert told("ResNet50_Weights.SENTINEL1_ALL_MOCO") == {"scale": 1.0, "mean": (-12.59, -20.26), "std": (5.26, 5.91)}
    assert told("ResNet50_Weights.FMOW_RGB_GASSL")["scale"] == 255
    assert told("Swin_V2_B_Weights.LANDSAT_SI_SATLAS") == {"normalisation": "raw values, minus 4000 by 16320"}
    words = "raw values, by 255, 255, 255, 8160, 8160, 8160, 8160, 8160, 8160"
    assert told("ResNet50_Weights.SENTINEL2_SI_MS_SATLAS") == {"normalisation": words}
    assert told("ResNet50_Weights.SENTINEL1_GRD_CLOSP") == {}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"weights": "ResNet50_Weights.SENTINEL2_ALL_MOCA", "name": None}, f"are {RESNET.replace('18', '50')},"),
        ({"weights": "DOFABase16_Weights.DOFA_MAE", "name": None}, "encoder of its own, choose model/encoder=dofa"),
        ({"weights": "EarthLoc_Weights.SENTINEL2_RESNET50", "name": None}, "describes a whole image by one vector and"),
        ({"weights": "Unet_Weights.SENTINEL2_2CLASS_FTW", "name": None}, "is a whole network with its own decoder"),
        ({"weights": RESNET, "name": "resnet50"}, f"name=resnet50, but {RESNET} is for resnet18"),
        ({"name": "resnet19"}, "name=resnet19 is no network of torchgeo; the nearest are resnet1"),
        ({"name": "croma_base"}, "choose model/encoder=croma"),
        ({"file": "f.pth"}, "file=f.pth needs model.encoder.weights"),
        ({"name": "swin_t", "indices": [4]}, "each from 0 to 3"),
    ],
)  # fmt: skip
def test_refusals(settings, words):
    with pytest.raises(InputError, match=words):
        s.build("torchgeo", s.spec(), **settings)


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_volumes_are_refused(name):
    with pytest.raises(InputError, match="takes images of 2 spatial axes"):
        s.build("torchgeo", s.volume(), name=name)


def test_weights_are_downloaded_as_torchgeo_does_and_nothing_in_them_is_executed(cases, monkeypatch):
    upstream, _ = cases(RESNET)
    asked = {}

    def download(url, **settings):
        asked.update(settings, url=url)
        return upstream.state_dict()

    monkeypatch.setattr(_api, "load_state_dict_from_url", download)
    encoder = s.build("torchgeo", s.spec(s.SENTINEL2), name=None, weights=RESNET)
    assert not asked  # building reads nothing
    assert encoder.initialise().source == RESNET
    assert asked == {"url": ENTRIES[RESNET][1].url, "progress": True, "map_location": "cpu", "weights_only": True}


@pytest.mark.parametrize(
    "option, settings, way",
    [
        ("torchgeo", {"name": None, "weights": RESNET}, r"model\.encoder\.file=PATH"),
        (
            "dofa",
            {"weights": "pretrained", "embed_dim": 32, "depth": 1, "num_heads": 4},
            r"model\.encoder\.weights=FILE",
        ),
        ("croma", {"weights": "pretrained", "embed_dim": 32, "depth": 2}, r"model\.encoder\.weights=FILE"),
    ],
)
def test_no_network_names_the_file(monkeypatch, option, settings, way):
    def download(*_, **__):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(_api, "load_state_dict_from_url", download)
    encoder = s.build(option, s.spec(), **settings)
    with pytest.raises(
        InputError, match=rf"can't be downloaded from https://\S+ \(.*name resolution.*; where .* {way}$"
    ):
        encoder.initialise()
