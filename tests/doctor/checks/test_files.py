from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.datasets.nnunet import NnunetDataset
from tests.doctor.sets import found, named, pictures, relabel, scenes


def test_broken_files_are_findings_and_the_others_are_examined(volume_root: Path) -> None:
    (volume_root / "imagesTr/c1_0000.nii.gz").write_bytes(b"")
    path = volume_root / "imagesTr/c2_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:3000])
    relabel(volume_root / "labelsTr/c4.nii.gz", np.zeros((16, 14, 12), np.uint8))
    findings = found(NnunetDataset(volume_root))
    assert {(f.check, f.cases) for f in findings} == {
        ("unreadable", ("c1",)), ("unreadable", ("c2",)), ("empty label", ("c4",)),
    }  # fmt: skip
    assert all("cannot be read" in f.message for f in findings if f.check == "unreadable")


def test_label_as_jpeg_is_an_error(picture_root: Path) -> None:
    path = picture_root / "masks/p1.png"
    Image.fromarray(np.array(Image.open(path))).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()
    assert ("lossy label", "error", ("p1",)) in named(found(pictures(picture_root)))


def test_what_no_check_knows_is_told_as_the_training_would(scene_root: Path) -> None:
    from tests.doctor.sets import edit_scene

    path = scene_root / "images/s1.tif"
    edit_scene(path)
    import rasterio

    with rasterio.open(path) as scene:
        cells, profile = scene.read(), {**scene.profile, "count": 1}
    path.unlink()
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(cells[:1])
    findings = [f for f in found(scenes(scene_root)) if f.check == "refused"]
    assert named(findings) == [("refused", "error", ("s1",))]
    assert "expected 2 ['B4', 'B8']" in findings[0].message
