from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn import functional as F

from medseg.errors import InputError
from medseg.labels import IGNORE
from medseg.transforms.spatial import Elastic, Mirror, Rotation, Scale, Spatial, exchange

OFF = {"rotation": Rotation(p=0), "scale": Scale(p=0), "mirror": Mirror(p=0)}


def params(b, ndim, **given):
    """Parameters of a change that does nothing, but for what is given."""
    neutral = {
        "degrees": np.zeros((b, 1 if ndim == 2 else 3)),
        "scale": np.ones(b),
        "flip": np.zeros((b, ndim), dtype=bool),
    }
    return neutral | {name: np.array(value) for name, value in given.items()}


def centre(tensor, window, patch):
    return tensor[(..., *[slice((w - n) // 2, (w - n) // 2 + n) for w, n in zip(window, patch)])]


@pytest.mark.parametrize(("patch", "window"), [((6, 8), (10, 8)), ((4, 5, 6), (8, 7, 9))])
def test_without_change_the_centre_is_copied_bit_for_bit(make_batch, patch, window):
    batch = make_batch(window, b=3, c=2)
    batch.valid[0, 2] = False
    same = Spatial(patch, (1.0,) * len(patch), **OFF).apply(batch, params(3, len(patch)))
    assert torch.equal(same.image, centre(batch.image, window, patch))
    assert torch.equal(same.label, centre(batch.label, window, patch))
    assert torch.equal(same.valid, centre(batch.valid, window, patch))
    same.image.zero_()
    assert batch.image.abs().max() > 0  # a copy: what came is left as it was


@pytest.mark.parametrize("flip", [[True, False, False], [False, True, True], [True, True, True]])
def test_a_mirror_is_exact(make_batch, flip):
    batch = make_batch((8, 7, 6))
    batch.valid[:, 0] = False
    axes = [a - 3 for a in range(3) if flip[a]]
    spatial = Spatial((6, 5, 6), (1.0, 1.0, 1.0), **OFF)
    mirrored = spatial.apply(batch, params(2, 3, flip=[flip, [False] * 3]))
    for name in ("image", "label", "valid"):
        patch = centre(getattr(batch, name), (8, 7, 6), (6, 5, 6))
        assert torch.equal(getattr(mirrored, name)[0], patch[0].flip(axes))
        assert torch.equal(getattr(mirrored, name)[1], patch[1])


def test_a_mirror_across_the_body_exchanges_left_and_right(make_batch):
    # left (1) in columns 1-2, right (2) in columns 5-6, a midline structure (3): a symmetric body
    label = torch.zeros(1, 4, 8, dtype=torch.long)
    label[:, 1:3, 1:3], label[:, 1:3, 5:7], label[:, 0], label[:, 3, 0] = 1, 2, 3, IGNORE
    batch = replace(make_batch((4, 8), b=1), label=label)
    spatial = Spatial((4, 8), (1.0, 1.0), **OFF, lateral_axis=1, mirror_classes=(0, 2, 1, 3))
    mirrored = spatial.apply(batch, params(1, 2, flip=[[False, True]])).label
    expected = label.clone()
    expected[:, 3, 0], expected[:, 3, 7] = 0, IGNORE
    assert torch.equal(mirrored, expected)  # left is still where left belongs
    along = spatial.apply(batch, params(1, 2, flip=[[True, False]])).label
    assert torch.equal(along, label.flip(1))  # a flip along the body exchanges nothing
    plain = Spatial((4, 8), (1.0, 1.0), **OFF, lateral_axis=1)
    assert torch.equal(plain.apply(batch, params(1, 2, flip=[[False, True]])).label, label.flip(2))
    # half a turn is no mirror; half a turn with a flip is one, and passes the interpolation
    turned = spatial.apply(batch, params(1, 2, degrees=[[180.0]])).label
    assert torch.equal(turned, label.flip(1, 2))
    both = spatial.apply(batch, params(1, 2, degrees=[[180.0]], flip=[[False, True]])).label
    assert torch.equal(both, exchange(label.flip(1), (0, 2, 1, 3)))


def test_label_and_valid_follow_the_image(make_batch):
    # the image shows its own label, smoothly enough to be read back after interpolation
    coarse = torch.rand(2, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(coarse, size=(24, 24, 24), mode="trilinear")
    batch = replace(make_batch((24, 24, 24)), image=image, label=(image[:, 0] > 0.5).long())
    spatial = Spatial((16, 16, 16), (1.0, 1.5, 0.8))
    drawn = spatial.draw([np.random.default_rng([3, i]) for i in range(2)], batch.image.shape)
    drawn |= params(2, 3, degrees=[[20.0, -30.0, 10.0], [0, 0, 0]], scale=[0.8, 1.3], flip=[[True, False, True]] * 2)
    warped = spatial.apply(batch, drawn)
    clear = warped.valid & ((warped.image[:, 0] - 0.5).abs() > 0.05)  # not on the boundary itself
    assert clear.float().mean() > 0.6
    assert ((warped.image[:, 0] > 0.5).long() == warped.label)[clear].float().mean() > 0.999
    assert (warped.label[warped.valid] != IGNORE).all()
    assert set(warped.label.unique().tolist()) <= {IGNORE, 0, 1}


def test_outside_the_window_is_ignored_and_invalid(make_batch):
    batch = replace(make_batch((8, 8), b=1), image=torch.ones(1, 1, 8, 8), label=torch.ones(1, 8, 8, dtype=torch.long))
    wide = Spatial((8, 8), (1.0, 1.0)).apply(batch, params(1, 2, scale=[2.0]))
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[:, 2:6, 2:6] = True
    assert torch.equal(wide.valid, inside)
    assert torch.equal(wide.label == 1, inside)
    assert torch.equal(wide.label == IGNORE, ~inside)


@pytest.mark.parametrize("coarse", [0, 2])
def test_nothing_is_mixed_along_a_coarse_axis(make_batch, coarse):
    patch = [16, 16, 16]
    patch[coarse] = 4
    spacing = [1.0, 1.0, 1.0]
    spacing[coarse] = 6.0
    spatial = Spatial(
        tuple(patch),
        tuple(spacing),
        Rotation(p=1),
        Scale(p=1),
        Elastic(p=1, low=1, high=1),
        Mirror(p=0),
        window_limit=3,
    )
    window = spatial.window_shape
    assert window[coarse] == 4
    batch = make_batch(window, b=3)
    slices = torch.arange(4.0).view([4 if a == coarse else 1 for a in range(3)]).expand(window)
    batch = replace(batch, image=slices.expand(3, 1, *window).contiguous())
    drawn = spatial.draw([np.random.default_rng(i) for i in range(3)], batch.image.shape)
    assert drawn["degrees"].shape == (3, 1)
    warped = spatial.apply(batch, drawn)
    expected = torch.arange(4.0).view([4 if a == coarse else 1 for a in range(3)]).expand(patch)
    torch.testing.assert_close(warped.image[:, 0], expected.expand(3, *patch), atol=1e-4, rtol=0)
    assert warped.valid.all()


def test_the_window_covers_what_is_drawn(make_batch):
    spatial = Spatial((12, 14, 10), (1.0, 1.2, 0.9), Rotation(p=1), Scale(p=1), Elastic(p=1, high=2), window_limit=9)
    drawn = spatial.draw([np.random.default_rng(i) for i in range(6)], (6, 1, *spatial.window_shape))
    assert spatial.apply(make_batch(spatial.window_shape, b=6), drawn).valid.all()


def test_draws_stay_in_their_ranges_and_reach_them():
    spatial = Spatial(
        (8, 8, 8), (1.0,) * 3, Rotation(p=1, degrees=20), Scale(p=1), Elastic(p=1, low=1, high=2), Mirror(axes=[1])
    )
    drawn = spatial.draw([np.random.default_rng(i) for i in range(800)], (800, 1, 8, 8, 8))
    assert np.abs(drawn["degrees"]).max() <= 20
    assert drawn["degrees"].std(0) == pytest.approx(np.full(3, 20 / np.sqrt(3)), abs=0.7)
    assert 0.7 <= drawn["scale"].min() < 0.71
    assert 1.39 < drawn["scale"].max() <= 1.4
    assert drawn["scale"].mean() == pytest.approx(1.05, abs=0.03)
    assert drawn["flip"].mean(0) == pytest.approx([0, 0.5, 0], abs=0.06)
    assert drawn["displacement_cells"].shape == (800, 3, 7, 7, 7)
    peak = np.abs(drawn["displacement_cells"]).max((1, 2, 3, 4))
    assert 0.99 < peak.min() < 1.05
    assert 1.9 < peak.max() <= 2


@pytest.mark.parametrize(
    ("patch", "spacing", "degrees"),
    [
        ((64, 64), (1, 1), 180),
        ((64, 32), (1, 1), 15),
        ((64, 32), (1, 2), 180),  # elongated is meant physically
        ((64, 64, 64), (1, 1, 1), 30),
        ((16, 64, 64), (1, 1, 1), 180),
    ],
)
def test_largest_angle(patch, spacing, degrees):
    assert Spatial(patch, tuple(map(float, spacing))).degrees == degrees


def test_raising_one_probability_changes_nothing_else():
    often = Spatial((8, 8), (1.0, 1.0), rotation=Rotation(p=1), elastic=Elastic(p=0.5))
    seldom = Spatial((8, 8), (1.0, 1.0), rotation=Rotation(p=0))
    shape = (50, 1, 8, 8)
    one = often.draw([np.random.default_rng(i) for i in range(50)], shape)
    other = seldom.draw([np.random.default_rng(i) for i in range(50)], shape)
    np.testing.assert_array_equal(one["scale"], other["scale"])
    np.testing.assert_array_equal(one["flip"], other["flip"])
    assert "displacement_cells" not in other
    assert one["displacement_cells"].any((1, 2, 3)).mean() == pytest.approx(0.5, abs=0.25)


def test_half_precision_is_interpolated_in_float32(make_batch):
    batch = make_batch((12, 12))
    spatial, drawn = Spatial((10, 10), (1.0, 1.0)), params(2, 2, degrees=[[30.0], [0.0]])
    half = spatial.apply(replace(batch, image=batch.image.half()), drawn)
    assert half.image.dtype == torch.float16
    torch.testing.assert_close(half.image.float(), spatial.apply(batch, drawn).image, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_label_keeps_its_type(make_batch, dtype):
    batch = make_batch((12, 12))
    batch = replace(batch, label=batch.label.to(dtype))
    spatial = Spatial((10, 10), (1.0, 1.0), lateral_axis=0, mirror_classes=(0, 2, 1))
    warped = spatial.apply(batch, params(2, 2, degrees=[[30.0], [0.0]], flip=[[True, False]] * 2))
    assert warped.label.dtype == dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mirror": Mirror(axes=[0, 2])}, r"mirror axes \(0, 2\).*2 axes has \[0, 1\]"),
        ({"lateral_axis": 2}, "lateral axis 2"),
        ({"spacing": (1.0, 1.0, 1.0)}, "expected 2 or 3 of each"),
        ({"window_limit": 0.9}, "window_limit=0.9"),
    ],
)
def test_contradictory_facts_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Spatial(**({"patch_shape": (8, 8), "spacing": (1.0, 1.0)} | settings))


def test_settings_are_checked():
    with pytest.raises(InputError, match="at least 4"):
        Elastic(knots=3)
    with pytest.raises(InputError, match=r"transform\.scale: got low=1.5, high=1.4"):
        Scale(low=1.5)
    with pytest.raises(InputError, match=r"transform\.rotation: degrees=-5, expected an angle from 0 to 360"):
        Rotation(degrees=-5)


def test_windows_smaller_than_the_patch_are_refused(make_batch):
    with pytest.raises(InputError, match=r"got windows of \(8, 6\), expected at least the patch \(8, 8\)"):
        Spatial((8, 8), (1.0, 1.0)).apply(make_batch((8, 6)), params(2, 2))


@pytest.mark.parametrize("degrees", [17.0, -45.0, 90.0, 133.0])
def test_in_a_scene_of_oblong_cells_a_disc_stays_a_disc_where_it_belongs(make_batch, degrees):
    spacing_m, patch, window = np.array([10.0, 7.0]), (64, 64), (96, 96)
    metres = (np.indices(window) - 47.5) * spacing_m.reshape(2, 1, 1)
    at, radius = np.array([60.0, -90.0]), 80.0  # off the centre, to see where it goes
    far = np.hypot(metres[0] - at[0], metres[1] - at[1])
    batch = replace(
        make_batch(window, b=1),
        image=torch.from_numpy(np.clip((radius - far) / 20 + 0.5, 0, 1))[None, None].float(),
        label=torch.from_numpy(far < radius).long()[None],
    )
    spatial = Spatial(patch, tuple(spacing_m), rotation=Rotation(p=1, degrees_elongated=180))
    turned = spatial.apply(batch, params(1, 2, degrees=[[degrees]]))
    angle = np.radians(degrees)  # from down (rows) towards right (columns), as np.rot90
    goal = [at[0] * np.cos(angle) - at[1] * np.sin(angle), at[0] * np.sin(angle) + at[1] * np.cos(angle)]
    seen = (np.indices(patch) - 31.5) * spacing_m.reshape(2, 1, 1)
    far_then = np.hypot(seen[0] - goal[0], seen[1] - goal[1])
    oracle = np.clip((radius - far_then) / 20 + 0.5, 0, 1)
    known = turned.valid[0].numpy()
    assert known[far_then < 1.2 * radius].all()
    np.testing.assert_allclose(turned.image[0, 0].numpy()[known], oracle[known], atol=0.12)
    clear = known & (np.abs(far_then - radius) > 8)  # beside the boundary, by more than half a cell
    np.testing.assert_array_equal(turned.label[0].numpy()[clear], (far_then < radius)[clear])


def test_all_spatial_changes_are_one_interpolation(make_batch):
    # of noise, that a second interpolation would blur: scipy samples it once at the composed position
    batch = make_batch((60, 60), b=1)
    noise = np.random.default_rng(0).normal(size=(60, 60))
    batch = replace(batch, image=torch.from_numpy(noise)[None, None].float())
    spatial, spacing = Spatial((40, 40), (1.0, 0.7), elastic=Elastic(p=1)), np.array([1.0, 0.7])
    control = np.zeros((1, 2, 7, 7))
    control[0, 0], control[0, 1] = 1.3, -0.6  # equal control points: a shift
    drawn = params(1, 2, degrees=[[33.0]], scale=[1.1], flip=[[True, False]], displacement_cells=control)
    warped = spatial.apply(batch, drawn)
    cos, sin = np.cos(np.radians(33)), np.sin(np.radians(33))
    offset = (np.indices((40, 40)) - 19.5) * spacing.reshape(2, 1, 1)  # unflipped, scaled, turned back, shifted
    down, right = -1.1 * offset[0], 1.1 * offset[1]
    place = [(cos * down + sin * right) / 1.0 + 29.5 + 1.3, (cos * right - sin * down) / 0.7 + 29.5 - 0.6]
    known = warped.valid[0].numpy()
    assert known.mean() > 0.8
    oracle = map_coordinates(noise, place, order=1)
    np.testing.assert_allclose(warped.image[0, 0].numpy()[known], oracle[known], atol=2e-4)


@pytest.mark.parametrize(("outputs", "expected"), [(None, [True, True, False, True]), ((1, 0), [False, True])])
def test_a_mirror_across_the_body_exchanges_what_a_case_annotates(make_batch, outputs, expected):
    # two patches of a case that annotates the right class (2) and a midline structure (3), one of them mirrored
    own = [True, False, True, True] if outputs is None else [True, False]
    batch = replace(make_batch((4, 8), b=2), annotated=torch.tensor([own, own]))
    sides = {"lateral_axis": 1, "mirror_classes": (0, 2, 1, 3), "mirror_outputs": outputs}
    spatial = Spatial((4, 8), (1.0, 1.0), **OFF, **sides)
    drawn = params(2, 2, flip=[[False, True], [True, False]])
    assert spatial.apply(batch, drawn).annotated.tolist() == [expected, own]
    assert Spatial((4, 8), (1.0, 1.0), **OFF).apply(batch, drawn).annotated.tolist() == [own, own]
