"""Networks for time series: equal to the network for images where they must be, blind to what is missing."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.models.monai.segresnet import SegResNet
from medseg.models.network import ModelSpec, Network
from medseg.models.smp.network import Smp
from medseg.models.temporal.attention import Attention, day_encoding
from medseg.models.temporal.network import SeriesNetwork
from medseg.models.temporal.pooling_network import Pooled
from medseg.models.unet import UNet
from medseg.sensors.bands import bands_of

CONF = Path(__file__).parents[3] / "conf" / "temporal"
ALL = sorted(path.stem for path in CONF.glob("*.yaml"))
NATIVE = "native"  # takes encoders of time series only
OPTIONS = [option for option in ALL if option != NATIVE]
T, C, K = 4, 2, 3
SHAPE = (32, 64)
FACTS = ModelSpec(C, K, SHAPE, (1.0, 1.0), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)))
TINY = "tu-test_resnet"


@cache
def model(*words: str) -> Any:
    """Settings of a network."""
    return compose("train", words).model


def unet(spec: ModelSpec) -> Network:
    return UNet(spec, base_features=4)


def smp(spec: ModelSpec) -> Network:
    return Smp(spec, architecture="Unet", encoder=TINY, decoder_channels=[16, 16, 16, 16, 16])


def fpn(spec: ModelSpec) -> Network:  # leaves out the first features of its encoder
    small = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
    return Smp(spec, architecture="FPN", encoder=TINY, **small)


def dpt(spec: ModelSpec) -> Network:  # has tokens beside grids
    small = {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}
    return Smp(spec, architecture="DPT", encoder="tu-test_vit", **small)


def segresnet(spec: ModelSpec) -> Network:  # one piece: its logits are pooled
    return SegResNet(spec, init_filters=8, blocks_down=[1, 1], blocks_up=[1])


def segmenter(spec: ModelSpec) -> Network:
    small = ["model.encoder.name=test_resnet", "model/decoder=unet", "model.decoder.base_features=4"]
    return instantiate(model("model=encoder_decoder", *small))(spec)


def tokens(spec: ModelSpec) -> Network:  # of one stride, without a grid
    small = ["token=8", "width=24", "depth=4", "num_heads=3"]
    chosen = ["model=encoder_decoder", "model/encoder=channel_vit", *(f"model.encoder.{s}" for s in small)]
    return instantiate(model(*chosen))(spec)


def prithvi(spec: ModelSpec) -> Network:  # sees all dates itself
    small = ["size=v2_300_tl", "embed_dim=32", "depth=4", "num_heads=2"]
    chosen = ["model=encoder_decoder", "model/encoder=prithvi", *(f"model.encoder.{s}" for s in small)]
    return instantiate(model(*chosen))(spec)


def galileo(spec: ModelSpec) -> Network:  # the same, as one image of features
    small = ["embed_dim=32", "depth=4", "num_heads=2"]
    chosen = ["model=encoder_decoder", "model/encoder=galileo", *(f"model.encoder.{s}" for s in small)]
    named = bands_of(["B4", "B8"], "sentinel-2") * spec.dates
    return instantiate(model(*chosen))(replace(spec, channels=named))


INNER: dict[str, Callable[[ModelSpec], Network]] = {
    f.__name__: f for f in (unet, smp, fpn, dpt, segmenter, tokens, segresnet)
}
PAIRS = [*((option, inner) for option in OPTIONS for inner in INNER), (NATIVE, "prithvi"), (NATIVE, "galileo")]
MAKES = INNER | {"prithvi": prithvi, "galileo": galileo}


def marked(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """By day every option with the U-Net, and every network with attention; the other pairs in slow runs."""
    return [
        pytest.param(*pair, marks=[] if pair[1] == "unet" or pair[0] in ("attention", NATIVE) else [pytest.mark.slow])
        for pair in pairs
    ]


def build(option: str, make: Callable[[ModelSpec], Network], *, fresh: bool = False) -> SeriesNetwork:
    torch.manual_seed(0)
    network = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))(FACTS, make, dates=T)
    if hasattr(network, "pool") and not fresh:  # concat begins as a mean, and attention without a word of when
        for parameter in network.pool.parameters():
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


@pytest.fixture(scope="module", params=[pytest.param(p.values, marks=p.marks) for p in marked(PAIRS)], ids="-".join)
def network(request: pytest.FixtureRequest) -> SeriesNetwork:
    option, inner = request.param
    return build(option, MAKES[inner])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def series(b: int = 2, t: int = T) -> dict[str, Tensor]:
    """Series of which the first lacks its last date and a channel of another."""
    present = torch.ones(b, t, C, dtype=torch.bool)
    present[0, -1], present[0, 0, 1] = False, False
    days = 18000 + torch.tensor([[0, 30, 95, 200][:t]]).repeat(b, 1) + 11 * torch.arange(b)[:, None]
    image = drawn(b, t, C, *SHAPE)
    return {"image": image * present[..., None, None], "present": present, "days": days * present.any(2)}


def logits_of(network: SeriesNetwork, **given: Tensor) -> Tensor:
    with torch.no_grad():
        return network(**given)


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_the_image(network: SeriesNetwork) -> None:
    logits = logits_of(network, **series())
    assert logits.shape == (2, K, *SHAPE)
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_what_stands_in_missing_slots_changes_no_bit(network: SeriesNetwork) -> None:
    given = series()
    filled = given | {"image": given["image"].masked_fill(~given["present"][..., None, None], torch.nan)}
    filled["days"] = given["days"].masked_fill(~given["present"].any(2), 12345)
    assert torch.equal(logits_of(network, **filled), logits_of(network, **given))


def test_present_dates_count(network: SeriesNetwork) -> None:
    given = series()
    before = logits_of(network, **given)
    for date in range(T - 1):
        changed = given["image"].clone()
        changed[0, date, 0] += 1
        assert not torch.allclose(logits_of(network, **given | {"image": changed})[0], before[0])
        gone = given["present"].clone()
        gone[0, date] = False
        hidden = {"present": gone, "days": given["days"] * gone.any(2), "image": given["image"] * gone[..., None, None]}
        assert not torch.allclose(logits_of(network, **hidden)[0], before[0])


def test_series_of_a_batch_do_not_mix(network: SeriesNetwork) -> None:
    given = series()
    alone = [logits_of(network, **{name: tensor[i : i + 1] for name, tensor in given.items()}) for i in range(2)]
    close(logits_of(network, **given), torch.cat(alone))


def test_context_may_be_left_out_where_nothing_is_missing(network: SeriesNetwork) -> None:
    image = drawn(2, T, C, *SHAPE)
    whole = torch.ones(2, T, C, dtype=torch.bool)
    numbered = torch.arange(T).repeat(2, 1)
    close(logits_of(network, image=image), logits_of(network, image=image, present=whole, days=numbered))


@pytest.mark.parametrize("inner", INNER)
def test_stack_is_the_network_on_folded_channels(inner: str) -> None:
    network, given = build("stack", INNER[inner]), series()
    with torch.no_grad():
        expected = network.inner(given["image"].reshape(2, T * C, *SHAPE))
    assert torch.equal(logits_of(network, **given), expected)


@pytest.mark.parametrize("option, inner", marked(product(("mean", "max", "attention"), INNER)))
def test_a_single_date_among_missing_ones_is_the_network_without_time(option: str, inner: str) -> None:
    network, image = build(option, INNER[inner], fresh=True), drawn(2, C, *SHAPE)
    slots, present = drawn(2, T, C, *SHAPE, seed=9), torch.zeros(2, T, C, dtype=torch.bool)
    slots[:, 2], present[:, 2] = image, True
    with torch.no_grad():
        expected = network.inner(image)
    days = torch.tensor([[0, 0, 18100, 0]] * 2)
    found = logits_of(network, image=slots, present=present, days=days)
    if option == "attention" or inner == "tokens":  # weights are interpolated, tokens are turned and turned back
        close(found, expected)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("option, inner", marked(product(("mean", "max", "attention"), INNER)))
def test_the_order_of_slots_is_of_no_account(option: str, inner: str) -> None:
    network, given, order = build(option, INNER[inner]), series(), torch.tensor([2, 3, 0, 1])
    close(logits_of(network, **{n: t[:, order] for n, t in given.items()}), logits_of(network, **given))


@pytest.mark.parametrize("option", ["mean", "max", "attention"])
def test_pooling_takes_any_number_of_dates(option: str) -> None:
    network, given = build(option, unet), series()
    fewer = {name: tensor[1:, :3] for name, tensor in given.items()}
    padded = given["present"].clone()
    padded[1, 3] = False
    whole = {name: tensor[1:] for name, tensor in (given | {"present": padded}).items()}
    close(logits_of(network, **fewer), logits_of(network, **whole))


@pytest.mark.parametrize("inner", ["unet", "segresnet"])
def test_mean_of_logits_or_features_is_what_torch_gives(inner: str) -> None:
    network, image = build("mean", INNER[inner]), drawn(1, T, C, *SHAPE)
    net: Any = network.inner
    with torch.no_grad():
        if inner == "segresnet":
            expected = torch.stack([net(image[:, i]) for i in range(T)]).mean(0)
        else:
            features = zip(*(net.encode(image[:, i]) for i in range(T)), strict=True)
            expected = net.decode([torch.stack(level).mean(0) for level in features], image.mean(1))
    close(logits_of(network, image=image), expected)


def test_deep_supervision_pools_every_level() -> None:
    for inner in (unet, lambda spec: UNet(spec, base_features=4)):
        levels = build("attention", inner).train()(**series())
        assert [tuple(level.shape) for level in levels] == [(2, K, 32, 64), (2, K, 16, 32)]


class Whole(Network):
    """A network in one piece, with logits of two levels while it trains."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec.in_channels, (2, 2))
        self.net = nn.Conv2d(spec.in_channels, spec.out_channels, 1)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        logits = self.net(image)
        return [logits, logits[..., ::2, ::2]] if self.training else logits


