"""Published medical checkpoints: their names and shapes, drawn at random, in the options that they are for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from monai.networks.nets import SegResNet, SwinUNETR
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg.hydra_app.compose import compose
from medseg.models.encoders.encoder import Encoder
from medseg.models.network import ModelSpec, Network
from medseg.models.unet import UNet
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.nnunet_plans import REVERSED
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report
from tests import nnunet_files

CT = (Channel("CT"),)
RGB = tuple(Channel(name) for name in "RGB")


def spec(channels: tuple[Channel, ...], patch: tuple[int, ...], classes: int = 4) -> ModelSpec:
    ones = (1.0,) * len(patch)
    return ModelSpec(len(channels), classes, patch, ones, (), (), channels)


def drawn(net: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(tensor.shape, generator=generator).abs() * 0.1
        for name, tensor in net.state_dict().items()
        if tensor.is_floating_point()
    }


def network(option: str, about: ModelSpec, **settings: Any) -> Network:
    cfg = compose("train", [f"model={option}"]).model
    return instantiate(cfg)(about, **settings).eval()


def whole(net: Network, found: Pretrained, channels: tuple[Channel, ...] = CT) -> Report:
    return load(net, net.adopt(found), stem=net.stem_kernel, channels=channels)


def encoder(option: str, about: ModelSpec, **settings: Any) -> Encoder:
    cfg = compose("train", ["model=encoder_decoder", f"model/encoder={option}"]).model.encoder
    return instantiate(cfg, _convert_="all")(about, **settings).eval()


def suprem(folder: Path, backbone: dict[str, Tensor]) -> Path:
    """A file of SuPreM: the backbone in a network whose head is made for each organ from its embedding."""
    head = {"organ_embedding": torch.ones(25, 512), "controller.weight": torch.ones(153, 512, 1, 1, 1)}
    head |= {"GAP.3.weight": torch.ones(256, 24, 1, 1, 1), "precls_conv.2.weight": torch.ones(8, 12, 1, 1, 1)}
    net = {f"backbone.{name}": tensor for name, tensor in backbone.items()} | head
    torch.save({"net": {f"module.{name}": tensor for name, tensor in net.items()}, "epoch": 2100, "optimizer": {}},
               folder / "supervised_suprem.pth")  # fmt: skip
    return folder / "supervised_suprem.pth"


SWIN = {"feature_size": 12, "depths": (1, 1, 1, 1)}


def test_suprem_swin_unetr(tmp_path: Path) -> None:
    state = drawn(SwinUNETR(1, 25, **SWIN))
    held = {name: tensor for name, tensor in state.items() if not name.startswith("out.")}
    file = suprem(tmp_path, held)
    net = network("swin_unetr", spec(CT, (64, 64, 64)), **SWIN)
    report = whole(net, read(file))
    assert report.named("random") == ["net.out.conv.conv.weight", "net.out.conv.conv.bias"]
    assert report.share > 0.99
    assert torch.equal(net.net.decoder1.conv_block.conv1.conv.weight, held["decoder1.conv_block.conv1.conv.weight"])
    alone = encoder("monai_swin_vit", spec(CT, (64, 64, 64)), **SWIN, weights=str(file)).initialise()
    assert alone is not None
    assert alone.share == 1.0


def test_suprem_segresnet(tmp_path: Path) -> None:
    settings = {"blocks_down": (1, 1, 1), "blocks_up": (1, 1)}
    state = drawn(SegResNet(init_filters=16, in_channels=1, out_channels=25, **settings))
    file = suprem(tmp_path, state)
    net = network("segresnet", spec(CT, (16, 16, 16)), init_filters=16, **settings)
    report = whole(net, read(file))
    assert report.named("random") == ["net.conv_final.2.conv.weight", "net.conv_final.2.conv.bias"]
    assert report.share > 0.99
    alone = encoder(
        "monai_segresnet", spec(CT, (16, 16, 16)), init_filters=16, blocks=[1, 1, 1], weights=str(file)
    ).initialise()
    assert alone is not None
    assert alone.share == 1.0


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("swin_unetr", SWIN),
        ("segresnet", {"init_filters": 8}),
        ("mednext", {"init_filters": 8}),
        ("unetr", {"hidden_size": 24, "mlp_dim": 24, "num_heads": 3, "feature_size": 4}),
    ],
)
def test_whole_networks_of_one_channel_take_two(option: str, settings: dict[str, Any]) -> None:
    two = (Channel("CT"), Channel("PET"))
    torch.manual_seed(0)
    state = network(option, spec(CT, (64, 64, 64)), **settings).state_dict()
    net = network(option, spec(two, (64, 64, 64)), **settings)
    report = whole(net, Pretrained(state, "f", channels=CT), two)
    assert report.share == 1.0
    stems = (net.stem_kernel,) if isinstance(net.stem_kernel, str) else net.stem_kernel
    assert stems is not None
    assert report.named("adapted") == list(stems)
    assert all(net.state_dict()[name].shape[1] == 2 for name in stems)


def test_nnssl_resenc_l_at_every_shape(tmp_path: Path) -> None:
    shape = nnunet_files.Shape(
        residual=True, features=(4, 8, 16, 32, 40, 40), kernels=((3, 3, 3),) * 6,
        strides=((1, 1, 1), *((2, 2, 2),) * 5), encoder_blocks=(1, 3, 4, 6, 6, 6), decoder_blocks=(1,) * 5, classes=1,
    )  # fmt: skip
    state = nnunet_files.state_of(shape)
    # As the published file: 448 tensors of the encoder, again below the decoder, and its own; 956 with stem and heads.
    assert sum(name.startswith("encoder.") for name in state) == 448
    assert sum(name.startswith("decoder.encoder.") for name in state) == 448
    assert len(state) == 956
    plan = {"key_to_encoder": "encoder.stages", "key_to_stem": "encoder.stem", "pretrain_num_input_channels": 1}
    torch.save({"network_weights": state, "citations": [], "nnssl_adaptation_plan": plan}, tmp_path / "nnssl.pth")
    about = replace(spec(CT, (64, 64, 64)), kernels=shape.kernels, strides=shape.strides)
    net = UNet(
        about, base_features=4, max_features=40, residual=True, encoder_blocks=[1, 3, 4, 6], decoder_blocks=[1]
    )  # fmt: skip
    report = whole(net, read(tmp_path / "nnssl.pth"))
    assert {name.split(".")[0] for name in report.named("random")} == {"heads"}
    assert report.share > 0.99
    turned = state["encoder.stages.2.blocks.0.conv1.conv.weight"].permute(0, 1, *(2 + axis for axis in REVERSED))
    assert torch.equal(net.encoder[2][0].first[0].weight, turned)


def test_biomedclip(tmp_path: Path) -> None:
    """The trunk of timm within open_clip's image tower, next to a text tower; and how its images were prepared."""
    small = {"embed_dim": 24, "depth": 4, "num_heads": 3}
    trunk = drawn(timm.create_model("vit_base_patch16_224", num_classes=0, **small))
    text = {f"text.transformer.encoder.layer.{i}.output.dense.weight": torch.ones(24, 24) for i in range(200)}
    state = {f"visual.trunk.{name}": tensor for name, tensor in trunk.items()} | text
    state |= {"visual.head.proj.weight": torch.ones(512, 24), "logit_scale": torch.ones(1)}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    prepared = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": prepared}))
    found = encoder("timm", spec(RGB, (224, 224)), name="vit_base_patch16_224", settings=small, weights=str(tmp_path))
    report = found.initialise()
    assert report is not None
    assert report.share == 1.0
    assert report.normalisation == "R, G, B: raw values / 255, minus 0.4815, 0.4578, 0.4082, by 0.2686, 0.2613, 0.2758"
    assert torch.equal(found.trunk.state_dict()["blocks.3.mlp.fc2.weight"], trunk["blocks.3.mlp.fc2.weight"])


