"""Files of satellite weights as they are published, for networks of timm: prefixes, several networks, no metadata."""

import pytest
import timm
import torch

from medseg.errors import InputError
from tests.models.encoders import spectral as s

VIT = {"name": "vit_small_patch16_224", "settings": {"embed_dim": 32, "depth": 2, "num_heads": 2}}
TWELVE = tuple(band for band in s.SENTINEL2 if band != "B10")


def resnet(channels, seed):
    """Tensors of torchvision's names, which timm's are."""
    torch.manual_seed(seed)
    return timm.create_model("resnet18", in_chans=channels, num_classes=0).state_dict()


def vit(channels, seed):
    torch.manual_seed(seed)
    net = timm.create_model(VIT["name"], in_chans=channels, num_classes=0, **VIT["settings"])
    return net.state_dict()


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def saved(folder, content):
    torch.save(content, folder / "published.pth")
    return str(folder / "published.pth")


def loaded(bands, path, *, name="resnet18", settings=None, **rest):
    encoder = s.build("timm", s.spec(bands), name=name, settings=settings, weights=path, **rest)
    return encoder, encoder.initialise()


@pytest.mark.parametrize(
    "content",
    [
        lambda net: net,  # DeCUR, backbone only
        lambda net: {"state_dict": under("module.encoder_q.", net) | {"module.queue": torch.ones(8, 16)}},  # MoCo v2
        lambda net: {"student": under("module.backbone.", net), "teacher": under("backbone.", net)},  # DINO
    ],
    ids=["plain", "moco", "dino"],
)
def test_resnets_of_ssl4eo(content, tmp_path):
    net = resnet(13, 1)
    encoder, report = loaded(TWELVE, saved(tmp_path, content(net)), trained_on="sentinel2_l1c")
    assert report.share == 1
    assert dict(report.channels)["B11"] == "copied from B11, times 1.08"
    kept = [i for i, band in enumerate(s.SENTINEL2) if band != "B10"]
    torch.testing.assert_close(encoder.trunk.conv1.weight, net["conv1.weight"][:, kept] * 13 / 12)
    assert not any("do not say" in line for line in report.warnings)


@pytest.mark.parametrize("part", ["module.base_encoder.", "module.encoder_q.backbone.", ""])
def test_vits_of_ssl4eo(part, tmp_path):
    path = saved(tmp_path, {"state_dict": under(part, vit(13, 1)), "epoch": 99})
    _, report = loaded(("B8", "B4"), path, trained_on="sentinel2_l1c", **VIT)
    assert report.share == 1
    assert report.channels == (("B8", "copied from B8, times 6.5"), ("B4", "copied from B4, times 6.5"))


@pytest.mark.parametrize(
    "bands, trained_on, part",
    [(("VV", "VH"), "sentinel1", 1), (("VH_dB",), "sentinel1", 1), (TWELVE, "sentinel2_l1c", 2),
     (s.RGB, "sentinel2_l1c", 2), (s.SENTINEL2, None, 2), (("VV", "VH"), None, 1)],
)  # fmt: skip
def test_of_the_two_networks_of_decur_that_of_the_sensor_is_taken(bands, trained_on, part, tmp_path):
    both = under("module.backbone_1.", resnet(2, 1)) | under("module.backbone_2.", resnet(13, 2))
    path = saved(tmp_path, {"epoch": 100, "model": both | {"module.projector1.0.weight": torch.ones(8, 512)}})
    encoder, report = loaded(bands, path, trained_on=trained_on)
    assert report.share == 1
    torch.testing.assert_close(encoder.trunk.bn1.weight.detach(), both[f"module.backbone_{part}.bn1.weight"])
    expected = both[f"module.backbone_{part}.layer1.0.conv1.weight"]
    torch.testing.assert_close(encoder.trunk.layer1[0].conv1.weight.detach(), expected)


