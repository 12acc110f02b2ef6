from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from tests.doctor.sets import edit_scene, found, label_of, named, pictures, relabel, scenes, write_volumes


def test_constant_channel_is_a_warning(volume_root: Path) -> None:
    relabel(volume_root / "imagesTr/c3_0000.nii.gz", np.full((16, 14, 12), 5, dtype=np.int16))
    assert named(found(NnunetDataset(volume_root))) == [("constant channel", "warning", ("c3",))]


def test_duplicated_channel_is_a_warning(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "two", channels=2)
    relabel(root / "imagesTr/c3_0001.nii.gz", label_of(root / "imagesTr/c3_0000.nii.gz"))
    findings = [f for f in found(NnunetDataset(root)) if f.check == "duplicated channel"]
    assert named(findings) == [("duplicated channel", "warning", ("c3",))]


def test_exchanged_channels_are_a_warning(picture_root: Path) -> None:
    path = picture_root / "images/p2.png"
    source = formats.open(path)
    formats.write_image(path, source.read()[[2, 1, 0]], source.grid)
    (finding,) = found(pictures(picture_root))
    assert named([finding]) == [("exchanged channels", "warning", ("p2",))]
    assert "channels R and B look exchanged" in finding.message


def test_nan_in_a_volume_is_an_error_and_in_a_scene_a_note(volume_root: Path, scene_root: Path) -> None:
    image = label_of(volume_root / "imagesTr/c3_0000.nii.gz")
    image[:2, 0, 0] = np.nan
    relabel(volume_root / "imagesTr/c3_0000.nii.gz", image)
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("NaN", "error", ("c3",))]
    assert finding.fix == "data.nonfinite=mask leaves these cells out"
    assert found(NnunetDataset(volume_root, nonfinite="mask")) == []

    with_nan(scene_root / "images/s3.tif")
    assert found(scenes(scene_root)) == []
    assert [f.check for f in examine(scenes(scene_root))[1]] == ["NaN"]


def with_nan(path: Path) -> None:
    source = formats.open(path)
    cells = source.read()
    cells[:, 0, :3] = np.nan
    formats.write_image(path, cells, source.grid, names=["B4", "B8"])


def test_untagged_nodata_names_the_key_until_it_is_tagged(scene_root: Path) -> None:
    path = scene_root / "images/s3.tif"
    source = formats.open(path)
    cells = source.read()
    cells[:, :4] = -9999
    formats.write_image(path, cells, source.grid, names=["B4", "B8"])
    (finding,) = found(scenes(scene_root))
    assert named([finding]) == [("untagged nodata", "warning", ("s3",))]
    assert finding.fix.startswith("data.nodata=-9999")
    assert "16.67% of channel B4 are -9999" in finding.message
    assert found(scenes(scene_root, nodata=-9999)) == []
    edit_scene(path, nodata=-9999)
    assert found(scenes(scene_root)) == []


def test_scene_without_any_data_is_an_error(scene_root: Path) -> None:
    path = scene_root / "images/s3.tif"
    formats.write_image(path, np.full((2, 24, 40), np.nan, np.float32), formats.open(path).grid, names=["B4", "B8"])
    assert ("no data", "error", ("s3",)) in named(found(scenes(scene_root)))
