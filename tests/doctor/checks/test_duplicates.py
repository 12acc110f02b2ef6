import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from medseg.doctor.checks.duplicates import places
from medseg.geometry.box import Box
from tests.doctor.sets import found, named, pictures, scene_grid, scenes


def test_case_under_two_names_is_one_finding(volume_root: Path) -> None:
    shutil.copy(volume_root / "imagesTr/c1_0000.nii.gz", volume_root / "imagesTr/x_0000.nii.gz")
    shutil.copy(volume_root / "labelsTr/c1.nii.gz", volume_root / "labelsTr/x.nii.gz")
    assert named(found(NnunetDataset(volume_root))) == [("duplicate", "warning", ("c1", "x"))]


def test_case_that_is_also_in_the_test_set_is_an_error(volume_root: Path) -> None:
    (volume_root / "imagesTs").mkdir()
    shutil.copy(volume_root / "imagesTr/c1_0000.nii.gz", volume_root / "imagesTs/t_0000.nii.gz")
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("duplicate", "error", ("c1", "t"))]
    assert "in the test set" in finding.message


def test_flipped_copy_is_found(picture_root: Path) -> None:
    for folder in ("images", "masks"):
        source = formats.open(picture_root / folder / "p1.png")
        flipped = np.flip(source.read(), -1).copy()
        formats.write_image(picture_root / folder / "x.png", flipped, source.grid)
    assert ("duplicate", "warning", ("p1", "x")) in named(found(pictures(picture_root)))


def test_label_of_another_case_is_a_warning(picture_root: Path) -> None:
    shutil.copy(picture_root / "masks/p1.png", picture_root / "masks/p3.png")
    findings = found(pictures(picture_root))
    assert [f.check for f in findings] == ["same label"]
    assert {"p1", "p3"} <= set(findings[0].cases)


def test_overlapping_scenes_are_one_finding_until_a_group_holds_them(scene_root: Path) -> None:
    for number in (6, 7):
        grid = scene_grid(0).crop(Box.at((0, 8 * (number - 5)), (24, 40)))
        image = np.random.default_rng(number).normal(140, 10, (2, 24, 40)).astype(np.float32)
        label = np.zeros((24, 40), np.uint8)
        label[10 : 13 + number % 3, number:] = 1
        formats.write_image(scene_root / f"images/s{number}.tif", image, grid, names=["B4", "B8"])
        formats.write(scene_root / f"masks/s{number}.tif", label, grid)
    survey, findings = examine(scenes(scene_root), contents=False)
    assert named(findings) == [("footprint", "warning", ("s0", "s6", "s7"))]
    assert "2 more such pairs" in findings[0].message
    together = tuple(replace(f, case=replace(f.case, group="one")) if f.id in "s0 s6 s7" else f for f in survey.cases)
    assert places(replace(survey, cases=together)) == []
