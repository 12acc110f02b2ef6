"""A bit that flips in a checkpoint is noticed, or changes nothing that prediction uses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg import checkpoint
from medseg.errors import InputError
from medseg.runtime import integrity
from tests import tiny_checkpoint


@pytest.fixture(scope="module")
def held() -> dict[str, Any]:
    return tiny_checkpoint.contents()


def used(path: Path) -> tuple[Any, ...]:
    """All of a checkpoint that prediction uses, in a form that compares.

    Whether a tensor asks for a gradient is one bit of the file, which no prediction uses.
    """
    loaded = checkpoint.read(path)
    state = {name: (t.dtype, t.shape, t.detach().numpy().tobytes()) for name, t in loaded.network_state.items()}
    metadata = loaded.metadata
    return state, metadata.config, metadata.spec, metadata.plan, metadata.segments


def test_no_flipped_bit_changes_a_network_in_silence(held: dict[str, Any], tmp_path: Path) -> None:
    path = tiny_checkpoint.write(tmp_path / "best.ckpt", held)
    honest, whole = path.read_bytes(), used(path)
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, 8 * len(honest), 300):
        changed = bytearray(honest)
        changed[position // 8] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            assert used(path) == whole, f"bit {position} changed the checkpoint in silence"
        except InputError:
            refused += 1
    assert refused > 100  # the others lie in padding, or in what is not used


def test_the_state_of_an_optimiser_is_checked_when_a_training_goes_on(held: dict[str, Any], tmp_path: Path) -> None:
    moments = {"state": {0: {"exp_avg": torch.zeros(1000)}}}
    path = tiny_checkpoint.write(tmp_path / "last.ckpt", held, lambda own: own.update(optimizer_states=[moments]))
    assert checkpoint.load(path)["optimizer_states"][0]["state"][0]["exp_avg"].shape == (1000,)
    zeros = path.read_bytes().index(bytes(4000))
    changed = bytearray(path.read_bytes())
    changed[zeros + 2000] ^= 1
    path.write_bytes(changed)
    checkpoint.read(path)  # which predicts without it
    with pytest.raises(InputError, match=r"last\.ckpt: damaged since it was written \(optimizer_states differs"):
        checkpoint.load(path)


def test_checkpoints_from_before_there_were_checksums_load(held: dict[str, Any], tmp_path: Path) -> None:
    torch.save(held, tmp_path / "old.ckpt")
    assert integrity.KEY not in held
    assert checkpoint.read(tmp_path / "old.ckpt").network_state


def test_an_entry_that_is_added_or_taken_out_is_noticed() -> None:
    summed = integrity.add({"a": 1, "b": 2})
    integrity.check(summed, "here")
    for changed in ({k: v for k, v in summed.items() if k != "b"}, summed | {"c": 3}, summed | {"b": 3}):
        with pytest.raises(InputError, match="here: damaged"):
            integrity.check(changed, "here")
        integrity.check(changed, "here", ["a"])
    assert integrity.add(summed) == summed


TENSORS = [
    torch.zeros(3), torch.zeros(1, 3), torch.zeros(3, dtype=torch.float16), torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.bool), torch.tensor(0.0), torch.zeros(0), torch.zeros(0, 2), torch.zeros(3, 1),
]  # fmt: skip
PLAIN = ["0", b"0", 0, 0.0, False, None, [], [0], [[0]], [0, 0], {}, {"0": 0}, {0: "0"}, (1, [2]), [1, 2], math.inf]


def test_different_values_have_different_sums() -> None:
    sums = [integrity.crc32(value) for value in [*TENSORS, *PLAIN]]
    assert len(set(sums)) == len(sums)


def test_sums_follow_values_not_memory() -> None:
    grid = torch.arange(6.0).reshape(2, 3)
    assert integrity.crc32(grid.T) == integrity.crc32(grid.T.contiguous()) != integrity.crc32(grid)
    assert integrity.crc32(torch.nn.Parameter(grid)) == integrity.crc32(grid)
    assert integrity.crc32((1, 2)) == integrity.crc32([1, 2])


@given(st.integers(0, 31), st.integers(0, 99))
def test_every_bit_counts(bit: int, place: int) -> None:
    words = torch.arange(100, dtype=torch.int32)
    before = integrity.crc32(words)
    words[place] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)
    assert integrity.crc32(words) != before


def test_a_checkpoint_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop] * 1000
    with pytest.raises(InputError, match="holds itself"):
        integrity.crc32(loop)
