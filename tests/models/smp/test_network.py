import pytest
import segmentation_models_pytorch as smp
import torch

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.smp.network import ARCHITECTURES, Smp
from tests.models.test_contract import CONF, FLAT

TINY = "tu-test_resnet"
CHANNELS = {"decoder_channels": [16, 16, 16, 16, 16]}


def spec(patch=(64, 64), in_channels=5):
    return ModelSpec(
        in_channels=in_channels, out_channels=3, patch_shape=patch, spacing=(1.0, 1.0), kernels=(), strides=()
    )


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_every_architecture_has_a_yaml():
    assert {f"smp_{name.lower()}" for name in ARCHITECTURES} == {name for name in FLAT if name.startswith("smp_")}
    for name in ARCHITECTURES:
        assert f"\narchitecture: {name}\n" in (CONF / f"smp_{name.lower()}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("in_channels", [3, 5])
def test_logits_are_those_of_the_library(in_channels):
    ours = Smp(spec(in_channels=in_channels), architecture="Unet", encoder="mobilenet_v2").eval()
    theirs = smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=in_channels, classes=3).eval()
    theirs.load_state_dict(ours.net.state_dict())
    image = noise(1, in_channels, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)
        assert torch.equal(ours(image), theirs.to(memory_format=torch.channels_last)(image))


@pytest.mark.parametrize("architecture, last", [("Unet", True), ("FPN", False)])
def test_kernels_and_features_have_their_channels_last(architecture, last):
    network = Smp(spec(in_channels=3), architecture=architecture, encoder="resnet18").eval()
    with torch.no_grad():
        features = network.encode(noise(1, 3, 64, 64))
    assert [f.is_contiguous(memory_format=torch.channels_last) for f in features] == [last] * 5


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus"])
def test_attention_adds_weights_that_are_all_used(architecture):
    plain, scse = (
        Smp(spec(), architecture=architecture, encoder=TINY, attention=a, **CHANNELS).train() for a in (None, "scse")
    )
    added = {n for n, _ in scse.named_parameters()} - {n for n, _ in plain.named_parameters()}
    assert added
    assert all(".cSE." in name or ".sSE." in name for name in added)
    scse(noise(2, 5, 64, 64)).square().mean().backward()
    assert all(p.grad is not None for p in scse.parameters())


def test_stages_beyond_the_depth_are_dropped():
    network = Smp(spec(), architecture="PSPNet", encoder="resnet18")
    assert not any(".layer3." in name or ".layer4." in name for name, _ in network.named_parameters())
    assert any(".layer2." in name for name, _ in network.named_parameters())
    assert network.divisor == (8, 8)


@pytest.mark.parametrize(
    "architecture, settings, divisor",
    [
        ("DeepLabV3", {}, 8),
        ("DeepLabV3", {"encoder_output_stride": 16}, 16),
        ("Unet", {"encoder_depth": 3, "decoder_channels": [16, 16, 16]}, 8),
        ("Linknet", {}, 32),
    ],
)
def test_divisor_is_the_stride_and_every_multiple_runs(architecture, settings, divisor):
    network = Smp(spec(), architecture=architecture, encoder=TINY, **settings).eval()
    assert network.divisor == (divisor, divisor)
    with torch.no_grad():
        for shape in ((divisor, divisor), (3 * divisor, divisor), (2 * divisor, 5 * divisor)):
            assert network(noise(1, 5, *shape)).shape == (1, 3, *shape)
    with pytest.raises(InputError, match=rf"pad to \({2 * divisor}, {divisor}\)"):
        network(noise(1, 5, divisor + 1, divisor))


def test_pan_needs_eight_coarse_cells():
    network = Smp(spec(), architecture="PAN", encoder=TINY).eval()
    assert network.nearest((50, 130)) == (128, 144)
    with pytest.raises(
        InputError, match=r"got an image of shape \(64, 160\), expected \(128, 128\) or more; pad to \(128, 160\)"
    ):
        network(noise(1, 5, 64, 160))
    with torch.no_grad():
        assert network(noise(1, 5, 128, 144)).shape == (1, 3, 128, 144)


def test_dpt_learns_positions_of_the_patch_and_takes_other_shapes():
    settings = {"decoder_intermediate_channels": [8] * 4, "decoder_fusion_channels": 8}
    network = Smp(spec((60, 90)), architecture="DPT", encoder="tu-test_vit", **settings).eval()
    assert network.divisor == (32, 32)
    positions = network.net.encoder.model.pos_embed
    assert positions.shape[1] == 1 + 4 * 6  # a class token, and a patch of 64 x 96 in tokens of 16
    with torch.no_grad():
        assert network(noise(1, 5, 32, 128)).shape == (1, 3, 32, 128)


def test_encoder_of_fixed_size_takes_the_patch_only():
    network = Smp(spec((40, 64)), architecture="FPN", encoder="tu-test_maxvit").eval()
    assert network.fixed_shape == (64, 64) == network.nearest((40, 64))
    with torch.no_grad():
        assert network(noise(1, 5, 64, 64)).shape == (1, 3, 64, 64)
    with pytest.raises(InputError, match=r"learned for \(64, 64\) only"):
        network(noise(1, 5, 64, 96))


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"architecture": "UNet"}, "model.architecture=UNet is unknown; the nearest are Unet"),
        ({"encoder": "resnet19"}, "model.encoder=resnet19 is no encoder of smp; the nearest are resnet1"),
        ({"encoder": "timm-efficientnet-b0"}, "the nearest are efficientnet-b0"),
        ({"encoder": "tu-resnet19"}, "model.encoder=tu-resnet19 is no network of timm; the nearest are tu-resnet1"),
        ({"encoder": "tu-resnet18.imagenet"}, "Invalid pretrained tag"),
        ({"encoder": "tu-test_vit"}, "can't be built with .*: Unsupported model downsampling pattern"),
        ({"encoder": "mit_b0", "architecture": "Linknet"}, "`mit_b0` is not supported for Linknet"),
        ({"architecture": "DPT"}, "can't be built with .* unexpected keyword argument 'img_size'"),
        ({"architecture": "FPN", "attention": "scse"}, "smp's FPN: expected scse, with Unet or UnetPlusPlus, or null"),
        ({"attention": "se"}, "model.attention=se for smp's Unet: expected scse"),
        ({"decoder_chanels": [8]}, "model.decoder_chanels is no setting of smp's Unet; the nearest are decoder_chann"),
        ({"encoder_weights": "imagenet"}, "model.encoder_weights: weights of this network are random"),
        ({"decoder_channels": [8, 8]}, "can't be built with .* 5, but you provide `decoder_channels` for 2 blocks"),
        ({"architecture": "FPN", "upsampling": 2}, r"an image of shape \(32, 64\) gives logits of shape \(16, 32\)"),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(settings, told):
    with pytest.raises(InputError, match=told) as caught:
        Smp(spec(), **({"architecture": "Unet", "encoder": TINY} | settings))
    assert "\n" not in str(caught.value)