@pytest.mark.parametrize("option", OPTIONS)
def test_networks_in_one_piece_may_give_several_levels(option: str) -> None:
    network = build(option, Whole)
    levels = network.train()(**series())
    assert [tuple(level.shape) for level in levels] == [(2, K, 32, 64), (2, K, 16, 32)]
    assert logits_of(network.eval(), **series()).shape == (2, K, 32, 64)


def test_training_reaches_every_parameter(network: SeriesNetwork) -> None:
    trained, given = copy.deepcopy(network).train(), series(b=3)
    found = trained(**given)
    sum(level.square().mean() for level in (found if isinstance(found, list) else [found])).backward()
    idle = {name for name, p in trained.named_parameters() if p.grad is None}
    assert idle == set()


def test_state_makes_another_network_equal(network: SeriesNetwork, request: pytest.FixtureRequest) -> None:
    option, inner = request.node.callspec.params["network"]
    torch.manual_seed(5)
    other = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))(FACTS, MAKES[inner], dates=T).eval()
    given = series()
    assert not torch.equal(logits_of(other, **given), logits_of(network, **given))
    other.load_state_dict(network.state_dict())
    assert torch.equal(logits_of(other, **given), logits_of(network, **given))


def test_wrong_channels_axes_and_slots_are_refused(network: SeriesNetwork) -> None:
    with pytest.raises(InputError, match=r"expected 5 axes \(batch, dates, channels, space\) with 2 channels"):
        network(drawn(1, T, C + 1, *SHAPE))
    with pytest.raises(InputError, match="expected 5 axes"):
        network(drawn(1, C, *SHAPE))
    with pytest.raises(InputError, match="pad to"):
        network(drawn(1, T, C, 32, 63))


