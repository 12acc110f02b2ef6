"""Soft labels through every change of cells: as the label, and interpolated as an image."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.labels import IGNORE
from medseg.sample import Batch
from medseg.transforms.compose import Compose, build_compose
from medseg.transforms.mix import CutMix
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale
from medseg.transforms.turns import RandomRotate90

Make = Callable[..., Batch]


def hot(label: Tensor) -> Tensor:
    return torch.stack([label == k for k in range(3)], dim=1).float()


def composed(space: tuple[int, ...], **own: Any) -> Compose:
    return build_compose(patch_shape=[n - 6 for n in space], spacing=[1.0] * len(space), **own)


def batches(make_batch: Make, space: tuple[int, ...]) -> Batch:
    """Labels in blocks, with ignored and with invalid cells, each batch with soft labels of one observer."""
    batch = make_batch(space, b=4, c=2)
    label = batch.label[..., ::3, ::3].repeat_interleave(3, -1).repeat_interleave(3, -2)[..., : space[-2], : space[-1]]
    label[:, :5, 2:6] = IGNORE
    batch.valid[0, 7] = False
    return replace(batch, label=label, soft=hot(label))


@pytest.mark.parametrize("space", [(21, 24), (15, 18, 21)])
@pytest.mark.parametrize("bends", [True, False])
def test_soft_labels_of_one_observer_stay_with_the_label(make_batch: Make, space: tuple[int, ...], bends: bool) -> None:
    """Copied patches: the indicators of the label, bit for bit. Interpolated ones: the label is the largest share."""
    moves: dict[str, Any] = {"mirror": Mirror(p=0.5), "turns": RandomRotate90(), "cutmix": CutMix(p=0.7)}
    if bends:
        moves |= {"rotation": Rotation(p=1.0), "scale": Scale(p=1.0), "elastic": Elastic(p=0.5)}
    patches = composed(space, **moves)(batches(make_batch, space))
    soft: Any = patches.soft
    total, known = soft.sum(1), patches.label != IGNORE
    torch.testing.assert_close(total, known.float(), rtol=0, atol=1e-6)
    assert known.any()
    assert not known.all()
    if not bends:
        assert torch.equal(soft, hot(patches.label))
        return
    largest = soft.max(1)
    clear = known & ((soft == largest.values[:, None]).sum(1) == 1)
    assert torch.equal(largest.indices[clear], patches.label[clear])
    assert ((soft > 0.01) & (soft < 0.99)).any()


def test_shares_are_interpolated_as_an_image(make_batch: Make) -> None:
    batch = make_batch((20, 22), b=2, c=3)
    soft = torch.rand(2, 3, 20, 22).softmax(1)
    compose = composed((20, 22), rotation=Rotation(p=1.0, degrees_in_plane=15), scale=Scale(p=1.0, low=0.8, high=0.9))
    as_image = compose(replace(batch, image=soft, soft=None)).image
    patches = compose(replace(batch, soft=soft))
    found: Any = patches.soft
    inside = patches.valid[:, None].expand_as(found)
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(found[inside], as_image[inside], rtol=1e-5, atol=1e-6)


def test_everything_else_is_bit_for_bit_what_it_is_without(make_batch: Make) -> None:
    batch = batches(make_batch, (21, 24))
    compose = composed(
        (21, 24), rotation=Rotation(p=0.5), mirror=Mirror(), turns=RandomRotate90(), cutmix=CutMix(p=0.5)
    )
    with_soft, without = compose(batch), compose(replace(batch, soft=None))
    assert without.soft is None
    for name in ("image", "label", "valid", "present"):
        assert torch.equal(getattr(with_soft, name), getattr(without, name))


def test_a_mirror_across_the_body_exchanges_the_shares_of_sides(make_batch: Make) -> None:
    batch = make_batch((8, 10), b=4)
    soft = torch.rand(4, 3, 8, 10).softmax(1)
    own: dict[str, Any] = {"patch_shape": (8, 10), "spacing": (1.0, 1.0), "mirror": Mirror(p=0.5, axes=(1,))}
    compose = build_compose(**own, lateral_axis=1, mirror_classes=(0, 2, 1))
    batch = replace(batch, soft=soft)
    flipped = compose.draw(batch)["spatial"]["flip"][:, 1]
    assert 0 < flipped.sum() < 4
    found: Any = compose(batch).soft
    for i in np.flatnonzero(flipped):
        assert torch.equal(found[i], soft[i, [0, 2, 1]].flip(-1))
    for i in np.flatnonzero(~flipped):
        assert torch.equal(found[i], soft[i])
