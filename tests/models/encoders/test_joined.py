"""Joined encoders: each branch as it is alone, with its own channels, weights and resolution."""

from functools import partial

import pytest
import timm
import torch
from hydra.utils import instantiate
from torch.nn import functional

from medseg.errors import InputError
from medseg.finetuning.frozen import Frozen
from medseg.finetuning.full import Full
from medseg.hydra_app.compose import compose
from medseg.models.decoders.unet import UNet
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import check_features
from medseg.models.encoders.fusion import Concatenation, CrossAttention, Difference, Gate, Sum
from medseg.models.encoders.joined import Joined
from medseg.models.monai.resnet_encoder import MonaiResNet
from medseg.models.timm.encoder import Timm
from medseg.sample import Channel
from medseg.weights.report import Report
from tests.models.encoders.volumes import features, noise, scrambled, spec

NAMES = ("VV", "B2", "B3", "B4", "B8")
CHANNELS = tuple(Channel(name) for name in NAMES)
RESNET = partial(Timm, name="test_resnet")
VIT = partial(Timm, name="test_vit")
FUSIONS = pytest.mark.parametrize("fusion", [Sum, Concatenation, Gate, CrossAttention, Difference])
SPLIT = {"optical": ["B4", "B3", "B2", "B8"], "radar": ["VV"]}


def joined(fusion=Sum, data=CHANNELS, patch=(160, 160), **settings) -> Joined:
    torch.manual_seed(0)
    given = {"branches": {"optical": RESNET, "radar": RESNET}, "channels": SPLIT, "fusion": fusion} | settings
    return Joined(spec(patch, data), **given)


