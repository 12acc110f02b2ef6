import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from medseg.losses.deep_supervision import coarsen, level_weights
from medseg.losses.dice import DiceLoss
from medseg.losses.weighted_sum import WeightedSum
from tests.losses.test_invariants import TERMS
from tests.small import small

CONF = Path(__file__).parents[2] / "conf" / "loss"
CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


@cache
def settings(*words):
    return compose("train", words).loss


def build(option, table):
    return instantiate(settings(f"loss={option}"))(labels=table)


ALL = sorted(p.stem for p in CONF.glob("*.yaml") if find_spec(small("loss", p.stem)["package"] or "torch"))
OPTIONS = [name for name in ALL if not build(name, CLASSES).reads_features]  # the others: tests of their own


def batch(table, shape=(2, 4, 6), seed=0):
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = torch.randn(b, table.n_outputs, *s, generator=rng)
    return logits, torch.randint(0, 3, (b, *s), generator=rng), torch.rand(b, *s, generator=rng) > 0.2


def test_there_are_options():
    assert set(OPTIONS) >= {"dice_ce", "dice", "ce", "focal", "foreground", "lovasz", "lovasz_ce"}


def test_every_option_is_made_of_terms_and_every_term_is_in_one():
    """The terms are what test_invariants.py walks; those that need features or outputs go next to others."""
    contents = [OmegaConf.load(path) for path in sorted(CONF.glob("*.yaml"))]
    assert not any("terms" in content for content in contents)
    named = {name for content in contents for entry in content.defaults if "term" in entry for name in entry.term}
    assert named >= set(TERMS)


def test_terms_are_composed_by_name_and_weight():
    words = ("loss/term=[dice,cross_entropy,focal]", "loss.weights.focal=0.5")
    loss = instantiate(settings(*words))(labels=CLASSES)
    assert loss.weights == {"dice": 1.0, "cross_entropy": 1.0, "focal": 0.5}
    total, parts = loss(*batch(CLASSES))
    assert total.item() == pytest.approx((parts["dice"] + parts["cross_entropy"] + parts["focal"] / 2).item())


def test_total_is_the_weighted_sum_of_the_parts():
    loss = WeightedSum(CLASSES, {"dice": DiceLoss, "ce": CrossEntropyLoss}, {"dice": 3.0})
    case = batch(CLASSES)
    total, parts = loss(*case)
    assert parts["dice"] == DiceLoss(CLASSES)(*case)
    assert parts["ce"] == CrossEntropyLoss(CLASSES)(*case)
    assert total.item() == pytest.approx((3 * parts["dice"] + parts["ce"]).item())


def test_levels_are_weighted_and_see_coarse_labels():
    _, label, valid = batch(CLASSES, (2, 8, 8))
    levels = [torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(n)) for n in (8, 4, 2)]
    total, parts = WeightedSum(CLASSES, {"ce": CrossEntropyLoss})(levels, label, valid)
    each = [cross_entropy(level, coarsen(label, level.shape[2:]), coarsen(valid, level.shape[2:])) for level in levels]
    expected = sum(w * e.item() for w, e in zip(level_weights(3), each, strict=True))
    assert total.item() == pytest.approx(expected)
    assert parts["ce"].item() == pytest.approx(expected)


def test_one_level_in_a_list_is_no_list():
    logits, label, valid = batch(CLASSES)
    loss = build("dice_ce", CLASSES)
    assert loss([logits], label, valid)[0] == loss(logits, label, valid)[0]


def test_coarsest_level_gets_a_zero_gradient_even_from_nan():
    _, label, valid = batch(CLASSES, (1, 4, 4))
    levels = [torch.zeros(1, 3, 4, 4, requires_grad=True), torch.full((1, 3, 2, 2), math.nan, requires_grad=True)]
    total, _ = build("dice_ce", CLASSES)(levels, label, valid)
    total.backward()
    assert total.isfinite()
    assert (levels[1].grad == 0).all()
    assert levels[0].grad.abs().sum() > 0


@pytest.mark.parametrize("table", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_autocast_agrees_with_float32(table):
    logits, label, valid = batch(table)
    loss = build("dice_ce", table)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = loss(logits.bfloat16(), label, valid)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, loss(logits.bfloat16().float(), label, valid)[0])


@pytest.mark.gpu
@pytest.mark.parametrize("table", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_gpu_agrees_with_cpu(table):
    case = batch(table)
    loss = build("dice_ce", table)
    on_cpu = loss(*case)[0]
    torch.testing.assert_close(loss.cuda()(*(t.cuda() for t in case))[0].cpu(), on_cpu)


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="no terms"):
        WeightedSum(CLASSES, {})
    with pytest.raises(InputError, match="dise"):
        WeightedSum(CLASSES, {"dice": DiceLoss}, {"dise": 1.0})
    with pytest.raises(InputError, match=r"-1\.0"):
        WeightedSum(CLASSES, {"dice": DiceLoss}, {"dice": -1.0})


class Asking(nn.Module):
    """A term that records what it gets."""

    def __init__(self, labels, needs=(), finest=False):
        super().__init__()
        self.needs, self.finest, self.calls = needs, finest, []

    def forward(self, logits, label, valid, **further):
        self.calls.append((tuple(label.shape), further))
        return logits.float().mean()


def asking(**settings):
    loss = WeightedSum(CLASSES, {"asking": lambda labels: Asking(labels, **settings)})
    return loss, loss.terms["asking"]


def test_a_term_gets_what_it_needs_and_nothing_else():
    loss, term = asking(needs=("edges", "progress"))
    loss(*batch(CLASSES), {"edges": 1, "progress": 0.5, "image": 2})
    assert term.calls[0][1] == {"edges": 1, "progress": 0.5}


def test_what_is_lacking_in_training_is_named():
    loss, _ = asking(needs=("edges",))
    with pytest.raises(
        InputError,
        match=r"loss.terms.asking needs 'edges', the network and the method give \['annotated', 'image', 'soft'\]",
    ):
        loss(*batch(CLASSES), {"image": 2})


def test_a_term_of_training_is_left_out_of_validation():
    loss, term = asking(needs=("edges",))
    total, parts = loss.eval()(*batch(CLASSES))
    assert total == 0
    assert parts == {}
    assert term.calls == []


@pytest.mark.parametrize(("finest", "shapes"), [(True, [(2, 8, 8)]), (False, [(2, 8, 8), (2, 4, 4)])])
def test_a_term_of_the_finest_level_sees_no_other(finest, shapes):
    _, label, valid = batch(CLASSES, (2, 8, 8))
    loss, term = asking(finest=finest)
    levels = [torch.full((2, 3, n, n), float(n)) for n in (8, 4, 2)]
    total, _ = loss(levels, label, valid)
    assert [shape for shape, _ in term.calls] == shapes
    assert total == (8.0 if finest else pytest.approx(8 * 2 / 3 + 4 / 3))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (("edges",), r"needs the output 'edges' of the network, which gives \['masks'\] besides logits"),
        (("features",), "reads features of the encoder, and the network declares none"),
    ],
)
def test_what_the_network_does_not_give_is_refused_before_the_training(needs, message):
    loss, _ = asking(needs=needs)
    with pytest.raises(InputError, match=message):
        loss.attach(["masks"], None)


def test_needs_that_are_met_are_accepted():
    loss, term = asking(needs=("masks", "progress", "image"))
    loss.attach(["masks"], None)
    loss(*batch(CLASSES), {"masks": 1, "progress": 0.0, "image": 2})
    assert list(term.calls[0][1]) == ["masks", "progress", "image"]
