import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.resample import coarse_axis, resample_image, resample_label, resampled_grid
from medseg.labels import IGNORE


def unit_grid(shape):
    return Grid.regular(shape, (1.0,) * len(shape))


def ellipsoid(shape, centre, radii):
    where = np.indices(shape).reshape(len(shape), *shape)
    distance = sum(((w - c) / r) ** 2 for w, c, r in zip(where, centre, radii))
    return distance <= 1


@pytest.mark.parametrize(
    ("current", "new", "expected"),
    [
        ((1, 1, 3), (1, 1, 1), None),  # the ratio must exceed 3
        ((1, 1, 3.01), (1, 1, 1), 2),
        ((4, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (0.5, 2, 0.5), 1),  # the new spacing is judged where the current one is even
        ((0.24, 1.25, 1.25), (1, 1, 1), None),  # two coarse axes make no slices
        ((0.24, 1.25, 1.25), (1, 1, 4), None),  # and the new spacing is not asked then
        ((5, 1, 1), (1, 1, 9), 0),  # the current spacing decides first
        ((0.3, 1.25, 1.2500001), (1, 1, 1), None),  # equal but for rounding
        ((1, 5), (1, 1), None),  # an image has no slices
    ],
)
def test_coarse_axis(current, new, expected):
    assert coarse_axis(current, new) == expected


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [((9, 12, 7), (13, 8, 7)), ((9, 12, 7), (4, 25, 1)), ((1, 6, 5), (3, 9, 4)), ((11, 8), (7, 19)), ((10,), (23,))],
)
def test_image_equals_scipy_zoom_clipped(order, old, new):
    image = np.random.default_rng(1).normal(size=(2, *old)).astype(np.float32)
    expected = [
        np.clip(
            ndimage.zoom(c.astype(np.float64), np.divide(new, old), order=order, mode="nearest", grid_mode=True),
            c.min(),
            c.max(),
        )
        for c in image
    ]
    resized = resample_image(image, unit_grid(old), new, order=order, separate=False)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=3e-6)


def test_linear_literals():
    """Two cells to four: new centres lie at old indices -0.25, 0.25, 0.75, 1.25; the ends repeat."""
    doubled = resample_image(np.array([[0.0, 4.0]]), unit_grid((2,)), (4,), order=1)
    np.testing.assert_allclose(doubled, [[0, 1, 3, 4]], atol=1e-6)
    halved = resample_image(np.array([[0.0, 2.0, 4.0, 10.0]]), unit_grid((4,)), (2,), order=1)
    np.testing.assert_allclose(halved, [[1, 7]], atol=1e-6)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_image_of_the_same_shape_is_the_very_array(order):
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    assert resample_image(image, unit_grid((4, 5, 6)), (4, 5, 6), order=order) is image
    assert resample_image(image.astype(np.float64), unit_grid((4, 5, 6)), [4, 5, 6], order=order).dtype == np.float32


@given(
    old=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    seed=st.integers(0, 99),
    order=st.sampled_from([0, 1, 3]),
    value=st.floats(-3000, 3000, width=32),
)
def test_constant_stays_and_the_range_is_kept(old, seed, order, value):
    rng = np.random.default_rng(seed)
    new = tuple(int(n) for n in rng.integers(1, 15, size=len(old)))
    image = np.stack([np.full(old, value), rng.normal(size=old)]).astype(np.float32)
    resized = resample_image(image, unit_grid(old), new, order=order)
    assert resized.shape == (2, *new)
    assert (resized[0] == np.float32(value)).all()
    assert resized[1].min() >= image[1].min()
    assert resized[1].max() <= image[1].max()


