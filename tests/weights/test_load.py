import copy

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed
from torch import nn

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights import load as loading
from medseg.weights.fit import Inputs
from medseg.weights.options import WeightOptions
from medseg.weights.positions import Grids
from medseg.weights.pretrained import Pretrained, read

RGB = tuple(Channel(n) for n in "RGB")
CT = (Channel("CT"),)


def load(net, found, *, adapt="auto", least_share=0.9, accept=(), frames=None, **rest):
    options = WeightOptions(adapt=adapt, least_share=least_share, accept=accept, frames=frames)
    return loading.load(net, found, options=options, **rest)


class Net(nn.Module):
    """A tiny transformer with everything that wants adapting: stem, positions, buffers, a tied tensor."""

    def __init__(self, channels=3, grid=4, width=8, ndim=2, blocks=3, tied=False):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.stem = conv(channels, width, 3)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid**ndim, width))
        self.register_buffer("attn_mask", torch.randn(grid, grid))
        self.blocks = nn.Sequential(*(nn.Linear(width, width) for _ in range(blocks)))
        self.norm = nn.BatchNorm1d(width)
        if tied:
            self.head = self.blocks[0]


def found_in(net, prefix="", channels=(), **told):
    return Pretrained({prefix + k: v.clone() for k, v in net.state_dict().items()}, "net.pth", channels, **told)


def state_of(net):
    return copy.deepcopy(net.state_dict())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def rows(report, how):
    return {row.name for row in report.rows if row.how == how}


@pytest.mark.parametrize("prefix", ["", "module.", "teacher.backbone.", "network.encoder.net."])
def test_its_own_weights_are_copied_bit_by_bit(prefix):
    trained, net = Net(), Net()
    report = load(net, found_in(trained, prefix, RGB), stem="stem.weight", channels=RGB)
    assert same(net.state_dict(), trained.state_dict())
    assert report.share == 1
    assert {row.how for row in report.rows} == {"copied"}
    assert report.warnings == ()
    assert report.channels == (("R", "copied from R"), ("G", "copied from G"), ("B", "copied from B"))


def test_every_tensor_of_both_is_accounted_for():
    trained, net = Net(blocks=3), Net(channels=1, grid=5, blocks=4)
    found = found_in(trained, "e.", RGB)
    found = found.with_state({**found.state, "decoder.weight": torch.ones(7), "e.mask_token": torch.ones(1)})
    report = load(net, found, stem="stem.weight", channels=CT, least_share=0.5)
    own = state_of(net)
    assert {row.name for row in report.rows if row.how != "unexpected"} == own.keys()
    assert rows(report, "unexpected") == {"decoder.weight", "e.mask_token"}
    assert rows(report, "random") == {"blocks.3.weight", "blocks.3.bias"}
    assert rows(report, "adapted") == {"stem.weight", "pos_embed"}
    assert rows(report, "kept") == {"attn_mask"}
    assert all(row.numbers == own[row.name].numel() for row in report.rows if row.name in own)
    assert report.prefix == "names begin with e. in the file"
    parameters = sum(p.numel() for p in net.parameters())
    assert report.share == pytest.approx(1 - (8 * 8 + 8) / parameters)


def test_what_is_adapted():
    trained, net = Net(), Net(channels=1, grid=5)
    mask = net.attn_mask.clone()
    report = load(net, found_in(trained, "", RGB), stem="stem.weight", channels=CT)
    assert not any("attn_mask" in warning for warning in report.warnings)
    assert torch.allclose(net.stem.weight, trained.stem.weight.sum(1, keepdim=True), atol=1e-6)
    assert torch.equal(net.pos_embed, resample_abs_pos_embed(trained.pos_embed, [5, 5]))
    assert torch.equal(net.attn_mask, mask), "it follows from the grid"


def test_images_become_volumes():
    trained, net = Net(grid=3), Net(channels=1, grid=3, ndim=3)
    report = load(net, found_in(trained, "", RGB), stem="stem.weight", channels=CT, inflate="mean")
    assert torch.allclose(net.stem.weight.sum(-1), trained.stem.weight.sum(1, keepdim=True), atol=1e-6)
    assert torch.equal(net.pos_embed[0, 1:].reshape(9, 3, 8)[:, 1], trained.pos_embed[0, 1:])
    assert report.share == 1


