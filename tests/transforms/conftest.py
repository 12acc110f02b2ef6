from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from medseg.sample import Batch


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A function that draws a batch: smooth image, three classes, all valid unless told otherwise."""

    def make(space: Sequence[int], b: int = 2, c: int = 1, *, seed: int = 0, step: int = 0, k: int = 3) -> Batch:
        rng = np.random.default_rng([7, seed, *space])
        place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in space], indexing="ij"))
        waves = rng.uniform(1, 4, (b, c, len(space)))
        image = np.sin(np.einsum("bcd,d...->bc...", waves, place)) + rng.normal(0, 0.05, (b, c, *space))
        return Batch(
            image=torch.from_numpy(image).float(),
            label=torch.from_numpy(rng.integers(0, k, (b, *space))),
            valid=torch.ones((b, *space), dtype=torch.bool),
            present=torch.ones((b, c), dtype=torch.bool),
            key=torch.tensor([[11, step, i] for i in range(b)]),
            cases=tuple(f"case{i}" for i in range(b)),
        )

    return make
