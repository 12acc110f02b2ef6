"""Losses of decisions: what class weights do, for every term that takes them."""

import pytest
import torch

from medseg.errors import InputError
from tests.losses.test_invariants import CLASSES, REGIONS, TABLES, batch, settings, value_and_gradient
from tests.losses.test_invariants import build as build_plain

WEIGHTED = [name for name, term in settings().items() if "class_weights" in term]


def build(term, table, weights):
    loss = build_plain(term, table)
    built = type(loss.terms[term])
    own = {key: value for key, value in settings()[term].items() if not key.startswith("_")}
    return built(table, **own | {"class_weights": weights})


def value_of(module, *case):
    return value_and_gradient(lambda *args: (module(*args[:3]), {}), *case)


def test_there_are_terms_with_class_weights():
    assert set(WEIGHTED) >= {"cross_entropy", "focal", "gce", "top_k", "nacl"}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("term", WEIGHTED)
def test_equal_weights_change_nothing(term, kind):
    table, case = TABLES[kind], batch(TABLES[kind])
    names = [output.name for output in table.regions or table.classes]
    plain, gradient = value_of(build(term, table, {}), *case)
    weighted, weighted_gradient = value_of(build(term, table, dict.fromkeys(names, 3.0)), *case)
    torch.testing.assert_close(weighted, plain)
    torch.testing.assert_close(weighted_gradient, gradient)


@pytest.mark.parametrize("term", WEIGHTED)
def test_a_class_of_weight_zero_is_as_if_ignored_and_a_region_as_if_absent(term):
    logits, label, valid = batch(CLASSES)
    _, gradient = value_of(build(term, CLASSES, {"b": 0.0}), logits, label, valid)
    assert (gradient.movedim(1, -1)[label == 2] == 0).all()
    assert (gradient.movedim(1, -1)[valid & (label == 1)] != 0).any()
    _, gradient = value_of(build(term, REGIONS, {"core": 0.0}), logits[:, :3], label, valid)
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 2] != 0).any()


@pytest.mark.parametrize("term", WEIGHTED)
def test_a_heavy_class_dominates(term):
    logits, label, valid = batch(CLASSES)
    heavy, _ = value_of(build(term, CLASSES, {"a": 1e6}), logits, label, valid)
    alone, _ = value_of(build(term, CLASSES, {"background": 0.0, "b": 0.0, "c": 0.0}), logits, label, valid)
    torch.testing.assert_close(heavy, alone, rtol=1e-3, atol=0)


@pytest.mark.parametrize("term", WEIGHTED)
def test_unknown_classes_are_refused(term):
    with pytest.raises(InputError, match=r"class_weights \{'liver': 1.0\}"):
        build(term, CLASSES, {"liver": 1.0})