def medsam(folder: Path) -> Path:
    """A file of MedSAM: SAM's names, with prompt encoder and mask decoder."""
    width, side = 24, 224 // 16
    shapes: dict[str, tuple[int, ...]] = {"pos_embed": (1, side, side, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 16, 16), "patch_embed.proj.bias": (width,)}
    for i in range(4):
        span = 2 * (side if i in (1, 3) else 14) - 1
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {"mlp.lin1": (4 * width, width), "mlp.lin2": (width, 4 * width)}
        for name, shape in linear.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.{leaf}": (width,) for leaf in ("weight", "bias")}
        shapes |= {f"blocks.{i}.attn.rel_pos_{axis}": (span, width // 3) for axis in "hw"}
    shapes |= {"neck.0.weight": (256, width, 1, 1), "neck.2.weight": (256, 256, 3, 3)}
    shapes |= {f"neck.{i}.{leaf}": (256,) for i in (1, 3) for leaf in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    state = {f"image_encoder.{n}": torch.randn(s, generator=generator) * 0.1 for n, s in shapes.items()}
    state |= {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": torch.ones(2, 128)}
    state |= {"mask_decoder.transformer.layers.0.norm1.weight": torch.ones(256)}
    torch.save(state, folder / "medsam_vit_b.pth")
    return folder / "medsam_vit_b.pth"


def test_medsam_gives_the_same_features_in_timm_and_transformers(tmp_path: Path) -> None:
    file, about = str(medsam(tmp_path)), spec(RGB, (224, 224))
    ours = {"embed_dim": 24, "depth": 4, "num_heads": 3, "global_attn_indexes": [1, 3], "img_size": 224}
    config = {
        "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "mlp_dim": 96, "image_size": 224,
        "window_size": 14, "global_attn_indexes": [1, 3], "output_channels": 256,
    }  # fmt: skip
    by_timm = encoder("timm", about, name="samvit_base_patch16", settings=ours, norm=False, weights=file)
    by_hf = encoder("transformers", about, family="sam", config=config, weights=file)
    for found in (by_timm, by_hf):
        report = found.initialise()
        assert report is not None
        assert report.share == 1.0
        assert not report.named("adapted")
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        pairs = zip(by_timm(image), by_hf(image), strict=True)
        for one, other in pairs:
            assert torch.allclose(one, other, atol=1e-4)