@pytest.mark.parametrize(("order", "border"), [(1, 2), (3, 8)])
@pytest.mark.parametrize("new", [(37, 21, 50), (26, 33, 64)])
def test_world_coordinates_stay_linear_inside(order, border, new):
    """An image of its own world coordinates gives the world coordinates of the new cells."""
    affine = np.array([[0.9, -0.2, 0.1, 5], [0.3, 1.1, 0, -7], [0, 0.1, 1.3, 2], [0, 0, 0, 1.0]])
    grid = Grid((30, 28, 40), affine)
    world = grid.to_world(np.indices(grid.shape).reshape(3, -1).T).T.reshape(3, *grid.shape)
    resized = resample_image(world.astype(np.float32), grid, new, order=order)
    finer = grid.resized(new)
    expected = finer.to_world(np.indices(new).reshape(3, -1).T).T.reshape(3, *new)
    inside = (slice(None), *(slice(border * 2, -border * 2) for _ in new))
    np.testing.assert_allclose(resized[inside], expected[inside], atol=1e-3)


def test_separate_axis_takes_the_nearest_slice():
    image = np.random.default_rng(3).normal(size=(1, 8, 8, 4)).astype(np.float32)
    grid = Grid.regular((8, 8, 4), (1.0, 1.0, 5.0))
    resized = resample_image(image, grid, (12, 12, 10))
    planes = [ndimage.zoom(image[0, :, :, z], 1.5, mode="nearest", grid_mode=True) for z in range(4)]
    nearest = [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]  # floor((i + 0.5) * 4 / 10)
    expected = np.clip(np.stack([planes[z] for z in nearest], axis=-1), image.min(), image.max())
    np.testing.assert_allclose(resized[0], expected, atol=3e-6)
    together = resample_image(image, grid, (12, 12, 10), separate=False)
    assert np.abs(together - resized).max() > 0.1
    even = Grid.regular((8, 8, 4), (1.0, 1.0, 1.5))
    np.testing.assert_array_equal(resample_image(image, even, (12, 12, 10), separate=True), resized)


def test_image_refuses_unknown_orders_and_values_that_spread():
    image = np.ones((2, 4, 4))
    with pytest.raises(InputError, match=r"got spline order 2, choose 0 \(nearest\), 1 \(linear\) or 3 \(cubic\)"):
        resample_image(image, unit_grid((4, 4)), (8, 8), order=2)
    for bad in (np.nan, np.inf, -np.inf):
        image[1, 2, 2] = bad
        with pytest.raises(InputError, match="channel 1 holds NaN or infinite values"):
            resample_image(image, unit_grid((4, 4)), (8, 8))
    with pytest.raises(ValueError, match=r"cells \(4, 4\) with a grid of \(4, 5\)"):
        resample_image(image, unit_grid((4, 5)), (8, 8))


def voted(label, new):
    """The vote, plainly: every class's mask through scipy on the whole array, the last largest share wins."""
    values = np.unique(label)
    shares = np.stack(
        [
            ndimage.zoom(
                (label == v).astype(float), np.divide(new, label.shape), order=1, mode="nearest", grid_mode=True
            )
            for v in values
        ]
    )
    return values[len(values) - 1 - np.argmax(shares.round(6)[::-1], axis=0)]


@given(
    old=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([np.int8, np.int16, np.int64]),
)
def test_label_equals_the_plain_vote(old, seed, dtype):
    rng = np.random.default_rng(seed)
    new = tuple(int(n) for n in rng.integers(1, 13, size=len(old)))
    label = rng.choice(np.array([IGNORE, 0, 1, 2, 9], dtype=dtype), size=old)
    resized = resample_label(label, unit_grid(old), new, separate=False)
    assert resized.dtype == dtype
    assert set(np.unique(resized)) <= set(np.unique(label))
    np.testing.assert_array_equal(resized, voted(label, new))


