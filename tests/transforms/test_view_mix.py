"""CutMix of views: patches, targets and masks get the same boxes, which are a function of the key."""

from dataclasses import replace

import pytest
import torch

from medseg.errors import InputError
from medseg.sample import Batch
from medseg.transforms.mix import CutMix
from medseg.transforms.view_mix import mixed

ALWAYS = CutMix(p=1.0)


def patches(step: int, *space: int, n: int = 3) -> Batch:
    """Patches whose every cell has the number of the sample; the last sample has no data at all."""
    number = torch.arange(n).view(n, *[1] * len(space)).expand(n, *space)
    return Batch(
        image=number[:, None].float().clone(),
        label=number.clone(),
        valid=number < n - 1,
        present=torch.ones(n, 1, dtype=torch.bool),
        key=torch.tensor([[5, step, i] for i in range(n)]),
        cases=tuple("abc"[:n]),
    )


@pytest.mark.parametrize("space", [(8, 10), (6, 8, 10)])
def test_images_targets_and_masks_are_mixed_alike(space: tuple[int, ...]) -> None:
    given = patches(7, *space)
    target = torch.cat([given.image, -given.image], 1)
    batch, (moved, shown) = mixed(given, [target, given.valid], ALWAYS)
    assert not torch.equal(batch.image, given.image)
    assert torch.equal(moved, torch.cat([batch.image, -batch.image], 1))
    assert torch.equal(shown, batch.valid)
    assert torch.equal(batch.valid, batch.image[:, 0] < 2)
    shares = (batch.image[:, 0] != given.image[:, 0]).float().flatten(1).mean(1)
    assert ((shares > 0.05) & (shares < 0.6)).all()
    assert torch.equal(given.image, patches(7, *space).image)


def test_boxes_are_a_function_of_the_key() -> None:
    one, again, other = (mixed(patches(step, 9, 9), [], ALWAYS)[0].image for step in (7, 7, 8))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_nothing_is_mixed_with_probability_0_or_alone() -> None:
    given = patches(7, 8, 8)
    assert mixed(given, [given.valid], CutMix(p=0.0)) == (given, [given.valid])
    alone = patches(7, 8, 8, n=1)
    batch, (valid,) = mixed(alone, [alone.valid], ALWAYS)
    assert torch.equal(batch.image, alone.image)
    assert torch.equal(valid, alone.valid)


def test_time_series_are_refused_in_one_line() -> None:
    given = patches(7, 8, 8)
    series = replace(given, image=given.image[:, None], present=given.present[:, None], days=torch.zeros(3, 1).long())
    with pytest.raises(InputError, match=r"^method\.cutmix=1\.0: the days of two time series differ; set method\.cut"):
        mixed(series, [], ALWAYS)
