import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from medseg.labels import IGNORE
from medseg.transforms.warp import (
    displacement_field,
    sampling_grid,
    sampling_matrix,
    warp,
)
from medseg.transforms.window import rotation_planes


def make_grid(patch, window, *, degrees=None, scale=1.0, flip=None, spacing=None, coarse=None, displacement=None):
    ndim = len(patch)
    planes = rotation_planes(ndim, coarse)
    matrix = sampling_matrix(
        np.array([degrees or [0.0] * len(planes)], dtype=float),
        np.array([scale]),
        np.array([flip or [False] * ndim]),
        spacing or (1.0,) * ndim,
        planes,
        coarse,
    )
    return sampling_grid(torch.from_numpy(matrix).float(), patch, window, displacement)


def sample_linear(field, grid):
    known = torch.ones(len(field), *field.shape[2:], dtype=torch.bool)
    return torch.stack([warp(f, k.long(), k, g)[0] for f, k, g in zip(field, known, grid)])


def warp_image(image, valid, grid):
    warped = [warp(i, v.long(), v, g) for i, v, g in zip(image, valid, grid)]
    return torch.stack([w[0] for w in warped]), torch.stack([w[2] for w in warped])


def warp_label(label, grid):
    return torch.stack([warp(c[None].float(), c, c > 0, g)[1] for c, g in zip(label, grid)])


