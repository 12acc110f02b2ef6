"""Facts in the features of an encoder, and the class of a case from them."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import InputError
from medseg.facts import CaseFacts, Fact
from medseg.models.case_path import CaseHead, FactsFilm
from medseg.models.decoders.linear import Linear as LinearDecoder
from medseg.models.decoders.unet import UNet as UNetDecoder
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.encoders.encoder import Feature
from medseg.models.network import ModelSpec
from medseg.models.timm.encoder import Timm
from medseg.models.unet import UNet

FACTS = (Fact("age", "number", mean=50, std=10), Fact("sex", "word", ("F", "M")))
WIDTH = 5


def spec_of(ndim: int = 2, *, facts: tuple[Fact, ...] = FACTS, classes: int = 0) -> ModelSpec:
    kernels, strides = ((3,) * ndim,) * 3, ((1,) * ndim, (2,) * ndim, (2,) * ndim)
    return ModelSpec(1, 2, (16,) * ndim, (1.0,) * ndim, kernels, strides, facts=facts, case_classes=classes)


def unet(spec: ModelSpec, **settings: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(spec, base_features=4, **settings)


@pytest.mark.parametrize("ndim", [2, 3])
def test_film_begins_as_the_identity_and_learns_from_facts(ndim: int) -> None:
    plain, net = unet(spec_of(ndim)).eval(), unet(spec_of(ndim), facts="film").eval()
    assert not plain.takes_facts
    assert net.takes_facts
    net.load_state_dict({**net.state_dict(), **plain.state_dict()})
    image, facts = torch.randn(2, 1, *(16,) * ndim), torch.randn(2, WIDTH)
    torch.testing.assert_close(net(image, facts), plain(image))
    film: Any = net.case_path
    nn.init.normal_(film.film.levels[0].weight)
    assert (net(image, facts) - net(image, -facts)).abs().max() > 1e-3
    net(image, facts).sum().backward()
    assert film.film.trunk[0].weight.grad.abs().max() > 0


def test_without_facts_all_of_them_are_missing() -> None:
    net = unet(spec_of(), facts="film").eval()
    path: Any = net.case_path
    nn.init.normal_(path.film.levels[0].weight)
    missing = torch.from_numpy(CaseFacts().encoded_by(FACTS))
    assert missing.tolist() == [0, 1, 0, 0, 1]
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(net(image), net(image, missing.expand(2, -1)))
    assert (net(image) - net(image, torch.zeros(2, WIDTH))).abs().max() > 1e-4
    assert "case_path.missing" not in net.state_dict()  # what it is follows from the facts


def test_every_level_and_tokens_are_scaled_and_shifted() -> None:
    features = [Feature(3, (1, 1)), Feature(4, (4, 4), tokens=True, prefix=1)]
    film = FactsFilm(2, features)
    for level in film.levels:
        nn.init.zeros_(level.weight)  # type: ignore[arg-type]
    with torch.no_grad():
        film.levels[0].bias.copy_(torch.tensor([1, 0, 0, 5, 0, 0.0]))  # type: ignore[operator]
        film.levels[1].bias.copy_(torch.tensor([0, 2, 0, 0, 0, 0, 0, 7.0]))  # type: ignore[operator]
    maps, tokens = film([torch.ones(2, 3, 4, 4), torch.ones(2, 5, 4)], torch.zeros(2, 2))
    assert maps[0, :, 0, 0].tolist() == [7, 1, 1]
    assert tokens[1, 3].tolist() == [1, 3, 1, 8]


def test_the_head_reads_every_level_without_prefix_tokens_and_facts() -> None:
    torch.manual_seed(0)
    head = CaseHead(2, [Feature(3, (1, 1)), Feature(4, (4, 4), tokens=True, prefix=1)], 3)
    maps, tokens, facts = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4), torch.randn(2, 2)
    logits = head([maps, tokens], facts)
    assert logits.shape == (2, 3)
    other = tokens.clone()
    other[:, 0] += 9
    torch.testing.assert_close(head([maps, other], facts), logits)
    other[:, 1] += 9
    assert not torch.allclose(head([maps, other], facts), logits)
    assert not torch.allclose(head([maps * 2, tokens], facts), logits)
    assert not torch.allclose(head([maps, tokens], facts + 1), logits)
    turned = head([maps.flip(2), tokens], facts)
    torch.testing.assert_close(turned, logits)  # where a cell lies does not matter


@pytest.mark.parametrize("facts", [None, "film"])
def test_a_network_that_classifies_names_its_outputs_in_training(facts: str | None) -> None:
    net = unet(spec_of(classes=3), facts=facts)
    assert net.outputs == ("case_logits",)
    assert net.classifies
    assert net.takes_facts
    image, given = torch.randn(2, 1, 16, 16), torch.randn(2, WIDTH)
    outputs = net(image, given)
    assert {*outputs} == {"logits", "case_logits"}
    assert isinstance(outputs["logits"], list)
    assert outputs["case_logits"].shape == (2, 3)
    net.eval()
    assert net(image, given).shape == (2, 2, 16, 16)
    named = net(image, given, named=True)
    torch.testing.assert_close(named["logits"], net(image, given))
    assert not torch.allclose(named["case_logits"], net(image, -given, named=True)["case_logits"])


def test_classes_of_cases_without_facts() -> None:
    net = unet(spec_of(facts=(), classes=2)).eval()
    assert not net.takes_facts
    assert net(torch.randn(1, 1, 16, 16), named=True)["case_logits"].shape == (1, 2)


def test_without_facts_and_classes_a_network_is_as_before() -> None:
    net = unet(spec_of(facts=()))
    assert net.case_path is None
    assert not net.takes_facts
    assert not net.classifies
    assert net.outputs == ()
    assert unet(spec_of()).case_path is None  # facts are there, and not asked for


@pytest.mark.parametrize(
    ("facts", "spec", "message"),
    [
        ("gate", spec_of(), r"model\.facts=gate: expected film, or null"),
        ("film", spec_of(facts=()), r"model\.facts=film: the cases have no facts; add data\.table=FILE\.csv"),
    ],
)
def test_settings_that_are_refused(facts: str, spec: ModelSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unet(spec, facts=facts)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("decoder", [LinearDecoder, UNetDecoder])
def test_any_encoder_and_decoder_take_facts_and_classify(name: str, decoder: Any) -> None:
    """What the decoder does not read is frozen, and everything else learns: distributed training stops over others."""
    torch.manual_seed(0)
    spec = ModelSpec(3, 2, (64, 64), (1.0, 1.0), (), (), facts=FACTS, case_classes=2)
    net = EncoderDecoder(spec, encoder=partial(Timm, name=name), decoder=decoder, facts="film")
    outputs = net.train()(torch.randn(2, 3, 64, 64), torch.randn(2, WIDTH))
    logits = outputs["logits"] if isinstance(outputs["logits"], list) else [outputs["logits"]]
    (sum(level.sum() for level in logits) + outputs["case_logits"].sum()).backward()
    learning = {key: parameter for key, parameter in net.named_parameters() if parameter.requires_grad}
    assert [key for key, parameter in learning.items() if parameter.grad is None] == []
    assert any(key.startswith("case_path.film.levels") for key in learning)
    assert any(key.startswith("case_path.head") for key in learning)
    assert net.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 2, 64, 64)
