import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import formats
from medseg.data.dataset import Dataset
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from medseg.doctor.fix import write_fixed
from medseg.errors import InputError
from tests.doctor.sets import found, label_of, relabel, scenes
from tests.tiny import AFFINE


def digests(root: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def fixed(source: Dataset, root: Path, target: Path) -> Path:
    before = digests(root)
    survey, findings = examine(source)
    copy = write_fixed(source, survey, findings, target)
    assert digests(root) == before
    return copy


def test_volumes_are_clean_after_the_fix(volume_root: Path, tmp_path: Path) -> None:
    labels = {n: label_of(volume_root / f"labelsTr/c{n}.nii.gz") for n in range(6)}
    relabel(volume_root / "labelsTr/c0.nii.gz", labels[0].astype(np.float32) + np.float32(1e-4))
    relabel(volume_root / "labelsTr/c1.nii.gz", labels[1].transpose(1, 0, 2), AFFINE[:, [1, 0, 2, 3]])
    jittered = AFFINE.copy()
    jittered[0, 3] += 0.1
    relabel(volume_root / "labelsTr/c2.nii.gz", labels[2], jittered)
    bare = nib.Nifti1Image(labels[3], None)
    bare.header["sform_code"] = bare.header["qform_code"] = 0
    nib.save(bare, volume_root / "labelsTr/c3.nii.gz")
    (volume_root / "labelsTr/c4.nii.gz").unlink()
    two = nib.load(volume_root / "imagesTr/c5_0000.nii.gz")
    two = nib.Nifti1Image(np.asanyarray(two.dataobj), AFFINE)
    two.set_sform(AFFINE, code=1)
    two.set_qform(AFFINE @ np.diag([-1.0, 1, 1, 1]), code=1)
    nib.save(two, volume_root / "imagesTr/c5_0000.nii.gz")
    image = label_of(volume_root / "imagesTr/c5_0000.nii.gz")

    copy = fixed(NnunetDataset(volume_root), volume_root, tmp_path / "fixed")
    assert found(NnunetDataset(copy)) == []
    for number in (0, 1, 2, 3, 5):
        source = formats.open(copy / f"labelsTr/c{number}.nii.gz")
        np.testing.assert_array_equal(source.read()[0], labels[number])
        assert source.dtype == np.uint8
        assert source.grid.offset_from(formats.open(copy / f"imagesTr/c{number}_0000.nii.gz").grid) < 1e-4
    np.testing.assert_array_equal(label_of(copy / "imagesTr/c5_0000.nii.gz"), image)
    assert not (copy / "imagesTr/c4_0000.nii.gz").exists()
    assert json.loads((copy / "dataset.json").read_text(encoding="utf-8"))["numTraining"] == 6


def test_scenes_are_clean_after_the_fix(scene_root: Path, tmp_path: Path) -> None:
    mask = formats.open(scene_root / "masks/s1.tif")
    labelled = mask.read()[0]
    formats.write(scene_root / "masks/s1.tif", labelled * 255, mask.grid)
    image = formats.open(scene_root / "images/s2.tif")
    cells = image.read()
    cells[:, :4] = -9999
    formats.write_image(scene_root / "images/s2.tif", cells, image.grid, names=["B4", "B8"])
    (scene_root / "images/s3.tif").write_bytes(b"no image")

    copy = fixed(scenes(scene_root), scene_root, tmp_path / "fixed")
    assert found(scenes(copy)) == []
    np.testing.assert_array_equal(formats.open(copy / "masks/s1.tif").read()[0], labelled)
    values, known = formats.open(copy / "images/s2.tif").read_valid()
    np.testing.assert_array_equal(values, cells)
    assert known.sum() == 20 * 40
    assert sorted(p.name for p in (copy / "images").iterdir()) == ["s0.tif", "s1.tif", "s2.tif", "s4.tif", "s5.tif"]


def test_copy_is_refused_where_something_lies(volume_root: Path, tmp_path: Path) -> None:
    source = NnunetDataset(volume_root)
    survey, findings = examine(source)
    shutil.copytree(volume_root, tmp_path / "there")
    with pytest.raises(InputError, match="the copy needs an empty folder"):
        write_fixed(source, survey, findings, tmp_path / "there")
    with pytest.raises(InputError, match="is inside the dataset"):
        write_fixed(source, survey, findings, volume_root / "fixed")
