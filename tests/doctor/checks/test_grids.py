from pathlib import Path

import numpy as np
from affine import Affine

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.formats.georeference import transform_of
from tests.doctor.sets import edit_scene, found, label_of, named, relabel, scene_grid, scenes
from tests.tiny import AFFINE


def label(root: Path) -> Path:
    return root / "labelsTr/c2.nii.gz"


def test_label_with_permuted_axes_is_told_from_another_shape(volume_root: Path) -> None:
    cells = label_of(label(volume_root)).transpose(2, 0, 1)[::-1]
    flipped = AFFINE[:, [2, 0, 1, 3]] @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] += AFFINE[:3, 2] * 11
    relabel(label(volume_root), cells, flipped)
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("axes", "error", ("c2",))]
    assert finding.repairs[0].settings["axes"] == [1, 2, 0]
    assert finding.repairs[0].settings["flips"] == [False, False, True]


def test_label_of_another_shape_is_an_error(volume_root: Path) -> None:
    relabel(label(volume_root), label_of(label(volume_root))[1:])
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("grid", "error", ("c2",))]
    assert "shape (15, 14, 12), expected (16, 14, 12)" in finding.message


def test_label_with_exchanged_axes_and_an_unchanged_header_says_so(volume_root: Path) -> None:
    relabel(label(volume_root), label_of(label(volume_root)).transpose(1, 0, 2))
    (finding,) = found(NnunetDataset(volume_root))
    assert "its axes seem to be exchanged" in finding.message
    assert finding.repairs == ()


def test_rounded_direction_names_the_tolerance_that_accepts_it(volume_root: Path) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.005), -np.sin(0.005)], [np.sin(0.005), np.cos(0.005)]]
    relabel(label(volume_root), label_of(label(volume_root)), turn @ AFFINE)
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("direction", "error", ("c2",))]
    tolerance = float(finding.fix.split(",")[0].partition("=")[2])
    assert found(NnunetDataset(volume_root, grid_tolerance=tolerance)) == []


def test_label_at_another_place_is_left_to_a_person(volume_root: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 4
    relabel(label(volume_root), label_of(label(volume_root)), moved)
    (finding,) = found(NnunetDataset(volume_root))
    assert "displaced by up to 4 cells" in finding.message
    assert finding.repairs == ()


def test_mask_in_another_crs_is_an_error_with_its_key(scene_root: Path) -> None:
    edit_scene(scene_root / "masks/s1.tif", crs="EPSG:3857")
    (finding,) = found(scenes(scene_root))
    assert named([finding]) == [("grid", "error", ("s1",))]
    assert finding.fix == "data.other_crs=warp"
    assert found(scenes(scene_root, other_crs="warp")) == []


def test_mask_of_the_same_shape_some_cells_off_is_a_warning(scene_root: Path) -> None:
    moved = transform_of(scene_grid(1)) @ Affine.translation(4, 1)  # type: ignore[operator]
    edit_scene(scene_root / "masks/s1.tif", transform=moved)
    assert [f.check for f in found(scenes(scene_root))] == ["grid"]


def test_sound_grids_are_silent(volume_root: Path, scene_root: Path) -> None:
    assert found(NnunetDataset(volume_root)) == []
    assert found(scenes(scene_root)) == []