@pytest.mark.parametrize("option, inner", [("stack", "unet"), ("concat", "unet"), (NATIVE, "prithvi")])
def test_fixed_slots_are_told(option: str, inner: str) -> None:
    network = build(option, MAKES[inner])
    with pytest.raises(InputError, match="got 3 dates, the network was built for 4"):
        network(drawn(1, 3, C, *SHAPE))


def test_weights_of_attention_sum_to_one_and_leave_out_what_is_missing() -> None:
    pool = Attention([6], guide=0, dates=T, heads=3, key_width=4)
    given = series()
    seen = given["present"].any(2)
    weight = pool.weight(drawn(2, T, 6, 10) * seen[..., None, None], seen, day_encoding(given["days"], seen))
    assert weight.shape == (2, 3, T, 10)
    torch.testing.assert_close(weight.sum(2), torch.ones(2, 3, 10))
    assert (weight[0, :, -1] == 0).all()
    assert weight[1].std() > 0.01


def test_day_encoding_knows_season_and_elapsed_time_but_not_the_year() -> None:
    days, seen = torch.tensor([[17000, 17040, 17200]]), torch.ones(1, 3, dtype=torch.bool)
    code = day_encoding(days, seen)
    assert code.shape == (1, 3, 24)
    later = day_encoding(days + 4 * 365 + 1, seen)
    torch.testing.assert_close(later, code, rtol=0, atol=1e-2)
    shifted = day_encoding(days + 90, seen)
    assert (shifted[..., :4] - code[..., :4]).abs().max() > 0.5  # the season
    torch.testing.assert_close(shifted[..., 4:12], code[..., 4:12])  # what has elapsed