@pytest.mark.parametrize(
    ("patch", "window"), [((5, 6), (9, 6)), ((5, 6), (8, 7)), ((3, 4, 5), (7, 5, 8)), ((1, 4), (1, 4))]
)
def test_without_change_the_centre_is_sampled(patch, window):
    image = torch.randn(1, 2, *window)
    centre = [slice((w - n) // 2, (w - n) // 2 + n) for n, w in zip(patch, window)]
    torch.testing.assert_close(sample_linear(image, make_grid(patch, window)), image[(..., *centre)], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("ndim", "plane", "axes"), [(2, 0, (0, 1)), (3, 0, (1, 2)), (3, 1, (2, 0)), (3, 2, (0, 1))])
@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_quarter_turns_are_numpys_for_image_and_label(ndim, plane, axes, quarters):
    shape = (5,) * ndim
    image, label = torch.randn(1, 1, *shape), torch.randint(0, 4, (1, *shape))
    degrees = [0.0] * (3 if ndim == 3 else 1)
    degrees[plane] = 90.0 * quarters
    grid = make_grid(shape, shape, degrees=degrees)
    turned, valid = warp_image(image, torch.ones(1, *shape, dtype=torch.bool), grid)
    np.testing.assert_allclose(turned[0, 0].numpy(), np.rot90(image[0, 0].numpy(), quarters, axes), atol=1e-5)
    np.testing.assert_array_equal(warp_label(label, grid)[0].numpy(), np.rot90(label[0].numpy(), quarters, axes))
    assert valid.all()


def test_any_affine_is_scipys():
    rng = np.random.default_rng(0)
    patch, window = (6, 7, 8), (10, 11, 13)
    matrix = np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    image = rng.normal(size=window)
    starts = [(w - n) // 2 for n, w in zip(patch, window)]
    centre = (np.array(patch) - 1) / 2
    oracle = affine_transform(
        np.pad(image, 9), matrix, centre + starts + 9 - matrix @ centre, output_shape=patch, order=1
    )  # padded, as scipy's constant mode does not fade out over the last cell
    grid = sampling_grid(torch.from_numpy(matrix)[None].float(), patch, window)
    sampled = sample_linear(torch.from_numpy(image)[None, None].float(), grid)
    np.testing.assert_allclose(sampled[0, 0].numpy(), oracle, atol=1e-4)


def test_scale_two_samples_twice_the_extent():
    # a ramp of slope 1 becomes one of slope 2 about the same centre: objects look half as large
    ramp = torch.arange(12.0).expand(12, 12)[None, None]
    shown = sample_linear(ramp, make_grid((4, 4), (12, 12), scale=2.0))[0, 0]
    np.testing.assert_allclose(shown.numpy(), np.tile([2.5, 4.5, 6.5, 8.5], (4, 1)), atol=1e-5)


def test_flip_comes_last():
    image = torch.randn(1, 1, 9, 9)
    both = sample_linear(image, make_grid((7, 7), (9, 9), degrees=[25.0], scale=1.1, flip=[True, False]))
    turned = sample_linear(image, make_grid((7, 7), (9, 9), degrees=[25.0], scale=1.1))
    torch.testing.assert_close(both, turned.flip(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [[90.0, 0.0, 0.0], [20.0, -30.0, 25.0]])
def test_a_physical_sphere_stays_a_sphere(degrees):
    spacing, window = np.array([2.5, 1.0, 1.25]), (17, 43, 35)
    offset = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(window, spacing)]
    mm = np.stack(np.meshgrid(*offset, indexing="ij"))
    blob = np.exp(-0.5 * (mm**2).sum(0) / 4.0**2)
    grid = make_grid(window, window, degrees=degrees, spacing=tuple(spacing))
    turned = sample_linear(torch.from_numpy(blob)[None, None].float(), grid)[0, 0].numpy()
    moments = np.einsum("aijk,bijk,ijk->ab", mm, mm, turned) / turned.sum()
    np.testing.assert_allclose(moments / 4.0**2, np.eye(3), atol=0.05)
    np.testing.assert_allclose(turned, blob, atol=0.05)


def test_a_depth_of_one_is_two_dimensions():
    image, label = torch.randn(1, 1, 9, 8), torch.randint(0, 3, (1, 9, 8))
    flat = make_grid((7, 6), (9, 8), degrees=[33.0], scale=0.9, flip=[False, True])
    deep = make_grid((1, 7, 6), (1, 9, 8), degrees=[33.0], scale=0.9, flip=[False, False, True], coarse=0)
    torch.testing.assert_close(
        sample_linear(image[:, :, None], deep)[:, :, 0], sample_linear(image, flat), atol=1e-5, rtol=0
    )
    assert torch.equal(warp_label(label[:, None], deep)[:, 0], warp_label(label, flat))


def test_label_is_ignored_outside_and_where_the_unknown_outweighs():
    # sampled at 0.5 steps from the centre outwards: places -0.75, 0.75, 2.25, 3.75 of 4 cells
    label = torch.tensor([[[2, 2, IGNORE, 1]]])
    grid = sampling_grid(torch.tensor([[[1.0, 0.0], [0.0, 1.5]]]), (1, 4), (1, 4))
    # -0.75: a quarter of class 2, three quarters outside; 0.75: class 2; 2.25: three quarters unknown;
    # 3.75: a quarter of class 1
    assert warp_label(label, grid).tolist() == [[[IGNORE, 2, IGNORE, IGNORE]]]


def test_label_takes_the_class_of_the_largest_share_not_a_mean():
    # halfway between 0 and 4 neither 2 nor anything else appears; the lower class wins the tie
    grid = sampling_grid(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), (1, 1), (1, 2)) + torch.tensor([0.5, 0.0])
    assert warp_label(torch.tensor([[[4, 0]]]), grid).item() == 0
    assert warp_label(torch.tensor([[[4, 0]]]), grid - torch.tensor([0.02, 0.0])).item() == 4


def test_label_of_many_classes_is_the_brute_force_argmax():
    label = torch.randint(-1, 21, (2, 12, 12))
    label[label == 13] = 0  # a class that does not occur
    grid = make_grid((10, 10), (12, 12), degrees=[28.0], scale=0.8).expand(2, -1, -1, -1)
    shares = sample_linear(torch.stack([label == k for k in range(-1, 21)], 1).float(), grid)
    shares[:, 0] += 1 - shares.sum(1)
    first = shares[:, 1:].argmax(1)
    oracle = torch.where(shares[:, 0] > shares[:, 1:].amax(1), IGNORE, first)
    assert (warp_label(label, grid) == oracle).float().mean() > 0.99  # ties may fall by rounding
    assert set(warp_label(label, grid).unique().tolist()) <= set(label.unique().tolist())


def test_label_without_any_known_cell_stays_unknown():
    label = torch.full((1, 4, 4), IGNORE)
    assert torch.equal(warp_label(label, make_grid((4, 4), (4, 4), degrees=[10.0])), label)


def test_valid_only_where_all_sampled_cells_are():
    valid = torch.tensor([[[True, True, True, False, True]]])
    image = torch.ones(1, 1, 1, 5)
    grid = make_grid((1, 5), (1, 5))
    half_a_cell = torch.tensor([2 / 5 * 0.5, 0.0])
    assert warp_image(image, valid, grid)[1].tolist() == valid.tolist()
    # 0.2 cells towards an invalid one are too much: 0.8 x 1 + 0.2 x 0
    assert warp_image(image, valid, grid + 0.4 * half_a_cell)[1].tolist() == [[[True, True, False, False, False]]]
    # between cells 0-1, 1-2, 2-3, 3-4, and 4-outside
    assert warp_image(image, valid, grid + half_a_cell)[1].tolist() == [[[True, True, False, False, False]]]


@pytest.mark.parametrize("degrees", [1.0, 45.0, 77.7, -163.0])
@pytest.mark.parametrize("nodata", [1e6, float("nan")])
def test_a_turned_cell_is_valid_if_and_only_if_its_four_neighbours_are(nodata, degrees):
    row_m, column_m, patch, window = 1.0, 0.7, 41, 61
    valid = torch.ones(1, window, window, dtype=torch.bool)
    valid[:, 20:31, 12:40], valid[:, 44, 44], valid[:, :, 55:] = False, False, False
    image = torch.where(valid, 1.0, nodata)[:, None]
    grid = make_grid((patch, patch), (window, window), degrees=[degrees], spacing=(row_m, column_m))
    shown, known = warp_image(image, valid, grid)

    row, column = np.indices((patch, patch)) - (patch - 1) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    place = np.stack(
        [
            (cos * row * row_m + sin * column * column_m) / row_m + (window - 1) / 2,
            (cos * column * column_m - sin * row * row_m) / column_m + (window - 1) / 2,
        ]
    )
    clear = (np.abs(place - np.round(place)) > 5e-3).all(0)  # on a cell centre, rounding decides who is a neighbour
    padded = np.pad(valid[0].numpy(), 30)
    lower = np.floor(place).astype(int) + 30
    oracle = np.all([padded[lower[0] + i, lower[1] + j] for i in (0, 1) for j in (0, 1)], axis=0)
    assert clear.mean() > 0.95
    assert 0.3 < oracle.mean() < 0.95
    np.testing.assert_array_equal(known[0].numpy()[clear], oracle[clear])
    # a valid cell still holds the constant: nothing of an invalid one, be it 1e6 or NaN, has entered
    torch.testing.assert_close(shown[0, 0][known[0]], torch.ones(int(known.sum())), atol=1e-3, rtol=0)
    assert torch.isfinite(shown).all()


@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0])
def test_on_the_lattice_no_cell_is_lost_and_none_of_nodata_enters(degrees):
    valid = torch.ones(1, 31, 31, dtype=torch.bool)
    valid[:, 7:12, 9] = False
    image = torch.where(valid, 1.0, float("inf"))[:, None]
    shown, known = warp_image(image, valid, make_grid((31, 31), (31, 31), degrees=[degrees]))
    assert torch.equal(known, torch.rot90(valid, int(degrees // 90), (1, 2)))
    torch.testing.assert_close(shown[0, 0][known[0]], torch.ones(int(known.sum())), atol=1e-3, rtol=0)


def test_displacement_of_equal_control_points_is_a_shift():
    control = torch.zeros(1, 2, 5, 5)
    control[:, 0], control[:, 1] = 2.0, -1.0
    field = displacement_field(control, (4, 6))
    torch.testing.assert_close(field[0, :, 1, 3], torch.tensor([2.0, -1.0]))
    image = torch.randn(1, 1, 10, 10)
    shifted = sample_linear(image, make_grid((4, 6), (10, 10), displacement=field))
    torch.testing.assert_close(shifted, image[:, :, 5:9, 1:7], atol=1e-5, rtol=0)


def test_displacement_varies_where_its_control_point_lies():
    control = torch.zeros(1, 2, 7, 7)
    control[0, 0, 3, 3] = 1.0
    field = displacement_field(control, (13, 13))[0, 0]
    assert field.argmax().item() == 6 * 13 + 6
    assert field.max().item() == pytest.approx((2 / 3) ** 2, abs=1e-6)  # the spline's own height, per axis 2/3
    assert field[0].abs().max().item() == pytest.approx(0, abs=1e-6)
