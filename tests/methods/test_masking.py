"""Hidden blocks: a function of the key, of the right number; cells and blocks there and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.methods.masking import at, blocks_of, from_blocks, hidden_blocks, per_block, spread, standardised


def keys(n: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor([[seed, step, 0] for step in range(n)])


@given(ratio=st.floats(0.01, 0.99), grid=st.sampled_from([(4, 4), (2, 3), (2, 2, 3), (1, 2)]))
def test_a_fraction_is_hidden_and_never_all(ratio: float, grid: tuple[int, ...]) -> None:
    hidden = hidden_blocks(keys(3), grid, ratio)
    n = int(np.prod(grid))
    assert hidden.shape == (3, *grid)
    assert set(hidden.flatten(1).sum(dim=1).tolist()) == {min(max(round(ratio * n), 1), n - 1)}


def test_masks_are_functions_of_the_key_alone() -> None:
    together, alone = hidden_blocks(keys(5), (4, 4), 0.5), hidden_blocks(keys(5)[3:4], (4, 4), 0.5)
    torch.testing.assert_close(together[3:4], alone)
    assert not torch.equal(together[3], together[2])
    assert not torch.equal(hidden_blocks(keys(1, seed=7), (4, 4), 0.5)[0], together[0])


def test_every_block_is_hidden_equally_often() -> None:
    often = hidden_blocks(keys(2000), (3, 3), 1 / 3).float().mean(dim=0)
    assert (often - 1 / 3).abs().max() < 0.05  # five standard deviations


@pytest.mark.parametrize("shape", [(8, 12), (4, 6, 8)])
def test_blocks_of_cells_by_hand(shape: tuple[int, ...]) -> None:
    cells = torch.randn(2, 3, *shape)
    grid = tuple(s // 2 for s in shape)
    rows = per_block(cells, grid)
    corner = cells[(slice(None), slice(None), *(slice(0, 2) for _ in shape))]
    torch.testing.assert_close(rows[:, 0], corner.reshape(2, -1))
    last = cells[(slice(None), slice(None), *(slice(0, 2) for _ in shape[:-1]), slice(2, 4))]
    torch.testing.assert_close(rows[:, 1], last.reshape(2, -1))
    torch.testing.assert_close(from_blocks(rows, 3, shape, grid), cells)


def test_spread_and_at_agree_on_a_grid_between() -> None:
    blocks = hidden_blocks(keys(2), (2, 3), 0.5)
    cells = spread(blocks, (8, 12))
    torch.testing.assert_close(at(blocks, (8, 12)), cells)
    torch.testing.assert_close(at(blocks, (4, 6)), cells[:, ::2, ::2])


def test_standardised_blocks_have_no_mean_and_unit_deviation() -> None:
    rows = per_block(standardised(5 + 3 * torch.randn(2, 1, 8, 8), (2, 2)), (2, 2))
    torch.testing.assert_close(rows.mean(dim=-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(dim=-1), torch.ones(2, 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("patch", "block", "told"), [((30, 32), (16, 16), "no multiple"), ((16, 16), (16, 16), "one")])
def test_blocks_that_do_not_fit_are_refused(patch: tuple[int, ...], block: tuple[int, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        blocks_of(patch, block)
