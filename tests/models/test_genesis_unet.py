"""The U-Net of Models Genesis and SuPreM: names, shapes and logits by the published description."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.models.genesis_unet import GenesisUNet
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.pretrained import read

CHANNELS = {"down_tr64": (1, 4, 8), "down_tr128": (8, 8, 16), "down_tr256": (16, 16, 32), "down_tr512": (32, 32, 64),
            "up_tr256": (96, 32, 32), "up_tr128": (48, 16, 16), "up_tr64": (24, 8, 8)}  # fmt: skip
"""Channels before, between and after the two convolutions of each part, with 4 features."""


def network(channels: int = 1, classes: int = 3) -> GenesisUNet:
    torch.manual_seed(3)
    spec = ModelSpec(channels, classes, (16, 16, 16), (1.0,) * 3, (), ())
    return GenesisUNet(spec, features=4).eval()


def state_of(classes: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for part, widths in CHANNELS.items():
        for i, (before, after) in enumerate(pairwise(widths)):
            state[f"{part}.ops.{i}.conv1.weight"] = torch.randn(after, before, 3, 3, 3, generator=generator) * 0.2
            for name in ("conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean"):
                state[f"{part}.ops.{i}.{name}"] = torch.randn(after, generator=generator)
            state[f"{part}.ops.{i}.bn1.running_var"] = torch.ones(after)
            state[f"{part}.ops.{i}.bn1.num_batches_tracked"] = torch.tensor(7)
    for part, width in (("up_tr256", 64), ("up_tr128", 32), ("up_tr64", 16)):
        state[f"{part}.up_conv.weight"] = torch.randn(width, width, 2, 2, 2, generator=generator) * 0.2
        state[f"{part}.up_conv.bias"] = torch.randn(width, generator=generator)
    state["out_tr.final_conv.weight"] = torch.randn(classes, 8, 1, 1, 1, generator=generator)
    return state | {"out_tr.final_conv.bias": torch.randn(classes, generator=generator)}


def forward(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """Normalised by the statistics of the batch, as upstream in training and prediction."""

    def ops(part: str, feature: Tensor) -> Tensor:
        for i in range(2):
            own = f"{part}.ops.{i}"
            feature = F.conv3d(feature, state[f"{own}.conv1.weight"], state[f"{own}.conv1.bias"], padding=1)
            weight, bias = state[f"{own}.bn1.weight"], state[f"{own}.bn1.bias"]
            feature = F.relu(F.batch_norm(feature, None, None, weight, bias, training=True))
        return feature

    feature, skips = image, []
    for part in list(CHANNELS)[:4]:
        skips.append(ops(part, feature))
        feature = F.max_pool3d(skips[-1], 2)
    feature = skips[-1]
    for part, skip in zip(list(CHANNELS)[4:], skips[-2::-1], strict=True):
        up = F.conv_transpose3d(feature, state[f"{part}.up_conv.weight"], state[f"{part}.up_conv.bias"], 2)
        feature = ops(part, torch.cat([up, skip], dim=1))
    return F.conv3d(feature, state["out_tr.final_conv.weight"], state["out_tr.final_conv.bias"])


def written(folder: Path, prefix: str) -> Path:
    content = {f"{prefix}{name}": tensor for name, tensor in state_of().items()}
    torch.save(
        {"net": content | {"module.organ_embedding": torch.ones(25, 512)}}, folder / "supervised_suprem_unet.pth"
    )
    return folder / "supervised_suprem_unet.pth"


def test_logits_are_those_of_the_upstream(tmp_path: Path) -> None:
    net = network()
    found = read(written(tmp_path, "module.backbone."))
    report = load(net, found, stem=net.stem_kernel, channels=[Channel("CT")])
    assert report.share == 1.0
    image = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(net(image), forward(state_of(), image), atol=1e-4)


def test_other_classes_and_channels(tmp_path: Path) -> None:
    net = network(2, 5)
    found = read(written(tmp_path, "module."))
    report = load(net, found, stem=net.stem_kernel, channels=[Channel("CT"), Channel("PET")])
    assert report.named("random") == ["out_tr.final_conv.weight", "out_tr.final_conv.bias"]
    assert report.named("adapted") == ["down_tr64.ops.0.conv1.weight"]


def test_size_of_the_published_network() -> None:
    with torch.device("meta"):
        net = GenesisUNet(ModelSpec(1, 1, (96, 96, 96), (1.5,) * 3, (), ()))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 19.07
