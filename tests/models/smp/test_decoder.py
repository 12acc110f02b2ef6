import inspect

import pytest
import segmentation_models_pytorch as smp
import torch

from medseg.errors import InputError
from medseg.models.encoders.encoder import Feature
from medseg.models.smp.decoder import Smp
from medseg.models.smp.network import ARCHITECTURES
from tests.models.decoders.test_contract import draw, spec

SETTINGS = {  # of smp's own model, and of its decoder
    "Unet": ({}, {"decoder_channels": [16, 16, 16, 8, 8]}),
    "UnetPlusPlus": ({}, {"decoder_channels": [16, 16, 16, 8, 8]}),
    "MAnet": ({}, {"decoder_channels": [16, 16, 16, 8, 8], "decoder_pab_channels": 8}),
    "Linknet": ({}, {}),
    "FPN": ({}, {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32}),
    "PSPNet": ({"encoder_depth": 3}, {"psp_out_channels": 16}),
    "PAN": ({"encoder_output_stride": 32, "encoder_depth": 3}, {"decoder_channels": 8}),
    "DeepLabV3": ({"encoder_depth": 3}, {"decoder_channels": 8, "decoder_atrous_rates": [1, 2, 3]}),
    "DeepLabV3Plus": ({"encoder_depth": 4}, {"decoder_channels": 8, "decoder_atrous_rates": [1, 2, 3]}),
    "UPerNet": ({}, {"decoder_channels": 8}),
    "Segformer": ({}, {"decoder_segmentation_channels": 8}),
}
DILATED = {"PAN", "DeepLabV3", "DeepLabV3Plus"}
"""Architectures for which smp dilates the encoder, where it permits it."""
PYRAMID = [Feature(c, (s, s)) for c, s in ((6, 4), (8, 8), (12, 16), (16, 32))]


def test_every_architecture_but_dpt_is_tried():
    assert {*SETTINGS, "DPT"} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    "architecture, encoder",
    [
        *((name, "tu-test_resnet") for name in SETTINGS),
        *((name, "tu-test_convnext") for name in sorted(set(SETTINGS) - DILATED)),  # which has no level 1
    ],
)
def test_logits_are_those_of_the_library_s_whole_model(architecture, encoder):
    (told, settings), taken = SETTINGS[architecture], inspect.signature(getattr(smp, architecture)).parameters
    own = told | settings | ({"upsampling": 1} if "upsampling" in taken else {})
    theirs = getattr(smp, architecture)(encoder, encoder_weights=None, in_channels=2, classes=3, **own).eval()
    image = torch.randn(1, 2, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = theirs.encoder(image)[1:]
        given = given[1:] if given[0].shape[1] == 0 else given
        features = [Feature(g.shape[1], (64 // g.shape[2],) * 2) for g in given]
        ours = Smp(spec((64, 96)), features, architecture=architecture, settings=settings).eval()
        ours.net.load_state_dict(theirs.decoder.state_dict())
        ours.head.load_state_dict(theirs.segmentation_head.state_dict())
        torch.testing.assert_close(ours(given, image), theirs(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    "architecture, features, read",
    [
        ("Unet", PYRAMID, {2: 2, 3: 3, 4: 4, 5: 5}),
        ("FPN", PYRAMID[:3], {1: 2, 2: 2, 3: 3, 4: 4}),
        ("UPerNet", [PYRAMID[1], PYRAMID[3]], {2: 3, 3: 3, 4: 5, 5: 5}),
        ("PSPNet", PYRAMID, {5: 5}),
        ("DeepLabV3Plus", PYRAMID, {2: 2, 5: 5}),
        ("Linknet", [Feature(8, (14, 14), tokens=True)] * 4, {2: 2, 3: 3, 4: 4, 5: 5}),
        ("MAnet", [Feature(8, (1, 1)), Feature(8, (2, 2)), Feature(8, (8, 4))], {1: 1, 2: 2}),  # 2^2.5, to even
    ],
)
def test_which_feature_each_level_is_taken_from(architecture, features, read):
    settings = {"decoder_segmentation_channels": 32} if architecture == "FPN" else {}
    assert Smp(spec((64, 64)), features, architecture=architecture, settings=settings).source == read


def test_levels_are_interpolated_to_multiples_of_the_coarsest():
    features = [Feature(4, (14, 14), tokens=True)] * 4
    decoder = Smp(spec((42, 70)), features, architecture="UnetPlusPlus", settings={"decoder_channels": [8] * 5}).eval()
    with torch.no_grad():  # 3 x 5 tokens, of which 2 x 3 are the coarsest
        assert decoder(*draw((42, 70), features)).shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    "features, settings, told",
    [
        (PYRAMID, {"architecture": "UNet"}, "model.decoder.architecture=UNet is unknown; the nearest are Unet"),
        (PYRAMID, {"architecture": "DPT"}, "DPT is model/decoder=dpt"),
        (PYRAMID, {"attention": "se"}, "model.decoder.attention=se for smp's Unet: expected scse"),
        (
            PYRAMID,
            {"settings": {"decoder_chanels": [8]}},
            "model.decoder.settings.decoder_chanels is no setting of smp's Unet; the nearest are decoder_channels",
        ),
        (PYRAMID, {"settings": {"encoder_depth": 3}}, "model.decoder.settings.encoder_depth is no setting"),
        (PYRAMID, {"settings": {"decoder_channels": [8, 8]}}, "can't be built on levels 1 to 5 with .* for 2 blocks"),
        (PYRAMID[:1], {"architecture": "FPN"}, "FPN decoder cannot be less than 3, got 2"),
        ([PYRAMID[0], Feature(4, (5, 5))], {}, "got features of strides 4 x 4, 5 x 5, expected each about twice"),
        ([Feature(4, (1, 1))], {}, "a single feature as fine as the image"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(features, settings, told):
    with pytest.raises(InputError, match=told) as caught:
        Smp(spec((64, 64)), features, **settings)
    assert "\n" not in str(caught.value)
    assert "given" not in smp.encoders.encoders


def test_volumes_are_refused():
    with pytest.raises(InputError, match="the data has 3; choose a decoder for volumes"):
        Smp(spec((16, 16, 16)), [Feature(4, (2, 2, 2))])


def test_pan_needs_eight_coarse_cells():
    decoder = Smp(spec((128, 64)), PYRAMID[:3], architecture="PAN", settings={"decoder_channels": 8})
    with pytest.raises(
        InputError, match=r"got coarsest features of shape \(8, 4\), expected 8 cells or more on each axis"
    ):
        decoder(*draw((128, 64), PYRAMID[:3]))
