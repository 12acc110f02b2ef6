"""Fusions against their formulas, and without any influence of what is missing."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.encoders.fusion import Concatenation, CrossAttention, Difference, Fusion, Gate, Sum
from tests.models.encoders.volumes import noise, scrambled

ALL = {
    "sum": Sum,
    "concatenation": Concatenation,
    "gate": Gate,
    "cross_attention": CrossAttention,
    "difference": Difference,
    "coarse cross_attention": partial(CrossAttention, grid=2),
}
EVERY = pytest.mark.parametrize("kind", ALL.values(), ids=ALL)
SPACES = pytest.mark.parametrize("space", [(4, 6), (4, 3, 5)])


def made(kind, branches: int, ndim: int = 2, width: int = 8) -> Fusion:
    torch.manual_seed(0)
    return scrambled(kind(width, branches, ndim))


def grids(n: int, space: tuple[int, ...] = (4, 6), batch: int = 2, width: int = 8) -> list[torch.Tensor]:
    return [noise(batch, width, *space, seed=i) for i in range(n)]


@EVERY
@SPACES
@torch.no_grad()
def test_the_result_has_the_shape_of_the_first_branch(kind, space):
    fusion = made(kind, 3, len(space))
    result = fusion(grids(3, space), torch.ones(2, 3))
    assert result.shape == (2, 8, *space)
    assert result.isfinite().all()


@EVERY
@SPACES
@pytest.mark.parametrize("missing", [0, 1, 2])
@torch.no_grad()
def test_a_missing_branch_has_no_influence(kind, space, missing):
    fusion, given = made(kind, 3, len(space)), grids(3, space)
    present = torch.ones(2, 3)
    present[1, missing] = 0
    before = fusion(given, present)
    given[missing] = given[missing] + 10
    after = fusion(given, present)
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[0], after[0]), "where it is there, it counts"


@EVERY
@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other(kind):
    fusion, given = made(kind, 2), grids(2)
    present = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    whole = fusion(given, present)
    alone = torch.cat([fusion([g[i : i + 1] for g in given], present[i : i + 1]) for i in range(2)])
    assert torch.allclose(whole, alone, atol=1e-6)


@EVERY
@torch.no_grad()
def test_nothing_at_all_is_finite(kind):
    assert made(kind, 2)(grids(2), torch.zeros(2, 2)).isfinite().all()


@pytest.mark.parametrize("kind", [k for name, k in ALL.items() if name != "sum"])
def test_every_parameter_learns(kind):
    fusion = made(kind, 3)
    fusion(grids(3), torch.tensor([[1.0, 1, 1], [0, 0, 0]])).square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_sum():
    a, b = grids(2)
    assert torch.equal(made(Sum, 2)([a, b], torch.ones(2, 2)), a + b)
    assert torch.equal(made(Sum, 2)([a, b], torch.tensor([[1.0, 0], [0, 1]])), torch.stack([2 * a[0], 2 * b[1]]))


@torch.no_grad()
def test_concatenation():
    fusion, (a, b) = made(Concatenation, 2), grids(2)
    assert torch.allclose(fusion([a, b], torch.ones(2, 2)), fusion.mix(torch.cat([a, b], 1)))
    learned = fusion.missing[1].reshape(1, -1, 1, 1).expand_as(b)
    assert torch.allclose(
        fusion([a, b], torch.tensor([[1.0, 0]] * 2)), fusion.mix(torch.cat([a, learned], 1)), atol=1e-6
    )


@torch.no_grad()
def test_gate_is_a_mean_with_weights_for_each_cell():
    fusion, (a, b) = made(Gate, 2), grids(2)
    weights = fusion.weigh(torch.cat([a, b], 1)).softmax(1)
    assert torch.allclose(fusion([a, b], torch.ones(2, 2)), a * weights[:, :1] + b * weights[:, 1:], atol=1e-6)
    assert torch.allclose(fusion([a, b], torch.tensor([[1.0, 0]] * 2)), a, atol=1e-6)


@torch.no_grad()
def test_cross_attention_by_its_formula():
    fusion, (a, b, c) = made(partial(CrossAttention, heads=2), 3), grids(3)
    query = fusion.query(fusion.norms[0](a)).flatten(2).unflatten(1, (2, 4))
    pairs = [key(norm(x)) for key, norm, x in zip(fusion.keys, fusion.norms[1:], (b, c), strict=True)]
    key, value = (torch.cat([p.chunk(2, 1)[i].flatten(2) for p in pairs], 2).unflatten(1, (2, 4)) for i in (0, 1))
    weights = (torch.einsum("bhdq,bhdk->bhqk", query, key) / 4**0.5).softmax(-1)
    expected = a + fusion.out(torch.einsum("bhqk,bhdk->bhdq", weights, value).flatten(1, 2).reshape(a.shape))
    assert torch.allclose(fusion([a, b, c], torch.ones(2, 3)), expected, atol=1e-5)


@torch.no_grad()
def test_cross_attention_does_not_look_at_a_missing_branch():
    fusion, (a, b, c) = made(partial(CrossAttention, heads=1), 3), grids(3)
    query = fusion.query(fusion.norms[0](a)).flatten(2)
    key, value = fusion.keys[0](fusion.norms[1](b)).chunk(2, 1)
    weights = (torch.einsum("bdq,bdk->bqk", query, key.flatten(2)) / 8**0.5).softmax(-1)
    expected = a + fusion.out(torch.einsum("bqk,bdk->bdq", weights, value.flatten(2)).reshape(a.shape))
    present = torch.tensor([[1.0, 1.0, 0.0]] * 2)
    assert torch.allclose(fusion([a, b, c], present), expected, atol=1e-5)
    nobody = torch.tensor([[1.0, 0.0, 0.0]] * 2)
    assert torch.equal(fusion([a, b, c], nobody), a)


@torch.no_grad()
def test_cross_attention_averages_what_it_attends_to():
    fine, coarse = made(partial(CrossAttention, grid=3), 2), made(CrossAttention, 2)
    a, b = noise(1, 8, 6, 6), noise(1, 8, 6, 6, seed=1)
    assert torch.allclose(
        fine([a, b], torch.ones(1, 2)), coarse([a, functional.avg_pool2d(b, 2)], torch.ones(1, 2)), atol=1e-5
    )


@torch.no_grad()
def test_difference():
    fusion, (a, b) = made(Difference, 2), grids(2)
    assert torch.allclose(fusion([a, b], torch.ones(2, 2)), fusion.mix(torch.cat([a, (a - b).abs()], 1)))
    same = fusion([a, a], torch.ones(2, 2))
    assert torch.allclose(fusion([a, b], torch.tensor([[1.0, 0]] * 2)), same, atol=1e-6), (
        "no change where one is missing"
    )


@pytest.mark.parametrize(("settings", "message"), [({"heads": 3}, "heads=3"), ({"grid": 0}, "grid=0")])
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        CrossAttention(8, 2, 2, **settings)
