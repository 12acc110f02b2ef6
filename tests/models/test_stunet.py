"""STU-Net: the upstream's names, shapes and logits."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.stunet import SIZES, STUNet
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.pretrained import Pretrained, read
from medseg.weights.report import Report

WIDTHS = (4, 8, 16, 32, 64, 64)
STRIDES = ((1, 2, 2), (2, 2, 2), (1, 2, 1), (1, 1, 1), (1, 1, 1))  # slices, rows, columns
OUTPUTS = (1, 2, 3, 4)
"""Decoder stages with logits: the last of each resolution."""


def network_for(channels: int = 1, classes: int = 3, **settings: object) -> STUNet:
    """Of the axes of medseg, and with fewer strides in the plan than the network has stages."""
    strides = [(1, 1, 1), *(s[::-1] for s in STRIDES[:3])]
    spec = ModelSpec(channels, classes, (16, 16, 4), (1.0,) * 3, ((3,) * 3,) * 4, tuple(strides))
    torch.manual_seed(5)
    return STUNet(spec, features=4, **settings)


def state_of(depth: int = 1, classes: int = 3) -> dict[str, Tensor]:
    """Random tensors under the upstream's names."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def put(name: str, after: int, before: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(after, before, *(kernel,) * 3, generator=generator) * 0.2
        state[f"{name}.bias"] = torch.randn(after, generator=generator)

    def stage(name: str, before: int, after: int) -> None:
        for i in range(depth):
            put(f"{name}.{i}.conv1", after, before if i == 0 else after, 3)
            put(f"{name}.{i}.conv2", after, after, 3)
            for norm in ("norm1", "norm2"):
                state[f"{name}.{i}.{norm}.weight"] = 1 + torch.randn(after, generator=generator) * 0.2
                state[f"{name}.{i}.{norm}.bias"] = torch.randn(after, generator=generator)
        put(f"{name}.0.conv3", after, before, 1)

    for i, (before, after) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
        stage(f"conv_blocks_context.{i}", before, after)
    for i in range(5):
        below, after = WIDTHS[5 - i], WIDTHS[4 - i]
        put(f"upsample_layers.{i}.conv", after, below, 1)
        stage(f"conv_blocks_localization.{i}", 2 * after, after)
        put(f"seg_outputs.{i}", classes, after, 1)
    return state


def forward(state: dict[str, Tensor], image: Tensor, depth: int = 1) -> Tensor:
    """Logits by the published description, slices first."""

    def conv(name: str, feature: Tensor, stride: Sequence[int] | int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv3d(feature, weight, state[f"{name}.bias"], stride, weight.shape[2] // 2)

    def norm(name: str, feature: Tensor) -> Tensor:
        return F.instance_norm(feature, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])

    def stage(name: str, feature: Tensor, stride: Sequence[int] | int = 1) -> Tensor:
        for i in range(depth):
            own, own_stride = f"{name}.{i}", stride if i == 0 else 1
            inner = F.leaky_relu(norm(f"{own}.norm1", conv(f"{own}.conv1", feature, own_stride)), 0.01)
            skip = conv(f"{own}.conv3", feature, own_stride) if i == 0 else feature
            feature = F.leaky_relu(norm(f"{own}.norm2", conv(f"{own}.conv2", inner)) + skip, 0.01)
        return feature

    feature, skips = image, []
    for i, stride in enumerate(((1, 1, 1), *STRIDES)):
        feature = stage(f"conv_blocks_context.{i}", feature, stride)
        skips.append(feature)
    for i in range(5):
        feature = conv(f"upsample_layers.{i}.conv", F.interpolate(feature, scale_factor=STRIDES[4 - i]))
        feature = stage(f"conv_blocks_localization.{i}", torch.cat([feature, skips[4 - i]], dim=1))
    return conv("seg_outputs.4", feature)


def loaded(network: STUNet, found: Pretrained, names: tuple[str, ...] = ("CT",)) -> Report:
    channels = [Channel(name) for name in names]
    return load(network, network.adopt(found), stem=network.stem_kernel, channels=channels)


@pytest.mark.parametrize("depth", [1, 2])
def test_logits_are_those_of_the_upstream(tmp_path: Path, depth: int) -> None:
    state = state_of(depth)
    torch.save({"epoch": 1000, "state_dict": state, "optimizer_state_dict": {}, "plot_stuff": ([1.0], [2.0])},
               tmp_path / "base_ep4k.model")  # fmt: skip
    network = network_for(blocks=depth).eval()
    assert loaded(network, read(tmp_path / "base_ep4k.model")).share == 1.0
    image = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    given = network(image.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
    assert torch.allclose(given, forward(state, image, depth), atol=1e-4)


def test_other_classes_and_channels() -> None:
    report = loaded(network_for(2, 7), Pretrained(state_of(), "f", (Channel("CT"),)), ("CT", "PET"))
    assert report.named("random") == [f"seg_outputs.{i}.{leaf}" for i in OUTPUTS for leaf in ("weight", "bias")]
    assert report.named("adapted") == [f"conv_blocks_context.0.0.conv{i}.weight" for i in (1, 3)]
    assert report.share > 0.98


def test_weights_of_our_own_checkpoints_keep_their_axes() -> None:
    network = network_for()
    state = {f"network.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
    other = network_for()
    assert loaded(other, Pretrained(state, "last.ckpt")).share == 1.0
    assert torch.equal(
        other.conv_blocks_context[0][0].conv1.weight, state["network.conv_blocks_context.0.0.conv1.weight"]
    )


def test_one_output_without_deep_supervision() -> None:
    network = network_for(deep_supervision=False)
    assert len(network.seg_outputs) == 1
    assert network.train()(torch.zeros(1, 1, 16, 16, 4)).shape == (1, 3, 16, 16, 4)
    state = state_of()
    report = loaded(network, Pretrained(state, "f"))
    assert report.share == 1.0
    assert torch.equal(network.seg_outputs["4"].bias, state["seg_outputs.4.bias"])


@pytest.mark.parametrize(("size", "millions"), [("small", 14.6), ("base", 58.3), ("large", 440.3), ("huge", 1457.3)])
def test_sizes_have_the_parameters_of_the_paper(size: str, millions: float) -> None:
    spec = ModelSpec(1, 105, (128,) * 3, (1.5,) * 3, ((3,) * 3,) * 6, ((1,) * 3, *((2,) * 3,) * 5))
    with torch.device("meta"):
        network = STUNet(spec, size=size)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions
    assert network.divisor == (32, 32, 32)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InputError, match=f"model.size=giant: expected one of {', '.join(SIZES)}"):
        network_for(size="giant")
