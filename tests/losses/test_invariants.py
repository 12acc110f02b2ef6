"""What every loss keeps to: each term of conf/loss/term, of classes and of regions. A loss is a weighted sum of them.

A term that breaks one for a reason says so in ``tests/conf/loss/term/<term>.yaml``: ``exempt: {name: reason}``, by the
name of the test without ``test_``. The test then may fail for this term.
"""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate

from medseg.hydra_app.compose import compose
from medseg.labels import IGNORE, LabelTable
from medseg.losses.term import GIVEN
from medseg.losses.weighted_sum import WeightedSum
from tests.small import small

CONF = Path(__file__).parents[2] / "conf" / "loss"
CLASSES = LabelTable.declare({"background": 0, "a": 1, "b": 2, "c": 3})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2, 3], "core": 2, "rim": 3}, regions_class_order=[1, 2, 3])
TABLES = {"classes": CLASSES, "regions": REGIONS}
PERMUTED = {  # the outputs in another order: logits, and the new index of each class
    "classes": (LabelTable.declare({"background": 0, "b": 1, "c": 2, "a": 3}), [0, 2, 3, 1], [0, 3, 1, 2]),
    "regions": (
        LabelTable.declare({"background": 0, "rim": 3, "whole": [1, 2, 3], "core": 2}, regions_class_order=[3, 1, 2]),
        [2, 0, 1], None,
    ),
}  # fmt: skip


@cache
def settings():
    """Every term that an own option of loss may have: those that need no more than every method gives."""
    names = sorted(p.stem for p in (CONF / "term").glob("*.yaml"))
    terms = compose("train", [f"loss/term=[{','.join(names)}]"]).loss.terms
    classes = {name: get_class(term._target_) for name, term in terms.items()}
    own = {name: set(getattr(cls, "needs", ())) for name, cls in classes.items() if getattr(cls, "merged", True)}
    return {name: terms[name] for name, needed in own.items() if needed <= set(GIVEN)}


def outputs(table):
    return [output.name for output in table.regions or table.classes]


def build(term, table):
    """A loss of this term alone, the same every time: a term may have parameters."""
    torch.manual_seed(0)
    return WeightedSum(table, {term: instantiate(settings()[term])})


def batch(table, shape=(2, 6, 7), seed=0):
    """Logits, labels with ignored cells, and valid, of two images."""
    rng = torch.Generator().manual_seed(seed)
    b, *s = shape
    logits = torch.randn(b, table.n_outputs, *s, generator=rng)
    label = torch.randint(0, 4, (b, *s), generator=rng)
    label[0, :2] = IGNORE
    return logits, label, torch.rand(b, *s, generator=rng) > 0.2


TERMS = sorted(settings())


def further(label):
    """What every method gives."""
    return {"progress": 0.5, "image": torch.ones(len(label), 1, *label.shape[1:])}


def value_and_gradient(loss, logits, label, valid, annotated=None):
    logits = logits.clone().requires_grad_()
    total, _ = loss(logits, label, valid, further(label) | ({} if annotated is None else {"annotated": annotated}))
    total.backward()
    return total.detach(), logits.grad


@pytest.fixture(params=[(term, kind) for term in TERMS for kind in TABLES], ids="-".join)
def loss_and_batch(request):
    """A loss and a batch for it; the test may fail where the term is exempt from it."""
    term, kind = request.param
    if package := small("loss/term", term)["package"]:
        pytest.importorskip(package)
    reason = small("loss/term", term)["exempt"].get(request.function.__name__.removeprefix("test_"))
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False, raises=AssertionError))
    return build(term, TABLES[kind]), batch(TABLES[kind]), term, kind


def test_it_descends(loss_and_batch):
    loss, (logits, *target), *_ = loss_and_batch
    before, gradient = value_and_gradient(loss, logits, *target)
    after, _ = value_and_gradient(loss, logits - 0.1 * gradient / gradient.abs().max(), *target)
    assert after < before


@pytest.mark.parametrize("garbage", [0.0, 1e30, -math.inf, math.nan])
def test_cells_that_do_not_count_hold_anything(loss_and_batch, garbage):
    loss, (logits, label, valid), *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, logits, label, valid)
    out = ~valid | (label == IGNORE)
    other = torch.where(label == IGNORE, IGNORE, torch.where(valid, label, 3 - label))
    junk = torch.where(out[:, None], garbage, logits)
    other_value, other_gradient = value_and_gradient(loss, junk, other, valid & (label != IGNORE))
    torch.testing.assert_close(other_value, value, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-5, atol=1e-8)
    assert (other_gradient.movedim(1, -1)[out] == 0).all()