def test_seco_numbers_its_layers(tmp_path):
    names = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    numbered = {}
    for name, tensor in resnet(3, 1).items():
        layer, _, rest = name.partition(".")
        numbered[f"{names[layer]}.{rest}"] = tensor
    momentum = {name: tensor + 1 for name, tensor in numbered.items()}
    state = under("encoder_q.", numbered) | under("encoder_k.", momentum)
    state |= {
        "heads_q.0.0.weight": torch.ones(512, 512),
        "heads_q.0.0.bias": torch.ones(512),
        "queue": torch.ones(1, 8, 16),
    }
    encoder, report = loaded(TWELVE, saved(tmp_path, {"state_dict": state, "epoch": 1}), trained_on=["B4", "B3", "B2"])
    assert report.share == 1
    torch.testing.assert_close(encoder.trunk.layer2[0].conv2.weight.detach(), numbered["5.0.conv2.weight"])
    assert dict(report.channels)["B3"].startswith("copied from B3")


def test_torchgeos_entry_describes_such_a_file(tmp_path):
    both = under("module.backbone_1.", resnet(2, 1)) | under("module.backbone_2.", resnet(13, 2))
    path = saved(tmp_path, {"model": both})
    entry = "ResNet18_Weights.SENTINEL2_ALL_MOCO"
    encoder = s.build("torchgeo", s.spec(s.SENTINEL2), weights=entry, file=path)
    report = encoder.initialise()
    assert report.share == 1
    torch.testing.assert_close(encoder.trunk.conv1.weight.detach(), both["module.backbone_2.conv1.weight"])


def clip(depth=2, width=64, pre=True):
    """The picture half of a file of open_clip, with some of its words' half."""
    shapes = {
        "positional_embedding": (77, 32), "text_projection": (32, 32), "logit_scale": (),
        "token_embedding.weight": (9, 32),
        "visual.class_embedding": (width,), "visual.positional_embedding": (50, width), "visual.proj": (width, 32),
        "visual.conv1.weight": (width, 3, 32, 32), "visual.ln_post.weight": (width,), "visual.ln_post.bias": (width,),
    } | {f"visual.ln_pre.{leaf}": (width,) for leaf in ("weight", "bias") if pre}  # fmt: skip
    for i in range(depth):
        start = f"visual.transformer.resblocks.{i}"
        shapes |= {f"{start}.ln_{n}.{leaf}": (width,) for n in (1, 2) for leaf in ("weight", "bias")}
        shapes |= {
            f"{start}.attn.in_proj_weight": (3 * width, width), f"{start}.attn.in_proj_bias": (3 * width,),
            f"{start}.attn.out_proj.weight": (width, width), f"{start}.attn.out_proj.bias": (width,),
            f"{start}.mlp.c_fc.weight": (4 * width, width), f"{start}.mlp.c_fc.bias": (4 * width,),
            f"{start}.mlp.c_proj.weight": (width, 4 * width), f"{start}.mlp.c_proj.bias": (width,),
        }  # fmt: skip
    return s.drawn(shapes)


SMALL_CLIP = {"embed_dim": 64, "depth": 2, "num_heads": 4}


@pytest.mark.parametrize("wrapped", [False, True], ids=["RemoteCLIP", "GeoRSCLIP"])
def test_clip_of_satellite_images(wrapped, tmp_path):
    state = clip()
    path = saved(tmp_path, {"state_dict": under("module.", state)} if wrapped else state)
    encoder, report = loaded(s.RGB, path, name="vit_base_patch32_clip_224", settings=SMALL_CLIP)
    assert report.share == 1
    torch.testing.assert_close(encoder.trunk.norm_pre.weight.detach(), state["visual.ln_pre.weight"])
    assert not any("normalises tokens" in line for line in report.warnings)


def test_clip_in_a_network_without_its_first_normalisation_is_warned_of(tmp_path):
    _, report = loaded(s.RGB, saved(tmp_path, clip()), name="vit_base_patch32_224", settings=SMALL_CLIP)
    assert report.share > 0.999  # all but the bias of the patches
    assert [line for line in report.warnings if "choose its variant of CLIP, such as vit_base_patch32_clip_224" in line]


def test_names_of_products_are_those_of_all_their_bands():
    with pytest.raises(InputError, match=r"trained_on=sentinel3: expected a list of channels, .* bands: sentinel2_l1c"):
        s.build("timm", s.spec(), name="resnet18", trained_on="sentinel3")
    with pytest.raises(InputError, match=r"mean has 3 values, model\.encoder\.trained_on has 12 channels"):
        s.build("timm", s.spec(), name="resnet18", trained_on="sentinel2_l2a", mean=[1, 2, 3])
