from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from tests.doctor.sets import edit_scene, found, label_of, named, relabel, scenes
from tests.tiny import AFFINE


def test_sform_and_qform_that_differ_are_a_warning(volume_root: Path) -> None:
    path = volume_root / "imagesTr/c1_0000.nii.gz"
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE @ np.diag([-1.0, 1, 1, 1]), code=1)
    nib.save(image, path)
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("sform and qform", "warning", ("c1",))]
    assert "differ by up to 30 voxels" in finding.message


def test_file_without_any_form_is_a_warning(volume_root: Path) -> None:
    for path in (volume_root / "imagesTr/c1_0000.nii.gz", volume_root / "labelsTr/c1.nii.gz"):
        image = nib.Nifti1Image(label_of(path), None)
        image.header["sform_code"] = image.header["qform_code"] = 0
        nib.save(image, path)
    findings = found(NnunetDataset(volume_root))
    assert {(f.check, f.cases) for f in findings} == {("sform and qform", ("c1",))}


def test_skewed_axes_are_a_warning_with_their_angle(volume_root: Path) -> None:
    skew = np.eye(4)
    skew[0, 1] = np.tan(np.deg2rad(30))
    for path in (volume_root / "imagesTr/c1_0000.nii.gz", volume_root / "labelsTr/c1.nii.gz"):
        relabel(path, label_of(path), skew @ AFFINE)
    findings = [f for f in found(NnunetDataset(volume_root)) if f.check == "skewed axes"]
    assert named(findings) == [("skewed axes", "warning", ("c1",))]
    assert "meet at 60 degrees" in findings[0].message


def test_scene_that_lost_its_crs_is_a_warning(scene_root: Path) -> None:
    for folder in ("images", "masks"):
        edit_scene(scene_root / folder / "s4.tif", crs=None)
    assert ("georeference", "warning", ("s4",)) in named(found(scenes(scene_root)))