@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "invalid"])
def test_a_margin_that_does_not_count_changes_nothing(loss_and_batch, ignored):
    loss, (logits, label, valid), *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, logits, label, valid)
    junk = (torch.full((2, logits.shape[1], 6, 3), math.inf), torch.full((2, 6, 3), IGNORE if ignored else 1))
    wide = [torch.cat(pair, -1) for pair in zip((logits, label), junk, strict=True)]
    more_value, more_gradient = value_and_gradient(loss, *wide, torch.cat([valid, torch.full((2, 6, 3), ignored)], -1))
    torch.testing.assert_close(more_value, value, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(more_gradient[..., :7], gradient, rtol=1e-5, atol=1e-8)
    assert (more_gradient[..., 7:] == 0).all()


def test_nothing_counted_is_zero_with_zero_gradient(loss_and_batch):
    loss, (logits, label, _), *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, logits, label, torch.zeros_like(label).bool())
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("absent", [[0], [3], [1, 2, 3]], ids=str)
def test_classes_without_cells_leave_it_finite(loss_and_batch, absent):
    loss, (logits, label, valid), *_ = loss_and_batch
    label = torch.where(torch.isin(label, torch.tensor(absent)), IGNORE, label)
    value, gradient = value_and_gradient(loss, logits, label, valid)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [60.0, 300.0])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_certainty_leaves_it_finite(loss_and_batch, size, right):
    loss, (logits, label, valid), *_ = loss_and_batch
    certain = torch.stack([label.clamp(min=0) == k for k in range(logits.shape[1])], dim=1) * size - size / 2
    value, gradient = value_and_gradient(loss, certain if right else -certain, label, valid)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_outputs_permute(loss_and_batch):
    loss, (logits, label, valid), term, kind = loss_and_batch
    value, gradient = value_and_gradient(loss, logits, label, valid)
    table, order, index = PERMUTED[kind]
    assert outputs(table) == [outputs(TABLES[kind])[i] for i in order]
    if index is not None:
        label = torch.where(label == IGNORE, IGNORE, torch.tensor(index)[label.clamp(min=0)])
    permuted_value, permuted = value_and_gradient(build(term, table), logits[:, order], label, valid)
    torch.testing.assert_close(permuted_value, value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(permuted, gradient[:, order], rtol=1e-4, atol=1e-7)


def test_order_of_images_does_not_matter(loss_and_batch):
    loss, case, *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, *case)
    other_value, other_gradient = value_and_gradient(loss, *(part.flip(0) for part in case))
    torch.testing.assert_close(other_value, value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(other_gradient.flip(0), gradient, rtol=1e-4, atol=1e-7)


def test_a_plane_is_a_volume_of_depth_one(loss_and_batch):
    loss, case, term, kind = loss_and_batch
    value, gradient = value_and_gradient(loss, *case)
    deep_value, deep_gradient = value_and_gradient(build(term, TABLES[kind]), *(part.unsqueeze(-3) for part in case))
    torch.testing.assert_close(deep_value, value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(deep_gradient.squeeze(-3), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(loss_and_batch, dtype):
    loss, (logits, label, valid), *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, logits.to(dtype).float(), label, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_value, half_gradient = value_and_gradient(loss, logits.to(dtype), label, valid)
    assert half_value.dtype == torch.float32
    torch.testing.assert_close(half_value, value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(half_gradient.float(), gradient, rtol=1e-2, atol=1e-5)


def test_many_cells_do_not_overflow(loss_and_batch):
    # 70 000 cells exceed the range of half precision, 65 504
    loss, (logits, label, valid), *_ = loss_and_batch
    many = [part[:1].repeat(1, *[1] * (part.ndim - 3), 40, 43) for part in (logits.half(), label, valid)]
    value, gradient = value_and_gradient(loss, *many)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_the_gradient_is_that_of_the_value(loss_and_batch):
    loss, _, _, kind = loss_and_batch
    logits, label, valid = batch(TABLES[kind], (2, 3, 3), seed=3)
    loss = loss.double()
    logits = logits.double().requires_grad_()
    value = lambda x: loss(x, label, valid, further(label))[0]  # noqa: E731
    assert torch.autograd.gradcheck(value, logits, raise_exception=False, fast_mode=True)


def test_patches_that_annotate_everything_have_the_plain_loss(loss_and_batch):
    loss, case, *_ = loss_and_batch
    value, gradient = value_and_gradient(loss, *case)
    every = torch.ones(case[0].shape[:2], dtype=torch.bool)
    other_value, other_gradient = value_and_gradient(loss, *case, annotated=every)
    torch.testing.assert_close(other_value, value, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-5, atol=1e-8)


def test_what_a_patch_does_not_annotate_is_not_pushed(loss_and_batch):
    """The gradient of a region is exactly 0; that of merged classes is shared out by their probabilities."""
    loss, (logits, label, valid), _, kind = loss_and_batch
    annotated = torch.ones(logits.shape[:2], dtype=torch.bool)
    annotated[:, -1] = False
    value, gradient = value_and_gradient(loss, logits, label, valid, annotated)
    assert value.isfinite()
    assert gradient.abs().sum() > 0
    if kind == "regions":
        assert (gradient[:, -1] == 0).all()
        return
    merged = gradient[:, [0, -1]]
    shared = logits[:, [0, -1]].softmax(1) * merged.sum(1, keepdim=True)
    torch.testing.assert_close(merged, shared, rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))


def test_classes_that_no_patch_annotates_are_background(loss_and_batch):
    """As if the table had never had them: the probability of the background is theirs too."""
    loss, (logits, label, valid), term, kind = loss_and_batch
    if kind == "regions":
        return  # one that is not annotated has no part in others
    table = LabelTable.declare({"background": 0, "a": 1, "b": 2})
    annotated = torch.tensor([[True, True, True, False]]).expand(2, 4)
    value, _ = value_and_gradient(loss, logits, label, valid, annotated)
    merged = torch.cat([logits[:, [0, 3]].logsumexp(1, keepdim=True), logits[:, 1:3]], 1)
    expected, _ = value_and_gradient(build(term, table), merged, torch.where(label == 3, 0, label), valid)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_what_a_term_is_exempt_from_is_an_invariant():
    names = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    names.add("loss_and_gradient_of_two_ranks_are_those_of_the_whole_batch")  # test_ranks.py
    for term in TERMS:
        assert set(small("loss/term", term)["exempt"]) <= names, term
