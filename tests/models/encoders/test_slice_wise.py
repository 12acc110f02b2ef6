"""SliceWise against the inner encoder, slice by slice."""

from functools import partial

import pytest
import timm
import torch
from hydra.utils import instantiate

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.models.encoders.encoder import check_features
from medseg.models.encoders.slice_wise import SliceWise, fold, unfold
from medseg.models.monai.vit_encoder import MonaiViT
from medseg.models.timm.encoder import Timm
from medseg.weights.bands import partners
from tests.models.encoders.spectral import assert_close
from tests.models.encoders.volumes import BANDS, MODALITIES, features, learns, noise, scrambled, spec

NAME = "test_resnet"


def upstream(channels: int = 1):
    return scrambled(timm.create_model(NAME, features_only=True, in_chans=channels, pretrained=False))


def saved(tmp_path, net) -> str:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    return str(tmp_path / "net.pt")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_get_the_features_of_images(tmp_path, axis):
    net, image = upstream(2), noise(2, 2, 32, 64, 32)
    short = image.narrow(axis + 2, 0, 3)
    encoder = SliceWise(
        spec(channels=MODALITIES[2]), of=partial(Timm, name=NAME, weights=saved(tmp_path, net)), axis=axis
    )
    assert encoder.initialise().share == 1
    given = features(encoder, short)
    for i in range(3):
        with torch.no_grad():
            expected = net(short.select(axis + 2, i))
        assert_close([feature.select(axis + 2, i) for feature in given], expected[-len(given) :])
    strides = [f.stride for f in encoder.features]
    assert {s[axis] for s in strides} == {1}
    assert encoder.divisor[axis] == 1
    check_features(encoder, 2, [3 if a == axis else 64 for a in range(3)])


def test_neighbours_are_channels_and_the_ends_are_repeated(tmp_path):
    net, image = upstream(3), noise(1, 1, 32, 32, 4)
    within = partial(Timm, name=NAME, weights=saved(tmp_path, net), adapt="repeat")
    encoder = SliceWise(spec(), of=within, neighbours=1)
    assert encoder.initialise({"mean": [1.0], "std": [2.0]}).share == 1
    given = features(encoder, image)
    for i, (before, after) in enumerate([(0, 1), (0, 2), (1, 3), (2, 3)]):
        with torch.no_grad():
            expected = net(torch.cat([image[..., k] for k in (before, i, after)], dim=1))
        assert_close([feature[..., i] for feature in given], expected[-len(given) :])


def test_neighbours_of_several_channels_stand_slice_by_slice():
    encoder = SliceWise(spec(channels=MODALITIES[2]), of=partial(Timm, name=NAME), neighbours=1)
    names = ["T1 before 1", "T1c before 1", "T1", "T1c", "T1 after 1", "T1c after 1"]
    assert [c.name for c in encoder.inner.channels] == names
    assert partners(encoder.inner.channels, encoder.inner.channels) == [0, 1, 2, 3, 4, 5]  # none is taken for another


@pytest.mark.parametrize("channels", [MODALITIES[1], MODALITIES[2], MODALITIES[4], BANDS[5], BANDS[13]])
def test_any_channels(tmp_path, channels):
    net, image = upstream(3), noise(1, 1, 32, 32, 2)
    encoder = SliceWise(spec(channels=channels), of=partial(Timm, name=NAME, weights=saved(tmp_path, net)))
    assert encoder.initialise().share == 1
    with torch.no_grad():
        expected = net(image[..., 1].expand(-1, 3, -1, -1))
    given = features(encoder, image.expand(-1, len(channels), -1, -1, -1))
    assert_close([feature[..., 1] for feature in given], expected[-len(given) :])


def test_tokens_become_grids():
    within = partial(MonaiViT, hidden_size=24, mlp_dim=24, num_heads=3, num_layers=2)
    encoder = SliceWise(spec((32, 48, 5)), of=within)
    assert encoder.fixed_shape == (32, 48, 5)
    check_features(encoder, 1, (32, 48, 5))
    image = noise(2, 1, 32, 48, 5)
    given, tokens = features(encoder, image)[0], features(encoder.inner, image[..., 4])[0]
    torch.testing.assert_close(given[..., 4], tokens.transpose(1, 2).reshape(2, 24, 2, 3))


def test_slices_lie_along_the_coarse_axis():
    def axis(*spacing):
        return SliceWise(spec(spacing=spacing), of=partial(Timm, name=NAME)).axis

    assert [axis(1.0, 1.0, 1.0), axis(3.0, 1.0, 1.0), axis(1.0, 2.0, 1.0), axis(1.5, 1.0, 1.0)] == [2, 0, 1, 2]


def test_unfold_undoes_fold():
    volume = noise(2, 3, 4, 5, 6)
    torch.testing.assert_close(unfold(fold(volume), 2), volume, rtol=0, atol=0)
    torch.testing.assert_close(fold(volume)[6 + 2], volume[1, :, :, :, 2], rtol=0, atol=0)


def test_any_encoder_nests_by_its_option():
    overrides = ["model=encoder_decoder", "model/encoder=sliced", "model/encoder@model.encoder.of=monai_resnet"]
    cfg = compose("train", [*overrides, "model.encoder.of.depth=10", "model.encoder.neighbours=1"])
    assert cfg.model.encoder.of._target_.endswith("MonaiResNet")
    encoder = instantiate(compose("train", [*overrides[:2], f"model.encoder.of.name={NAME}"]).model.encoder)(spec())
    assert isinstance(encoder.inner, Timm)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_learns_beneath_a_decoder(neighbours):
    learns(partial(SliceWise, of=partial(Timm, name=NAME), neighbours=neighbours), spec((32, 32, 4)))


def test_missing_weights_of_the_inner_encoder_are_reported():
    encoder = SliceWise(spec(), of=partial(Timm, name=NAME, weights="nowhere.pt"))
    with pytest.raises(InputError, match=r"nowhere\.pt"):
        encoder.initialise()


class Told(Timm):
    """One that found its name elsewhere."""

    settled = {"name": NAME}


def test_what_the_encoder_within_found_elsewhere_is_told():
    assert SliceWise(spec(), of=partial(Told, name=NAME)).settled == {"of": {"name": NAME}}
    assert SliceWise(spec(), of=partial(Timm, name=NAME)).settled == {}


def test_bad_input():
    within = partial(Timm, name=NAME)
    with pytest.raises(InputError, match=r"model/encoder=sliced: slices are of volumes, the data has 2"):
        SliceWise(spec((32, 32)), of=within)
    with pytest.raises(InputError, match=r"axis=3: expected 0, 1, 2 or null"):
        SliceWise(spec(), of=within, axis=3)
    with pytest.raises(InputError, match=r"neighbours=-1: expected 0 or more"):
        SliceWise(spec(), of=within, neighbours=-1)