def test_attention_tells_when_it_was_what_it_shows() -> None:
    pool = Attention([6], guide=0, dates=T, heads=3, key_width=4)
    nn.init.normal_(pool.when[0].weight)
    feature, seen = drawn(2, T, 6, 5, 4), torch.ones(2, T, dtype=torch.bool)
    days = torch.tensor([[0, 30, 95, 200]] * 2) + 18000
    weight = pool.weight(feature.flatten(3), seen, day_encoding(days, seen))
    groups = (feature.reshape(2, T, 3, 2, 20) * weight.permute(0, 2, 1, 3)[:, :, :, None]).sum(1).reshape(2, 6, 20)
    moments = torch.stack([(weight * day_encoding(days, seen)[:, None, :, e, None]).sum(2) for e in range(24)], 2)
    told = torch.einsum("wn,bnp->bwp", pool.when[0].weight[..., 0], moments.reshape(2, 72, 20))
    (found,) = pool([feature], seen, days)
    close(found.flatten(2), groups + told)


@pytest.mark.parametrize("inner, name", [("segmenter", "Timm"), ("unet", "UNet")])
def test_native_refuses_networks_of_single_images(inner: str, name: str) -> None:
    with pytest.raises(InputError, match=f"temporal=native: {name} takes single images; choose temporal=stack"):
        build(NATIVE, INNER[inner])


def test_native_tells_days_apart() -> None:
    network, given = build(NATIVE, prithvi), series()
    later = given | {"days": given["days"] + 100}
    assert not torch.allclose(logits_of(network, **later), logits_of(network, **given))


@pytest.mark.parametrize("settings", [{"heads": 0}, {"key_width": 0}])
def test_attention_refuses_no_heads(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected 1 or more"):
        Attention([6], guide=0, dates=T, **settings)


def test_maps_of_features_that_no_logit_depends_on_are_dropped() -> None:
    network = build("concat", fpn)
    assert isinstance(network, Pooled)
    assert [isinstance(m, nn.Identity) for m in network.pool.maps] == [True, False, False, False, False]


def test_concat_begins_as_the_mean_over_all_slots() -> None:
    torch.manual_seed(0)
    concat, mean = (
        instantiate(OmegaConf.load(CONF / f"{o}.yaml"))(FACTS, unet, dates=T).eval() for o in ("concat", "mean")
    )
    mean.inner.load_state_dict(concat.inner.state_dict())
    image = drawn(1, T, C, *SHAPE)
    close(logits_of(concat, image=image), logits_of(mean, image=image))


@pytest.mark.parametrize("option", OPTIONS)
def test_volumes_too(option: str) -> None:
    spec = ModelSpec(C, K, (8, 8, 8), (1.0,) * 3, ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)))
    network = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))(spec, unet, dates=T).eval()
    assert logits_of(network, image=drawn(1, T, C, 8, 8, 16)).shape == (1, K, 8, 8, 16)


@pytest.mark.parametrize("option", ALL)
def test_yaml_begins_with_one_line_about_itself(option: str) -> None:
    first, second = (CONF / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# Time series: ")
    assert second.startswith("_target_")


@pytest.mark.parametrize("option", OPTIONS)
def test_half_precision_stays_close(option: str) -> None:
    network, given = build(option, unet, fresh=True), series()
    expected = logits_of(network, **given)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(**given)
    assert (half.float() - expected).square().mean().sqrt() < 0.03 * expected.std()
