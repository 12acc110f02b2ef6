from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medseg.geometry.grid import Grid
from medseg.geometry.resample import resample_image, spline_orders
from medseg.inference.decide import entropy, prob_of
from medseg.inference.rows import Slab, averaged_rows, axis_first, resized_rows, spooled_rows
from medseg.labels import LabelTable

TABLE = LabelTable.declare({"background": 0, "liver": 1, "tumour": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def cut(logits: Tensor, heights: Sequence[int]) -> Iterator[Slab]:
    """Slabs of these heights, again and again."""
    row = number = 0
    while row < logits.shape[1]:
        yield Slab(row, logits[:, row : row + heights[number % len(heights)]])
        row += heights[number % len(heights)]
        number += 1


def joined(rows: Iterator[Slab]) -> Tensor:
    slabs = list(rows)
    assert [slab.row for slab in slabs] == [0, *np.cumsum([s.logits.shape[1] for s in slabs]).tolist()[:-1]]
    return torch.cat([slab.logits for slab in slabs], dim=1)


sizes = st.integers(1, 9)


@given(
    st.integers(2, 3).flatmap(lambda n: st.tuples(*[st.tuples(*[sizes] * n)] * 2)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (6.0, 1.0, 1.0)]),
)
def test_rows_are_resampled_as_whole_images_are(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], heights: list[int], spacing: tuple[float, ...]
) -> None:
    old, new = shapes
    logits, grid = noise(2, *old), Grid.regular(old, spacing[: len(old)])
    resized = joined(resized_rows(cut(logits, heights), old, new, spline_orders(grid, new, 1)))
    np.testing.assert_allclose(resized.numpy(), resample_image(logits.numpy(), grid, new, order=1), atol=1e-5)


def test_only_the_rows_that_are_needed_are_kept() -> None:
    """The first new rows are given before the last old ones are computed."""
    taken = []

    def rows() -> Iterator[Slab]:
        for slab in cut(noise(1, 40, 3), [1]):
            taken.append(slab.row)
            yield slab

    resized = resized_rows(rows(), (40, 3), (80, 3), (1, 1))
    assert next(resized).row == 0
    assert len(taken) <= 3


@pytest.mark.parametrize("table", [TABLE, REGIONS])
def test_probabilities_are_averaged_whatever_rows_come_together(table: LabelTable) -> None:
    members = [noise(table.n_outputs, 11, 4, seed=seed) for seed in range(3)]
    slabs = list(averaged_rows([cut(m, h) for m, h in zip(members, ([3], [1, 5], [11]), strict=True)], table))
    mean = torch.stack([prob_of(member, table) for member in members]).mean(0)
    torch.testing.assert_close(prob_of(joined(iter(slabs)), table), mean)
    spread = entropy(mean, table) - torch.stack([entropy(prob_of(member, table), table) for member in members]).mean(0)
    torch.testing.assert_close(torch.cat([slab.disagreement for slab in slabs]), spread)
    assert spread.min() > 0


def test_networks_that_agree_do_not_disagree() -> None:
    member = noise(3, 5, 4)
    (slab,) = averaged_rows([cut(member, [5]), cut(member, [5])], TABLE)
    torch.testing.assert_close(prob_of(slab.logits, TABLE), prob_of(member, TABLE))
    assert slab.disagreement is not None
    assert slab.disagreement.max() < 1e-6


def test_certain_members_stay_finite() -> None:
    """A probability of 0 has a logit of minus infinity, which is no NaN afterwards."""
    sure = torch.tensor([200.0, -200.0, -200.0]).reshape(3, 1, 1)
    (slab,) = averaged_rows([cut(sure, [1]), cut(sure, [1])], TABLE)
    torch.testing.assert_close(prob_of(slab.logits, TABLE).flatten(), torch.tensor([1.0, 0.0, 0.0]))


def test_one_network_is_itself() -> None:
    logits = noise(3, 5, 4)
    (slab,) = averaged_rows([cut(logits, [5])], TABLE)
    assert torch.equal(slab.logits, logits)
    assert slab.disagreement is None


def test_spooled_rows_are_computed_at_once_and_are_the_same() -> None:
    logits, taken = noise(3, 7, 4, 2), []
    rows = spooled_rows(slab for slab in cut(logits, [2, 3]) if taken.append(slab.row) is None)  # type: ignore[func-returns-value]
    assert taken == [0, 2, 5]
    assert torch.equal(joined(rows), logits)


def test_axis_first_is_what_moveaxis_does() -> None:
    for axis in range(3):
        assert np.moveaxis(np.zeros((4, 5, 6)), axis, 0).shape == axis_first((4, 5, 6), axis)
