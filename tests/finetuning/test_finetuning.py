"""Ways of tuning: what moves, what stays, that nothing changes at first, and that changes merge."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.finetuning import adapters
from medseg.finetuning.depth import depths
from medseg.finetuning.frozen import Frozen, LinearProbe
from medseg.finetuning.full import Full
from medseg.finetuning.lora import Lora
from medseg.finetuning.reparametrised import Nola, SvFit
from medseg.finetuning.sam_adapter import SamAdapter, high_frequencies
from medseg.finetuning.side import SideTuning
from medseg.finetuning.strategy import Tuning, part_of
from medseg.models.decoders.linear import Linear
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.network import ModelSpec, Network
from medseg.models.timm.encoder import Timm
from medseg.models.unet import UNet

ADDED: dict[str, Any] = {
    "lora": partial(Lora, rank=2),
    "svfit": partial(SvFit, rank=2),
    "nola": partial(Nola, rank=2, bases=4),
    "sam_adapter": partial(SamAdapter, width=8),
    "side_tuning": partial(SideTuning, width=8),
}
MERGED = ("lora", "svfit", "nola")


def spec(ndim: int = 2) -> ModelSpec:
    ones, twos = (1,) * ndim, (2,) * ndim
    return ModelSpec(3, 2, (32,) * ndim, (1.0,) * ndim, ((3,) * ndim,) * 2, (ones, twos))


def segmenter(name: str = "test_vit") -> EncoderDecoder:
    torch.manual_seed(0)
    return EncoderDecoder(spec(), encoder=partial(Timm, name=name), decoder=partial(Linear, level="all"))


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(spec(3), base_features=4)


def networks() -> list[tuple[str, str]]:
    conv = [(way, "test_resnet") for way in ADDED if way != "sam_adapter"]
    return [(way, "test_vit") for way in ADDED] + conv + [(way, "unet") for way in MERGED]


def build(kind: str) -> Network:
    return unet() if kind == "unet" else segmenter(kind)


def image_of(network: Network) -> torch.Tensor:
    shape = (16,) * 3 if isinstance(network, UNet) else (32, 64)
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))


def step(network: Network, tuning: Tuning, n: int = 3) -> None:
    """Train a little, as a method would."""
    optimizer = torch.optim.Adam(tuning.groups(network), lr=1e-2)
    for _ in range(n):
        network.train()
        tuning.settle(network)
        logits = network(image_of(network))
        logits = logits[0] if isinstance(logits, list) else logits
        optimizer.zero_grad()
        (logits[:, 0] - 1).pow(2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize(("way", "kind"), networks())
def test_nothing_changes_at_first_and_only_what_is_added_moves(way: str, kind: str) -> None:
    network = build(kind).eval()
    image = image_of(network)
    with torch.no_grad():
        before = network(image)
    own = {id(p): p.detach().clone() for p in part_of(network).parameters()}
    tuning = ADDED[way]()
    tuning.attach(network)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), before, rtol=1e-4, atol=1e-5)
    held = {id(p): p for p in part_of(network).parameters() if id(p) in own and not p.requires_grad}
    step(network, tuning)
    assert all(torch.equal(p, own[i]) for i, p in held.items())
    with torch.no_grad():
        assert not torch.allclose(network.eval()(image), before, atol=1e-4)
    if kind != "unet":
        learning = sum(p.numel() for p in part_of(network).parameters() if p.requires_grad)
        assert 0 < learning < 0.5 * sum(p.numel() for p in own.values())


@pytest.mark.parametrize(("way", "kind"), networks())
def test_every_parameter_that_learns_gets_a_gradient_in_time(way: str, kind: str) -> None:
    network, tuning = build(kind), ADDED[way]()
    tuning.attach(network)
    step(network, tuning)  # what starts at zero holds back its inputs in the first step
    lacking = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not [n for n in lacking if "heads" not in n], lacking


@pytest.mark.parametrize(("way", "kind"), [pair for pair in networks() if pair[0] in MERGED])
def test_merged_changes_give_equal_outputs_with_plain_layers(way: str, kind: str) -> None:
    network, tuning = build(kind), ADDED[way]()
    names = set(network.state_dict())
    tuning.attach(network)
    step(network, tuning)
    image = image_of(network)
    with torch.no_grad():
        before = network.eval()(image)
        after = adapters.merge(network)(image)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    assert set(network.state_dict()) == names


@pytest.mark.parametrize(("way", "kind"), networks())
def test_what_was_learned_is_saved_alone_and_loads(way: str, kind: str, tmp_path: Path) -> None:
    network, tuning = build(kind), ADDED[way]()
    tuning.attach(network)
    other = build(kind)
    ADDED[way]().attach(other)
    step(network, tuning)
    size = adapters.save(network, tmp_path / "a.safetensors")
    whole = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if kind == "test_vit":
        assert size < 0.6 * whole
    adapters.load(other, tmp_path / "a.safetensors")
    image = image_of(network)
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(image), network.eval()(image))


@pytest.mark.parametrize("way", ADDED)
def test_a_network_with_it_can_be_copied_after_it_ran(way: str) -> None:
    network, tuning = segmenter(), ADDED[way]()
    tuning.attach(network)
    step(network, tuning, n=1)
    twin = copy.deepcopy(network)
    image = image_of(network)
    with torch.no_grad():
        before = network.eval()(image)
        for p in network.parameters():
            p.zero_()
        torch.testing.assert_close(twin.eval()(image), before)


def test_adapters_have_the_permissions_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    adapters.save(torch.nn.Linear(1, 1), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "other"}


def test_adapters_of_another_network_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    one, two = segmenter(), segmenter()
    Lora(rank=2).attach(one)
    Lora(rank=3).attach(two)
    adapters.save(one, tmp_path / "a.safetensors")
    before = copy.deepcopy(two.state_dict())
    with pytest.raises(InputError, match="do not fit the network"):
        adapters.load(two, tmp_path / "a.safetensors")
    assert all(torch.equal(before[k], v) for k, v in two.state_dict().items())
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="no readable adapters"):
        adapters.load(two, tmp_path / "b.safetensors")


def test_a_frozen_encoder_keeps_its_statistics() -> None:
    network, tuning = segmenter("test_resnet"), Frozen()
    tuning.attach(network)
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    step(network, tuning)
    assert all(torch.equal(v, before[k]) for k, v in network.encoder.state_dict().items())
    assert network.decoder.training
    assert not any(m.training for m in network.encoder.modules())


def test_linear_probe_is_held_to_a_linear_decoder() -> None:
    network = segmenter()
    network.decoder = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(InputError, match="model/decoder=linear"):
        LinearProbe().attach(network)
    with pytest.raises(InputError, match="model=encoder_decoder"):
        Frozen().attach(unet())


def test_rates_fall_with_depth_and_layers_thaw_from_the_last() -> None:
    network, tuning = segmenter(), Full(encoder_lr_scale=0.5, layer_decay=0.5, head_warmup=0.2, gradual_unfreeze=0.6)
    groups = tuning.groups(network)
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    at = {id(p): g for g in groups for p in g["params"]}
    names = dict(network.named_parameters())
    depth = depths(name for name, _ in network.encoder.named_parameters())
    last, deepest = max(depth, key=lambda n: depth[n]), max(depth.values())
    first = next(n for n, d in depth.items() if d == 0)
    head = at[id(names["decoder.head.weight"])]
    assert (head["factor"], head["starts"]) == (1.0, 0.0)
    assert at[id(names[f"encoder.{last}"])]["factor"] == 0.5
    assert at[id(names[f"encoder.{last}"])]["starts"] == pytest.approx(0.2)
    assert at[id(names[f"encoder.{first}"])]["factor"] == pytest.approx(0.5 * 0.5**deepest)
    assert at[id(names[f"encoder.{first}"])]["starts"] == pytest.approx(0.8)
    assert tuning.factor(at[id(names[f"encoder.{first}"])], 0.79) == 0.0
    assert tuning.factor(at[id(names[f"encoder.{first}"])], 0.81) == 1.0
    assert all(("weight_decay" in g) == all(p.ndim <= 1 for p in g["params"]) for g in groups)


def test_a_plain_full_tuning_has_two_groups() -> None:
    assert [g.get("weight_decay") for g in Full().groups(unet())] == [None, 0.0]


@pytest.mark.parametrize(
    ("name", "deepest"), [("test_vit", 6), ("test_resnet", 4), ("test_convnext", 12), ("resnet18", 8)]
)
def test_depths_count_the_blocks_of_timm(name: str, deepest: int) -> None:
    import timm

    found = depths(n for n, _ in timm.create_model(name).named_parameters())
    assert max(found.values()) == deepest
    assert found[next(iter(found))] == 0
    assert list(found.values()) == sorted(found.values())


def test_low_frequencies_are_gone() -> None:
    rows = torch.arange(32) / 32 * 2 * torch.pi
    slow, fast = torch.sin(2 * rows), torch.sin(12 * rows)
    image = (slow + fast + 3)[None, None, :, None].expand(1, 1, 32, 32)
    expected = fast[None, None, :, None].expand(1, 1, 32, 32)
    torch.testing.assert_close(high_frequencies(image, 0.25), expected, atol=1e-4, rtol=0)


def test_singular_values_are_those_of_the_weight() -> None:
    network = segmenter("test_resnet")
    weight = network.encoder.get_submodule("net.layer1.0.conv1").get_parameter("weight").detach().clone()
    SvFit(rank=3).attach(network)
    layer: Any = network.encoder.get_submodule("net.layer1.0.conv1")
    spectrum = layer.parametrizations.weight[0]
    torch.testing.assert_close(spectrum.values.detach(), torch.linalg.svdvals(weight.flatten(1))[:3])
    with torch.no_grad():
        spectrum.values[0] += 1
    changed = torch.linalg.svdvals(layer.weight.detach().flatten(1))
    torch.testing.assert_close(changed[0], spectrum.values.detach()[0])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Lora(targets=["heads"]), "choose from"),
        (lambda: Lora(rank=0), "1 or more"),
        (lambda: Nola(bases=0), "1 or more"),
        (lambda: SideTuning(width=0), "expected 1 or more"),
        (lambda: SamAdapter(share=1.0), "0 < share < 1"),
        (lambda: Full(layer_decay=0.0), "0 < layer_decay <= 1"),
        (lambda: Full(head_warmup=0.7, gradual_unfreeze=0.5), "at most 1"),
        (lambda: Lora(targets=["attention"]).attach(segmenter("test_resnet")), "no such layer"),
        (lambda: SamAdapter().attach(segmenter("test_resnet")), "plain transformers"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_line(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make()