def test_label_literals():
    grid = unit_grid((4,))
    np.testing.assert_array_equal(resample_label(np.array([0, 0, 7, 7]), grid, (8,)), [0, 0, 0, 0, 7, 7, 7, 7])
    # halving: shares of one half go to the larger value, so a sheet of one cell stays
    np.testing.assert_array_equal(resample_label(np.array([0, 3, 0, 0]), grid, (2,)), [3, 0])
    np.testing.assert_array_equal(resample_label(np.array([IGNORE, 0, IGNORE, IGNORE]), grid, (2,)), [0, IGNORE])
    # one cell of four classes, each with a share of 1/4: a vote by "more than half" would leave background
    np.testing.assert_array_equal(resample_label(np.array([[1, 4], [3, 2]]), unit_grid((2, 2)), (1, 1)), [[4]])
    np.testing.assert_array_equal(resample_label(np.array([[2, 9], [7, 2]]), unit_grid((2, 2)), (1, 1)), [[2]])
    # three cells to two: the last new centre lies at old index 1.75, so its neighbours weigh 1/4 and 3/4
    meeting = np.array([[1, 1, 2], [1, 5, 5], [3, 3, 4]])
    assert resample_label(meeting, unit_grid((3, 3)), (2, 2)).tolist() == [[1, 2], [3, 4]]


def test_label_of_the_same_shape_is_the_very_array():
    label = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert resample_label(label, unit_grid((2, 3)), (2, 3)) is label


def test_label_separate_axis_takes_the_nearest_slice():
    label = np.zeros((6, 6, 3), dtype=np.int16)
    label[1:4, 2:5, 1] = 1
    resized = resample_label(label, Grid.regular(label.shape, (1, 1, 4.0)), (6, 6, 12))
    assert [int(n) for n in resized.sum(axis=(0, 1))] == [0] * 4 + [9] * 4 + [0] * 4


@pytest.mark.parametrize("factor", [2, 1.7, 3])
def test_there_and_back_keeps_a_blob(factor):
    shape = (30, 34, 28)
    label = ellipsoid(shape, (14, 18, 13), (10, 12, 8)).astype(np.int16)
    new = tuple(round(n * factor) for n in shape)
    there = resample_label(label, unit_grid(shape), new)
    back = resample_label(there, unit_grid(shape).resized(new), shape)
    assert 2 * (back * label).sum() / (back.sum() + label.sum()) > 0.98


@pytest.mark.parametrize("new", [(60, 74, 31), (35, 47, 90), (96, 37, 47)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_world_centroid_stays_within_a_tenth_of_a_voxel(new, flips):
    """An asymmetric blob is neither moved by half a cell nor mirrored, as image and as label."""
    grid = Grid((48, 54, 46), np.diag([*np.multiply(flips, (1.0, 0.9, 1.2)), 1.0]))
    blob = ellipsoid(grid.shape, (16.3, 32.1, 21.2), (9, 14, 12)) | ellipsoid(grid.shape, (30, 30, 18), (8, 7, 6))
    image = ndimage.gaussian_filter(blob.astype(np.float32), 1.5)[None]
    finer = grid.resized(new)

    def centroid(weight, on):
        return on.to_world([ndimage.center_of_mass(weight)])[0]

    tenth = 0.1 * min(grid.spacing)
    moved = centroid(resample_image(image, grid, new)[0], finer) - centroid(image[0], grid)
    assert np.abs(moved).max() < tenth
    label = blob.astype(np.int8)
    assert np.abs(centroid(resample_label(label, grid, new), finer) - centroid(label, grid)).max() < tenth


def test_a_case_may_shrink_from_any_size_and_grow_to_a_limit():
    large = Grid.regular((4000, 4000, 4000), (1, 1, 1))
    assert resampled_grid(large, (2, 1, 1), case="a").shape == (2000, 4000, 4000)
    small = Grid.regular((10, 10, 10), (1, 1, 1))
    assert resampled_grid(small, (0.01, 0.01, 0.01), case="a").shape == (1000, 1000, 1000)
    with pytest.raises(InputError, match=r"case a: its shape is \(10, 10, 10\) .* would become 1\.4e\+09 cells"):
        resampled_grid(small, (0.009, 0.009, 0.009), case="a")
