from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.transforms.compose import build_compose
from medseg.transforms.spatial import Mirror
from medseg.transforms.transform import PatchSpec
from medseg.transforms.turns import RandomRotate90


def drawn_turns(transform, n, ndim):
    return transform.draw([np.random.default_rng(i) for i in range(n)], (n, 1, *[8] * ndim))["turns"]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_are_numpys_bit_for_bit(make_batch, turns):
    batch = make_batch((9, 9), b=2, c=3)
    batch.label[:, 0, :4], batch.valid[:, 5:, 2] = IGNORE, False
    bound = RandomRotate90().bind(PatchSpec((9, 9), (1.0, 1.0), None))
    turned = bound.apply(batch, {"turns": np.array([[turns], [0]])})
    for name, axes in (("image", (1, 2)), ("label", (0, 1)), ("valid", (0, 1))):
        whole = getattr(batch, name)
        np.testing.assert_array_equal(getattr(turned, name)[0].numpy(), np.rot90(whole[0].numpy(), turns, axes))
        assert torch.equal(getattr(turned, name)[1], whole[1])


def test_planes_of_a_volume_turn_one_after_the_other(make_batch):
    batch = make_batch((6, 6, 6), b=1)
    bound = RandomRotate90().bind(PatchSpec((6, 6, 6), (1.0,) * 3, None))
    turned = bound.apply(batch, {"turns": np.array([[1, 2, 3]])}).label[0].numpy()
    label = batch.label[0].numpy()
    np.testing.assert_array_equal(turned, np.rot90(np.rot90(np.rot90(label, 1, (1, 2)), 2, (2, 0)), 3, (0, 1)))


@pytest.mark.parametrize(
    ("shape", "spacing", "coarse", "stretch", "quarters"),
    [
        ((8, 8), (20.0, 20.0), None, 1.0, (True,)),
        ((8, 8), (20.0, 14.0), None, 1.0, (False,)),  # a quarter turn would make a disc an ellipse
        ((8, 8), (20.0, 15.0), None, 1.35, (True,)),  # unless told to: 20 / 15 = 1.33
        ((8, 8), (20.0, 14.0), None, 1.35, (False,)),
        ((8, 6), (1.0, 1.0), None, 1.0, (False,)),
        ((8, 8, 8), (1.0, 1.0, 1.0), None, 1.0, (True, True, True)),
        ((4, 8, 8), (1.0, 1.0, 1.0), None, 1.0, (True, False, False)),  # planes (1, 2), (2, 0), (0, 1)
        ((8, 8, 8), (1.0, 1.0, 5.0), 2, 1.0, (True,)),
    ],
)
def test_quarter_turns_need_a_square_plane(shape, spacing, coarse, stretch, quarters):
    bound = RandomRotate90(stretch=stretch).bind(PatchSpec(shape, spacing, coarse))
    assert bound.quarters == quarters
    turns = drawn_turns(bound, 400, len(shape))
    for drawn, quarter in zip(turns.T, quarters, strict=True):
        values, counts = np.unique(drawn, return_counts=True)
        assert values.tolist() == ([0, 1, 2, 3] if quarter else [0, 2])
        assert counts / 400 == pytest.approx(1 / len(values), abs=0.09)


def test_a_coarse_axis_stays_and_any_patch_keeps_its_shape(make_batch):
    batch = make_batch((4, 8, 8), b=6)
    slices = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(6, 1, 4, 8, 8).contiguous()
    bound = RandomRotate90().bind(PatchSpec((4, 8, 8), (5.0, 1.0, 1.0), 0))
    turned = bound.apply(replace(batch, image=slices), {"turns": np.arange(6)[:, None] % 4})
    assert torch.equal(turned.image, slices)
    assert not torch.equal(turned.label, batch.label)


def test_with_the_mirror_all_eight_symmetries_come_equally_often(make_batch):
    batch = make_batch((5, 5), b=1600)
    square = torch.arange(25.0).view(1, 1, 5, 5).expand(1600, 1, 5, 5).contiguous()
    batch = replace(batch, image=square, key=torch.tensor([[3, i, 0] for i in range(1600)]))
    compose = build_compose(patch_shape=(5, 5), spacing=(1.0, 1.0), mirror=Mirror(), turns=RandomRotate90())
    assert compose.window_shape == (5, 5)
    _, counts = compose(batch).image.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 8
    assert counts.numpy() == pytest.approx(200, abs=5 * np.sqrt(1600 / 8 * 7 / 8))


def test_the_probability_changes_only_who_is_turned():
    spec = PatchSpec((8, 8), (1.0, 1.0), None)
    always, seldom = (drawn_turns(RandomRotate90(p=p).bind(spec), 300, 2) for p in (1.0, 0.3))
    chosen = seldom != 0
    assert np.array_equal(seldom[chosen], always[chosen])
    assert chosen.mean() == pytest.approx(0.3 * 0.75, abs=0.08)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"transform\.turns: got stretch=0\.9"):
        RandomRotate90(stretch=0.9)
    with pytest.raises(InputError, match=r"transform\.turns: got p=2"):
        RandomRotate90(p=2)
