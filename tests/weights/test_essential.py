"""Weights that lack what all else rests on are refused, however few parameters that are."""

import copy

import pytest
import timm
import torch
from torch import nn

from medseg.errors import InputError
from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from medseg.sample import Channel
from medseg.weights.load import load
from medseg.weights.options import WeightOptions
from medseg.weights.pretrained import Pretrained

RGB = tuple(Channel(n) for n in "RGB")
SIX = tuple(Channel(f"band{i}") for i in range(6))


def spec(channels=RGB, shape=(64, 64)):
    return ModelSpec(
        in_channels=len(channels), out_channels=2, patch_shape=shape, spacing=(10.0, 10.0), kernels=(), strides=(),
        channels=channels,
    )  # fmt: skip


class Net(nn.Module):
    def __init__(self, blocks=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 2)
        self.pos_embed = nn.Parameter(torch.randn(1, 4, 16))
        self.blocks = nn.Sequential(*(nn.Linear(16, 16 * 16) for _ in range(blocks)))
        self.norm = nn.BatchNorm1d(16)


def without(net, *starts):
    state = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith(starts)}
    return Pretrained(state, "net.pth", RGB)


def tried(net, found, **options):
    return load(net, found, stem="stem.weight", channels=RGB, options=WeightOptions(least_share=0.5, **options))


@pytest.mark.parametrize(
    ("part", "lost", "words"),
    [
        ("stem", "stem.weight", "stem.weight: the kernel that takes the image would stay random"),
        ("positions", "pos_embed", "pos_embed: learned positions would stay random"),
        ("norm", "norm.weight", "norm.weight: normalisation would stay as initialised"),
        ("norm", "norm.running_var", "norm.running_var: normalisation would stay as initialised"),
    ],
)
def test_a_part_that_the_file_lacks_is_refused_unless_it_is_accepted(part, lost, words):
    net = Net()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(InputError, match=words) as refused:
        tried(net, without(Net(), lost))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert str(refused.value).endswith(f"model.encoder.accept=[{part}]")
    assert tried(net, without(Net(), lost), accept=[part]).share > 0.5


def test_all_lacking_parts_are_named_at_once():
    with pytest.raises(InputError, match=r"accept=\[stem,positions,norm\]"):
        tried(Net(), without(Net(), "stem", "pos_embed", "norm"))


def test_a_random_first_kernel_is_what_adapt_random_asks_for():
    assert tried(Net(), without(Net(), "stem.weight"), adapt="random").share < 1


def test_a_file_that_continues_the_blocks_is_of_a_larger_network():
    with pytest.raises(InputError, match=r"blocks\.3\.weight, blocks\.3\.bias: the file has further layers"):
        tried(Net(blocks=3), without(Net(blocks=4)))
    assert tried(Net(blocks=3), without(Net(blocks=4)), accept=["deeper"]).share == 1


def test_heads_and_decoders_of_the_file_are_no_further_layers():
    found = without(Net())
    extra = {
        "head.weight": torch.ones(2),
        "decoder.blocks.0.weight": torch.ones(2),
        "decoder.blocks.3.bias": torch.ones(2),
    }
    assert tried(Net(), found.with_state({**found.state, **extra})).share == 1


def save(net, path):
    torch.save(net.state_dict(), path)
    return str(path)


def test_resnet34_is_not_taken_for_resnet18(tmp_path):
    file = save(timm.create_model("resnet34", pretrained=False), tmp_path / "resnet34.pth")
    with pytest.raises(InputError, match=r"layer1\.2\.\S+, .* further layers of the same kind"):
        Timm(spec(), name="resnet18", weights=file).initialise()


def test_layers_behind_the_last_feature_are_no_further_layers(tmp_path):
    file = save(timm.create_model("test_vit", pretrained=False), tmp_path / "vit.pth")
    encoder = Timm(spec(shape=(160, 160)), name="test_vit", indices=[1, 2], weights=file)
    report = encoder.initialise()
    assert report is not None
    assert report.share == 1
    assert any(row.how == "unexpected" and row.name.startswith("blocks.") for row in report.rows)


class WithDecoder(Net):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(16, 4), nn.LayerNorm(4))


def test_a_decoder_that_the_file_lacks_as_a_whole_is_no_essential_part():
    report = tried(WithDecoder(), without(Net()))
    assert {row.name for row in report.rows if row.how == "random"} == {
        f"decoder.{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")
    }
