from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.datasets.nnunet import NnunetDataset
from tests.doctor.sets import found, label_of, named, pictures, relabel, scenes


def set_label(root: Path, change: object) -> None:
    path = root / "labelsTr/c2.nii.gz"
    relabel(path, change(label_of(path)))  # type: ignore[operator]


def test_value_outside_the_table_is_shown_with_its_histogram(volume_root: Path) -> None:
    def paint(label: np.ndarray) -> np.ndarray:
        label[0, 0, :3] = 7
        return label

    set_label(volume_root, paint)
    (finding,) = found(NnunetDataset(volume_root), labels_in="dataset.json")
    assert named([finding]) == [("label values", "error", ("c2",))]
    assert "values 7: 3 (value: cells) are not in the label table" in finding.message
    assert finding.fix == 'in dataset.json: "labels": {"background": 0, "anterior": 1, "posterior": 2, "class_7": 7}'


def test_masks_of_0_and_255_give_the_table_that_fits(picture_root: Path) -> None:
    for path in (picture_root / "masks").iterdir():
        source = formats.open(path)
        formats.write(path, source.read()[0] * 255, source.grid)
    findings = found(pictures(picture_root))
    every = next(f for f in findings if len(f.cases) == 6)
    assert "6 of 6 cases" in every.message
    assert {f.fix.partition("data.labels=")[2] for f in findings if not f.cases} == {"{background: 0, road: 255}'"}


def test_one_mask_of_0_and_255_is_remapped_by_fix(scene_root: Path) -> None:
    path = scene_root / "masks/s2.tif"
    source = formats.open(path)
    formats.write(path, source.read()[0] * 255, source.grid)
    (finding,) = found(scenes(scene_root))
    assert named([finding]) == [("label values", "error", ("s2",))]
    assert finding.repairs[0].settings == {"values": {"255": 1}}


def test_floats_near_integers_are_rounded_by_fix(volume_root: Path) -> None:
    set_label(volume_root, lambda label: label.astype(np.float32) + np.float32(1e-4))
    (finding,) = found(NnunetDataset(volume_root))
    assert [r.kind for r in finding.repairs] == ["round"]


def test_interpolated_label_is_left_to_a_person(volume_root: Path) -> None:
    set_label(volume_root, lambda label: label.astype(np.float32) * np.float32(0.7))
    (finding,) = found(NnunetDataset(volume_root))
    assert "as after a linear interpolation" in finding.message
    assert finding.repairs == ()


def test_nan_in_a_label_is_an_error(volume_root: Path) -> None:
    def paint(label: np.ndarray) -> np.ndarray:
        floats = label.astype(np.float32)
        floats[0, 0, 0] = np.nan
        return floats

    set_label(volume_root, paint)
    assert "1 NaN or infinite cell(s) in a label" in found(NnunetDataset(volume_root))[0].message


def test_class_that_no_case_has_is_a_warning(volume_root: Path) -> None:
    for path in (volume_root / "labelsTr").iterdir():
        relabel(path, np.minimum(label_of(path), 1))
    (finding,) = found(NnunetDataset(volume_root))
    assert "class 'posterior' (value [2]) is in none of 6 labels" in finding.message
