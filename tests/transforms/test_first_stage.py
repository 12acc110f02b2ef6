import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg.errors import InputError
from medseg.transforms.first_stage import FirstStageErrors, dilated, eroded


def rngs(n: int = 1, seed: int = 0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


def params(operation=0, radius=1, classes=(False, False), removed=(-1.0, -1.0)):
    return {
        "operation": np.array([operation]), "radius": np.array([radius]), "classes": np.array([classes]),
        "removed": np.array([removed]),
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(9, 11), (7, 8, 6)])
@pytest.mark.parametrize("radius", [1, 3])
def test_shapes_change_as_with_a_cube(shape, radius):
    mask = np.random.default_rng(len(shape)).random(shape) < 0.3
    cube = np.ones((2 * radius + 1,) * len(shape), bool)
    wider = dilated(torch.from_numpy(mask), radius).numpy()
    np.testing.assert_array_equal(wider, ndimage.binary_dilation(mask, cube))
    thinner = eroded(torch.from_numpy(~mask), radius).numpy()
    np.testing.assert_array_equal(thinner, ndimage.binary_erosion(~mask, cube, border_value=1))


def test_what_a_class_gains_is_taken_from_the_others_and_what_it_loses_becomes_none():
    row = torch.tensor([[[0, 1, 1, 1, 2, 2, 0]]]).expand(1, 3, 7)
    wider = FirstStageErrors().apply(row, params(operation=1, classes=(True, False)))
    assert wider[0, 1].tolist() == [1, 1, 1, 1, 1, 2, 0]
    thinner = FirstStageErrors().apply(row, params(operation=2, classes=(True, False)))
    assert thinner[0, 1].tolist() == [0, 0, 1, 0, 2, 2, 0]
    assert row[0, 1].tolist() == [0, 1, 1, 1, 2, 2, 0], "the input is left as it was"


def test_closing_fills_a_gap_and_opening_removes_a_thread():
    gap = torch.tensor([[[1, 1, 0, 1, 1, 0, 0, 0]]]).expand(1, 8, 8)
    assert FirstStageErrors().apply(gap, params(3, classes=(True, False)))[0, 4].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    thread = torch.tensor([[[0, 0, 1, 0, 0, 1, 1, 1]]]).expand(1, 8, 8)
    assert FirstStageErrors().apply(thread, params(4, classes=(True, False)))[0, 4].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_one_small_component_is_removed():
    numbers = torch.zeros(1, 10, 10, dtype=torch.long)
    numbers[0, :6, :6], numbers[0, 8, 8], numbers[0, 8, 2] = 1, 1, 1  # 36 % of the patch, and two cells
    removed = FirstStageErrors().apply(numbers, params(removed=(0.6, -1.0)))
    gone = (numbers != removed).nonzero().tolist()
    assert gone in ([[0, 8, 8]], [[0, 8, 2]])
    assert torch.equal(FirstStageErrors().apply(numbers, params(removed=(-1.0, 0.5))), numbers), "no such class"


def test_draws_are_rare_and_within_limits():
    errors = FirstStageErrors(p=0.4, radius=5, removal_p=0.2)
    drawn = errors.draw(rngs(2000), 3)
    assert drawn["operation"].max() == 4
    assert 0.55 < (drawn["operation"] == 0).mean() < 0.65
    assert (drawn["radius"].min(), drawn["radius"].max()) == (1, 5)
    assert 0.15 < (drawn["removed"] >= 0).any(1).mean() / (1 - 0.5**3) < 0.25
    never = FirstStageErrors(p=0, removal_p=0).draw(rngs(50), 3)
    assert not never["operation"].any()
    assert (never["removed"] < 0).all()


@pytest.mark.parametrize(("settings", "message"), [({"p": 1.2}, r"first_stage\.p"), ({"radius": 0}, "radius=0")])
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FirstStageErrors(**settings)