def test_grids_that_are_told():
    trained, net = Net(), Net()
    grids = Grids(grid=(2, 8), trained=(4, 4))
    load(net, found_in(trained), stem="stem.weight", channels=RGB, grids=grids)
    assert torch.equal(net.pos_embed, resample_abs_pos_embed(trained.pos_embed, [2, 8], [4, 4]))


def test_grids_that_the_module_knows():
    trained, net = (timm.create_model("test_vit", pretrained=False, img_size=size) for size in (160, (32, 64)))
    load(net, found_in(trained), stem="patch_embed.proj.weight", channels=RGB)
    assert torch.equal(net.pos_embed, resample_abs_pos_embed(trained.pos_embed, [2, 4]))


def test_positions_of_an_unknown_grid_are_named():
    class Bare(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.pos_embed = nn.Parameter(torch.randn(1, n, 8))
            self.blocks = nn.Linear(8, 64)

    report = load(Bare(15), found_in(Bare(16)), stem=None, channels=RGB, least_share=0.5, accept=["positions"])
    assert report.warnings[-1].startswith("of another shape in the file, left as initialised: pos_embed ([1, 16, 8]")


def test_several_stems():
    trained, net = (nn.ModuleDict({"a": nn.Conv2d(c, 4, 3), "b": nn.Conv2d(c, 4, 1)}) for c in (3, 1))
    load(net, found_in(trained, "", RGB), stem=("a.weight", "b.weight"), channels=CT)
    for name in ("a", "b"):
        assert torch.allclose(net[name].weight, trained[name].weight.sum(1, keepdim=True), atol=1e-6)


def test_no_stem_takes_any_channels():
    trained, net = Net(), Net()
    report = load(net, found_in(trained, "", RGB), stem=None, channels=CT)
    assert same(net.state_dict(), trained.state_dict())
    assert report.channels == ()


@pytest.mark.parametrize("named", ["blocks.0", "head"])
def test_tensors_that_are_shared_count_once(named):
    trained, net = Net(tied=True), Net(tied=True)
    other = "head" if named == "blocks.0" else "blocks.0"
    found = found_in(trained)
    found = found.with_state({k: v for k, v in found.state.items() if not k.startswith(other)})
    report = load(net, found, stem="stem.weight", channels=RGB)
    assert report.share == 1
    assert torch.equal(net.head.weight, trained.head.weight)
    parameters = sum(p.numel() for p in net.parameters())
    assert sum(row.numbers for row in report.rows if row.counts) == parameters


def test_random_stem_is_not_covered():
    trained, net = Net(), Net(channels=1)
    arguments = {"stem": "stem.weight", "channels": CT, "adapt": "random"}
    report = load(net, found_in(trained), **arguments, least_share=0, generator=torch.Generator().manual_seed(0))
    assert "stem.weight" in rows(report, "random")
    first = net.stem.weight.clone()
    load(net, found_in(trained), **arguments, least_share=0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net.stem.weight, first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_modules_dtype_stays(dtype):
    trained, net = Net().to(dtype), Net(channels=2)
    load(net, found_in(trained), stem="stem.weight", channels=(Channel("a"), Channel("b")))
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.equal(net.blocks[0].weight, trained.blocks[0].weight.float())
    assert net.norm.num_batches_tracked.dtype == torch.int64


def test_frozen_parameters_are_loaded_and_stay_frozen():
    trained, net = Net(), Net().requires_grad_(False)
    load(net, found_in(trained), stem="stem.weight", channels=RGB)
    assert same(net.state_dict(), trained.state_dict())
    assert not any(p.requires_grad for p in net.parameters())


# What is refused, and that nothing has changed then.


def refused(net, found, words, **settings):
    before = state_of(net)
    arguments = {"stem": "stem.weight", "channels": RGB} | settings
    with pytest.raises(InputError, match=words) as caught:
        load(net, found, **arguments)
    assert same(net.state_dict(), before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_matching_name():
    other = Pretrained({"conv.kernel": torch.ones(3), "dense.kernel": torch.ones(3)}, "net.pth")
    told = refused(Net(), other, "nothing in it fits the encoder", least_share=0.0)
    assert "none of its 2 names (conv.kernel, dense.kernel) is one of the encoder's 11" in told
    assert "pos_embed" in told


def test_half_of_the_names():
    net = Net(blocks=8)
    found = found_in(Net(blocks=2), "m.")
    found = found.with_state({**found.state, "m.neck.weight": torch.ones(1)})
    told = refused(net, found, "covers 5", channels=RGB)
    report = load(copy.deepcopy(net), found, stem="stem.weight", channels=RGB, least_share=0.1)
    assert f"covers {report.share:.1%}".removesuffix("%")[:11] in told
    assert "expected at least 90 %" in told
    assert "missing: blocks.2.weight, blocks.2.bias, blocks.3.weight and 9 more" in told
    assert "unexpected: m.neck.weight" in told
    assert "m. in the file, none here" in told
    way = told.rpartition("least_share=")[2]
    load(net, found, stem="stem.weight", channels=RGB, least_share=float(way))


def test_wrong_shapes_of_some():
    trained, net = Net(), Net()
    found = found_in(trained)
    found = found.with_state({**found.state, "blocks.1.weight": torch.ones(9, 9)})
    told = refused(net, found, "wrong shape: blocks.1.weight \\[9, 9\\] in the file, \\[8, 8\\] here", least_share=1.0)
    assert "unexpected" not in told
    initial = net.blocks[1].weight.clone()
    report = load(net, found, stem="stem.weight", channels=RGB, least_share=0.5)
    assert torch.equal(net.blocks[1].weight, initial)
    assert report.warnings[-1] == (
        "of another shape in the file, left as initialised: blocks.1.weight ([9, 9] in the file, [8, 8] here)"
    )


def test_another_size_of_the_same_network():
    told = refused(Net(width=8), found_in(Net(width=16), "m."), "names agree, but shapes do not", least_share=0.0)
    assert "[16, 3, 3, 3] in the file, [8, 3, 3, 3] here" in told or "in the file" in told
    assert "another size of it" in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["blocks.1.weight", "stem.weight", "norm.running_var"])
def test_values_that_are_not_finite(name, value):
    found = found_in(Net())
    found.state[name].view(-1)[0] = value
    refused(Net(), found, f"{name} holds 1 values of")


def test_values_too_large_for_the_modules_dtype():
    trained = Net().double()
    trained.blocks[0].weight.data.fill_(1e30)
    refused(Net().half(), found_in(trained), "blocks.0.weight holds 64 values of 64 that are not finite as float16")


def test_quantised_weights():
    found = found_in(Net())
    found = found.with_state({**found.state, "blocks.0.weight": torch.ones(8, 8, dtype=torch.int8)})
    refused(Net(), found, "blocks.0.weight holds int8, expected floating numbers; the weights are quantised")


def test_a_strategy_without_anything_to_go_by():
    refused(Net(1), found_in(Net(), "", RGB), "needs a name in common", channels=CT, adapt="name")
    refused(Net(), found_in(Net(), "", RGB), "is no strategy", adapt="nearest")
    refused(Net(), found_in(Net()), "expected a share from 0 to 1", least_share=90.0)


def test_a_stem_that_is_none_is_a_defect():
    with pytest.raises(ValueError, match="which the encoder calls its stem"):
        load(Net(), found_in(Net()), stem="conv1.weight", channels=RGB)
    with pytest.raises(ValueError, match="takes 3 channels, the data has 1"):
        load(Net(), found_in(Net()), stem="stem.weight", channels=CT)


# What is told.


def test_statistics_are_compared():
    found = found_in(Net(), "", RGB, mean=(0.5,) * 3, std=(0.2,) * 3, scale=255.0)
    statistics = {"mean": [2000.0] * 3, "std": [900.0] * 3}
    report = load(Net(), found, stem="stem.weight", channels=RGB, statistics=statistics)
    assert "R 900 instead of 51" in report.warnings[0]
    assert report.normalisation.startswith("R, G, B: raw values / 255, minus 0.5")
    assert "trained on R, G, B: raw values / 255" in report.table()


def test_guessed_channels_are_told():
    report = load(Net(2), found_in(Net()), stem="stem.weight", channels=(Channel("B04"), Channel("CT")))
    assert report.channels[0] == ("B04", "copied from R, times 1.5")
    assert report.warnings == ("the weights do not say which channels they were trained on; taken as red, green, blue",)


def test_a_stem_that_the_file_lacks():
    found = found_in(Net())
    found = found.with_state({k: v for k, v in found.state.items() if k != "stem.weight"})
    report = load(Net(), found, stem="stem.weight", channels=RGB, least_share=0.5, accept=["stem"])
    assert report.channels[0] == ("R", "random: the file has no such kernel")
    assert "stem.weight" in rows(report, "random")


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from(["", "m.", "teacher.backbone."]), st.integers(0, 99))
def test_share_is_that_of_the_numbers_that_changed(blocks, lost, prefix, seed):
    torch.manual_seed(seed)
    trained, net = Net(blocks=blocks), Net(blocks=blocks + lost)
    before = {k: p.detach().clone() for k, p in net.named_parameters()}
    for p in trained.parameters():
        p.data.normal_()
    report = load(net, found_in(trained, prefix), stem="stem.weight", channels=RGB, least_share=0)
    changed = sum(p.numel() for k, p in net.named_parameters() if not torch.equal(p, before[k]))
    assert report.share == pytest.approx(changed / sum(p.numel() for p in net.parameters()))


# Networks as they are published: the whole network in a file, its features here.


@pytest.mark.parametrize(
    "name, stem, settings",
    [
        ("test_resnet", "conv1.0.weight", {}),
        ("test_vit", "model.patch_embed.proj.weight", {"img_size": 96}),
        ("test_convnext", "stem_0.weight", {}),
        ("test_efficientnet", "conv_stem.weight", {}),
    ],
)
def test_networks_of_timm(tmp_path, name, stem, settings):
    whole = timm.create_model(name, pretrained=False)
    net = timm.create_model(name, pretrained=False, features_only=True, in_chans=4, **settings)
    stem = stem if stem in net.state_dict() else next(k for k, p in net.named_parameters() if p.ndim == 4)
    teacher = {f"module.backbone.{k}": v for k, v in whole.state_dict().items()}
    torch.save({"epoch": 3, "teacher": teacher, "student": teacher}, tmp_path / "dino.pth")
    wanted = tuple(Channel(n) for n in ("B02", "B03", "B04", "B08"))
    report = load(net, read(tmp_path / "dino.pth"), stem=stem, channels=wanted)
    assert report.share == 1
    assert len(report.table().splitlines()) <= 25


class Two(nn.Module):
    """Two stems, each of channels of its own."""

    def __init__(self, first, second):
        super().__init__()
        self.optical, self.radar = nn.Conv2d(first, 4, 2), nn.Conv2d(second, 4, 2)


def inputs_of(first, second):
    bands, radar = tuple(Channel(n) for n in ("R", "G", "B")), (Channel("VV"), Channel("VH"))
    return {"optical.weight": Inputs(bands, first), "radar.weight": Inputs(radar, second)}


def test_stems_may_take_different_channels():
    trained, net = Two(3, 2), Two(1, 3)
    first, second = (Channel("G"),), (Channel("VH"), Channel("VV"), Channel("HH"))
    report = load(
        net,
        found_in(trained),
        stem=["optical.weight", "radar.weight"],
        channels=(*first, *second),
        inputs=inputs_of(first, second),
    )
    assert torch.allclose(net.optical.weight, trained.optical.weight[:, [1]] * 3)
    assert torch.allclose(net.radar.weight[:, :2], trained.radar.weight[:, [1, 0]] * 2 / 3)
    assert [name for name, _ in report.channels] == ["G", "VH", "VV", "HH"]
    assert report.channels[0][1] == "copied from G, times 3"


def test_a_stem_of_another_number_of_channels_than_its_own_is_refused():
    net, wrong = Two(3, 2), found_in(Two(3, 4))
    own = (Channel("R"), Channel("G"), Channel("B")), (Channel("VV"), Channel("VH"))
    with pytest.raises(InputError, match=r"radar.weight: the kernel that takes the image would stay random"):
        load(net, wrong, stem=list(inputs_of(*own)), channels=own[0] + own[1], inputs=inputs_of(*own), least_share=0)
