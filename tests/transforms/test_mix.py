from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.transforms.mix import CutMix, pasted_box


def params(share, place, partner):
    return {"share": np.array(share), "place": np.array(place), "partner": np.array(partner)}


def test_a_box_comes_from_the_partner_by_hand(make_batch):
    batch = make_batch((4, 8), b=3, c=2)
    batch.valid[1, 3, 7], batch.present[1, 0] = False, False
    # sample 0: half the edges, so 2 x 4 cells, last place; partner 0 + 1 + floor(0.4 x 2) = 1
    drawn = params([0.25, 0.0, 0.25], [[0.99, 0.99], [0.0, 0.0], [0.0, 0.5]], [0.4, 0.0, 0.9])
    mixed = CutMix().apply(batch, drawn)
    for name in ("image", "label", "valid"):
        before, after = getattr(batch, name), getattr(mixed, name)
        expected = before.clone()
        expected[0][..., 2:, 4:] = before[1][..., 2:, 4:]
        # sample 2: first row, columns floor(0.5 x 5) = 2 to 5; partner 2 + 1 + floor(0.9 x 2) = 4, which is 1
        expected[2][..., :2, 2:6] = before[1][..., :2, 2:6]
        assert torch.equal(after, expected)
    assert not mixed.valid[0, 3, 7]
    assert mixed.present.tolist() == [[False, True], [False, True], [False, True]]
    assert batch.present.tolist() == [[True, True], [False, True], [True, True]]  # what came is left as it was


def test_a_paste_is_not_pasted_on(make_batch):
    # each takes everything from the next: a rotation of the batch, no sample comes twice
    batch = make_batch((4, 5, 3), b=4)
    mixed = CutMix().apply(batch, params([1.0] * 4, [[0.5] * 3] * 4, [0.0] * 4))
    assert torch.equal(mixed.image, batch.image.roll(-1, 0))
    assert torch.equal(mixed.label, batch.label.roll(-1, 0))


def test_a_batch_of_one_and_samples_not_chosen_are_unchanged(make_batch):
    alone = make_batch((6, 6), b=1)
    assert CutMix().apply(alone, params([0.5], [[0.1, 0.1]], [0.3])) is alone
    pair = make_batch((6, 6), b=2)
    assert CutMix().apply(pair, params([0.0, 0.0], [[0.1, 0.1]] * 2, [0.3] * 2)) is pair


@pytest.mark.parametrize("space", [(20, 30), (10, 12, 8)])
def test_the_box_has_about_its_share_and_reaches_every_corner(space):
    rng = np.random.default_rng(0)
    boxes = [pasted_box(space, 0.3, rng.random(len(space))) for _ in range(300)]
    assert all(np.prod(box.shape) / np.prod(space) == pytest.approx(0.3, abs=0.06) for box in boxes)
    assert min(box.start for box in boxes)[0] == 0
    for axis, size in enumerate(space):
        assert {box.start[axis] for box in boxes} == set(range(size - boxes[0].shape[axis] + 1))
    assert pasted_box(space, 1e-9, np.zeros(len(space))).shape == (1,) * len(space)
    assert pasted_box(space, 1.0, np.full(len(space), 0.99)).shape == space


def test_partners_are_everybody_else_equally_often(make_batch):
    batch = make_batch((1, 1), b=5)
    batch = replace(batch, label=torch.arange(5).view(5, 1, 1))
    seen = np.zeros((5, 5))
    for seed in range(400):
        rngs = [np.random.default_rng([seed, i]) for i in range(5)]
        mixed = CutMix(p=1).apply(batch, CutMix(p=1).draw(rngs, batch.image.shape))
        seen[np.arange(5), mixed.label.flatten().numpy()] += 1
    assert (np.diag(seen) == 0).all()
    assert seen[~np.eye(5, dtype=bool)] == pytest.approx(100, abs=45)


def test_draws_depend_on_the_generator_alone_and_rates_hold():
    def draw(p, space):
        return CutMix(p=p, low=0.2, high=0.4).draw([np.random.default_rng(i) for i in range(1000)], (1000, 3, *space))

    often, seldom, larger = draw(1.0, (8, 8)), draw(0.3, (8, 8)), draw(1.0, (80, 90))
    chosen = seldom["share"] > 0
    assert chosen.mean() == pytest.approx(0.3, abs=0.06)
    np.testing.assert_array_equal(seldom["share"][chosen], often["share"][chosen])
    for name in ("place", "partner"):
        np.testing.assert_array_equal(seldom[name], often[name])
        np.testing.assert_array_equal(often[name], larger[name])  # windows may be larger than patches
    assert 0.2 <= often["share"].min() < 0.21
    assert 0.39 < often["share"].max() <= 0.4


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"transform\.cutmix: got low=0\.6, high=0\.5"):
        CutMix(low=0.6)
    with pytest.raises(InputError, match=r"transform\.cutmix: got p=1\.5"):
        CutMix(high=1.5)


def test_a_mixture_annotates_what_both_samples_do(make_batch):
    batch = replace(make_batch((4, 8), b=2), annotated=torch.tensor([[True, True, False], [True, False, True]]))
    mixed = CutMix().apply(batch, params([0.25, 0.0], [[0.5, 0.5]] * 2, [0.0, 0.0]))
    assert mixed.annotated.tolist() == [[True, False, False], [True, False, True]]
    assert batch.annotated.tolist() == [[True, True, False], [True, False, True]]