def assert_close(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_branch_alone_is_its_encoder():
    encoder = scrambled(joined(branches={"optical": RESNET}, channels={"optical": list(NAMES)}))
    image = noise(2, 5, 64, 96)
    assert_close(features(encoder, image), features(encoder.branches["optical"], image))


def test_a_plain_transformer_gives_grids():
    encoder = scrambled(joined(branches={"optical": VIT}, channels={"optical": list(NAMES)}))
    image = noise(1, 5, 160, 160)
    inner = encoder.branches["optical"]
    tokens = [t[:, f.prefix :] for t, f in zip(features(inner, image), inner.features, strict=True)]
    assert_close([grid.flatten(2).transpose(1, 2) for grid in features(encoder, image)], tokens)


def test_sum_by_hand():
    encoder = scrambled(joined())
    image = noise(2, 5, 64, 96)
    first = features(encoder.branches["optical"], image[:, [3, 2, 1, 4]])
    second = features(encoder.branches["radar"], image[:, :1])
    with torch.no_grad():
        second = [layer(x) for layer, x in zip(encoder.align["radar"].project, second, strict=True)]
    assert_close(features(encoder, image), [a + b for a, b in zip(first, second, strict=True)])


@FUSIONS
@pytest.mark.parametrize("radar", [RESNET, VIT], ids=["pyramid", "tokens"])
def test_declared_features_on_images_that_are_not_square(fusion, radar):
    encoder = joined(fusion, branches={"optical": RESNET, "radar": radar}, patch=(64, 160))
    check_features(encoder, 5, encoder.fixed_shape or (64, 160))


@FUSIONS
@pytest.mark.parametrize("branch", ["optical", "radar"])
def test_a_missing_branch_has_no_influence(fusion, branch):
    encoder, image = scrambled(joined(fusion)), noise(2, 5, 64, 64)
    image[1, list(encoder.places[branch])] = 0
    before = features(encoder, image)
    with torch.no_grad():
        for parameter in encoder.branches[branch].parameters():
            parameter.mul_(1.5)
    after = features(encoder, image)
    assert_close([f[1] for f in before], [f[1] for f in after])
    assert not torch.allclose(before[-1][0], after[-1][0])


def test_a_coarser_branch_sees_the_mean_of_cells():
    encoder = scrambled(joined(branches={"radar": RESNET}, channels={"radar": list(NAMES)}, resolution={"radar": 2}))
    small = noise(1, 5, 64, 32)
    image = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close(features(encoder, image), features(encoder.branches["radar"], small))
    assert [f.stride[0] for f in encoder.features] == [2 * f.stride[0] for f in encoder.branches["radar"].features]
    assert encoder.divisor == (64, 64)


def test_two_resolutions_meet_on_the_grids_of_the_first():
    encoder = joined(resolution={"radar": 2}, patch=(128, 192))
    check_features(encoder, 5, (128, 192))
    assert encoder.align["radar"].sources == [0, 0, 1, 2, 3], "features of stride 4, 8, 16, 32, 64"


WIDE = {"near": RESNET, "far": RESNET}
SAME = {"near": list(NAMES), "far": list(NAMES)}


def test_a_branch_with_context_sees_more_in_larger_cells():
    encoder = scrambled(joined(branches=WIDE, channels=SAME, context={"far": 2}, patch=(128, 256)))
    assert encoder.margin == (32, 64)
    image = noise(1, 5, 128, 256)
    near = features(encoder.branches["near"], image[:, :, 32:-32, 64:-64])
    far = features(encoder.branches["far"], functional.avg_pool2d(image, 2))
    for level, (a, b, project) in enumerate(zip(near, far, encoder.align["far"].project, strict=True)):
        source = far[encoder.align["far"].sources[level]]
        with torch.no_grad():
            whole = functional.interpolate(
                project(source), (2 * a.shape[2], 2 * a.shape[3]), mode="bilinear", align_corners=False
            )
        inside = whole[:, :, a.shape[2] // 2 : -(a.shape[2] // 2), a.shape[3] // 2 : -(a.shape[3] // 2)]
        assert torch.allclose(features(encoder, image)[level], a + inside, atol=1e-4)
        assert b.shape[1] == a.shape[1]
    check_features(encoder, 5, (128, 256))


def test_context_meets_its_own_place():
    """A mark in the centre of the image is in the centre of what the far branch gives."""
    encoder = joined(branches=WIDE, channels=SAME, context={"far": 2}, patch=(256, 256)).eval()
    image = torch.zeros(1, 5, 256, 256)
    image[:, :, 120:136, 120:136] = 5.0
    with torch.no_grad():
        given = encoder.branches["far"](encoder.views["far"](image))
        aligned = encoder.align["far"](given, [(128 // s, 128 // s) for s in (2, 4, 8, 16, 32)])
    strength = (aligned[1] - aligned[1][..., :1, :1]).abs().sum(1)[0]
    rows, columns = strength.sum(1), strength.sum(0)
    for profile in (rows, columns):
        centre = (profile * torch.arange(len(profile))).sum() / profile.sum()
        assert abs(float(centre) - (len(profile) - 1) / 2) < 1


def test_a_network_with_context_trains_and_gives_logits_of_the_centre():
    net = EncoderDecoder(
        spec((128, 128), CHANNELS),
        encoder=partial(Joined, branches=WIDE, channels=SAME, context={"far": 2}, fusion=CrossAttention),
        decoder=partial(UNet, base_features=4),
    )
    assert net.margin == (32, 32)
    assert net.eval()(noise(2, 5, 128, 128)).shape == (2, 2, 64, 64)
    assert net.train()(noise(2, 5, 128, 128))[0].shape == (2, 2, 64, 64)


def test_a_shared_encoder_serves_both_dates():
    channels = tuple(Channel(f"{group}.{band}") for group in ("pre", "post") for band in ("B4", "B8"))
    encoder = scrambled(joined(Sum, channels, branches={"pre": RESNET}, shared={"post": "pre"}, channels=None))
    assert [c.name for c in encoder.branches["pre"].channels] == ["B4", "B8"], "the name of the group is left out"
    assert list(encoder.branches) == ["pre"]
    image = noise(1, 4, 64, 64)
    one, two = (features(encoder.branches["pre"], image[:, places]) for places in ([0, 1], [2, 3]))
    with torch.no_grad():
        two = [layer(x) for layer, x in zip(encoder.align["post"].project, two, strict=True)]
    assert_close(features(encoder, image), [a + b for a, b in zip(one, two, strict=True)])


def test_channels_of_a_group_need_no_list():
    channels = tuple(Channel(name) for name in ("s1.VV", "s2.B4", "s2.B8"))
    encoder = joined(Sum, channels, branches={"s2": RESNET, "s1": RESNET}, channels=None)
    assert encoder.places == {"s2": (1, 2), "s1": (0,)}


def test_each_branch_loads_and_reports_its_own_weights(tmp_path):
    nets = {}
    for i, (branch, count) in enumerate({"optical": 3, "radar": 1}.items()):
        nets[branch] = scrambled(timm.create_model("test_resnet", in_chans=count, pretrained=False), seed=i)
        torch.save(nets[branch].state_dict(), tmp_path / f"{branch}.pt")
    ways = {
        "optical": partial(RESNET, weights=str(tmp_path / "optical.pt"), trained_on=["B4", "B3", "B2"]),
        "radar": partial(RESNET, weights=str(tmp_path / "radar.pt")),
    }
    encoder = joined(branches=ways)
    report = encoder.initialise({"mean": [0.0] * 5, "std": [1.0] * 5})
    assert report is not None
    assert report.share == 1
    assert [name for name, _ in report.branches] == ["optical", "radar"]
    for branch, order in (("optical", [0, 1, 2]), ("radar", [0])):
        own, file = encoder.branches[branch].trunk.state_dict(), nets[branch].state_dict()
        stem = encoder.branches[branch].stem
        assert {name for name in own if not torch.equal(own[name], file[name])} <= {stem}
        ratio = (own[stem][:, order] / file[stem]).reshape(-1)
        assert torch.allclose(ratio, ratio[0], rtol=1e-3), "one factor for fewer or more channels"
    assert dict(report.channels)["radar: VV"]
    assert report.table().startswith("branch optical: weights of ")
    assert "\nbranch radar: weights of " in report.table()
    assert Report.from_dict(report.to_dict()) == report


def test_statistics_are_those_of_the_channels_of_a_branch(tmp_path, monkeypatch):
    encoder, given = joined(), {}
    for name, inner in encoder.branches.items():
        monkeypatch.setattr(inner, "initialise", lambda statistics, name=name: given.update({name: statistics}))
    encoder.initialise({"mean": [0.0, 1.0, 2.0, 3.0, 4.0]})
    assert given == {"optical": {"mean": [3.0, 2.0, 1.0, 4.0]}, "radar": {"mean": [0.0]}}


def test_a_branch_without_weights_stays_random_and_is_not_reported(tmp_path):
    torch.save(timm.create_model("test_resnet", in_chans=3, pretrained=False).state_dict(), tmp_path / "net.pt")
    encoder = joined(branches={"optical": partial(RESNET, weights=str(tmp_path / "net.pt")), "radar": RESNET})
    before = {name: p.clone() for name, p in encoder.branches["radar"].named_parameters()}
    report = encoder.initialise()
    assert report is not None
    assert [name for name, _ in report.branches] == ["optical"]
    assert all(torch.equal(p, before[name]) for name, p in encoder.branches["radar"].named_parameters())
    assert joined().initialise() is None


def test_messages_of_a_branch_name_its_settings(tmp_path):
    encoder = joined(branches={"optical": partial(RESNET, weights=str(tmp_path / "no.pt")), "radar": RESNET})
    with pytest.raises(InputError, match=r"^model\.encoder\.branches\.optical\.weights=.*no such file"):
        encoder.initialise()
    with pytest.raises(InputError, match=r"^model\.encoder\.branches\.radar\.name=resnet_99"):
        joined(branches={"optical": RESNET, "radar": partial(Timm, name="resnet_99")})


def test_volumes():
    channels = tuple(Channel(name) for name in ("T1", "T2"))
    small = partial(MonaiResNet, depth=10)
    encoder = Joined(
        spec((32, 32, 32), channels),
        branches={"one": small, "two": small},
        channels={"one": ["T1"], "two": ["T2"]},
        fusion=CrossAttention,
    )
    check_features(encoder, 2, (32, 32, 64))


def test_frozen_encoders_leave_the_fusion_to_learn():
    net = EncoderDecoder(
        spec((64, 64), CHANNELS),
        encoder=partial(Joined, branches={"optical": RESNET, "radar": RESNET}, channels=SPLIT, fusion=Concatenation),
        decoder=partial(UNet, base_features=4),
    )
    Frozen().attach(net)
    learning = {name.split(".")[1] for name, p in net.named_parameters() if p.requires_grad and name.startswith("enc")}
    assert learning == {"align", "fusions"}


def test_layers_count_within_their_branch():
    net = EncoderDecoder(
        spec((64, 64), CHANNELS),
        encoder=partial(Joined, branches={"optical": RESNET, "radar": RESNET}, channels=SPLIT, fusion=Concatenation),
        decoder=partial(UNet, base_features=4),
    )
    groups = Full(layer_decay=0.5).groups(net)
    factor = {id(p): group["factor"] for group in groups for p in group["params"]}
    by_name = {name: factor[id(p)] for name, p in net.encoder.named_parameters()}
    first = {n.removeprefix("branches.optical."): f for n, f in by_name.items() if n.startswith("branches.optical.")}
    second = {n.removeprefix("branches.radar."): f for n, f in by_name.items() if n.startswith("branches.radar.")}
    assert first == second
    assert min(first.values()) < max(first.values()) == 1
    assert {f for n, f in by_name.items() if n.startswith(("align", "fusions"))} == {1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branches": {}}, r"got no branch.*\+model/encoder@model\.encoder\.branches\.NAME=timm"),
        ({"channels": {"optical": ["B4"], "radar": ["VV"]}}, r"B2, B3, B8 in no branch of optical, radar"),
        ({"channels": SPLIT | {"radar": ["VW"]}}, r"channels\.radar: got VW, the data has VV, .*did you mean VV\?"),
        ({"channels": {"optical": list(NAMES)}}, r"branch radar has no channels: none begins with radar\."),
        ({"channels": SPLIT | {"height": ["VV"]}}, r"channels\.height: there is no such branch.*optical, radar"),
        ({"channels": SPLIT | {"radar": []}}, r"channels\.radar=\[\]: expected a list of different channels"),
        ({"resolution": {"radar": 0}}, r"resolution\.radar=0: expected a whole number"),
        ({"resolution": {"swir": 2}}, r"resolution\.swir: there is no such branch"),
        ({"context": {"optical": 2}}, r"context\.optical=2: .*1 of the first branch \(optical\)"),
        ({"context": {"radar": 0}}, r"context\.radar=0: expected a whole number"),
        ({"context": {"radar": 2}}, r"a patch of \(160, 160\) can't be divided .*set plan\.patch=\[256,256\]"),
        ({"shared": {"radar": "optical"}}, r"shared=\{radar: optical\}: expected a branch without an encoder"),
        (
            {"branches": {"optical": RESNET}, "shared": {"radar": "optical"}},
            r"shared=\{radar: optical\}: got 1 channels at resolution 1, expected those of optical, 4 channels",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        joined(**settings)


def test_by_options():
    cfg = compose(
        "train",
        [
            "data=phantom_scenes", "model=encoder_decoder", "model/encoder=joined", "model/decoder=unet",
            "+model/encoder@model.encoder.branches.optical=timm", "model.encoder.branches.optical.name=test_resnet",
            "+model/encoder@model.encoder.branches.radar=timm", "model.encoder.branches.radar.name=test_vit",
            "model.encoder.channels={optical: [B2,B3,B4,B8], radar: [VV]}", "model/encoder/fusion=gate",
        ],
    )  # fmt: skip
    net = instantiate(cfg.model, _convert_="all")(spec((160, 160), CHANNELS)).eval()
    with torch.no_grad():
        assert net(noise(1, 5, 160, 160)).shape == (1, 2, 160, 160)
    assert isinstance(net.encoder.fusions[0], Gate)
