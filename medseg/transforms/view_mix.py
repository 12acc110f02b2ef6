"""CutMix of views without labels: patches are mixed together with what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.compose import generators
from medseg.transforms.mix import CutMix, pasted

_VIEWS = 1_000_001
"""Place of this mixture in the random stream of a sample, after those of all transforms."""


def mixed(
    batch: Batch, cells: Sequence[Shaped[Tensor, "b ..."]], cutmix: CutMix
) -> tuple[Batch, list[Shaped[Tensor, "b ..."]]]:
    """Patches with boxes of each other, and further arrays on their cells with the same boxes of each other.

    The boxes are a function of the key (seed, step, sample) of each patch. Facts of a case stay those of the patch that
    the box is pasted into.

    Args:
        batch: The patches, such as strong views.
        cells: Arrays whose first axis is the patch and whose last ones are those of space, such as probabilities
            and masks.
        cutmix: Probability and size of the boxes.

    Raises:
        InputError: Time series, of which two have been seen on different days.
    """
    if not cutmix.p:
        return batch, list(cells)
    if batch.dates:
        raise InputError(f"method.cutmix={cutmix.p}: the days of two time series differ; set method.cutmix=0")
    space = batch.valid.shape[1:]
    params = cutmix.draw(generators(batch.key, _VIEWS), batch.image.shape)
    pastes = cutmix.pastes(params, space)
    return cutmix.apply(batch, params), [pasted(one, pastes) for one in cells]
