from pathlib import Path

import pytest

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor.listing import listed
from medseg.errors import InputError
from tests.doctor.sets import named, scenes, volumes, write_volumes


def test_orphans_are_findings_and_the_pairs_are_kept(volume_root: Path) -> None:
    (volume_root / "labelsTr/c1.nii.gz").unlink()
    (volume_root / "imagesTr/c3_0000.nii.gz").unlink()
    cases, tests, findings = listed(NnunetDataset(volume_root))
    assert [c.id for c in cases] == ["c0", "c2", "c4", "c5"]
    assert tests == []
    assert named(findings) == [("orphan", "error", ("c1",)), ("orphan", "error", ("c3",))]


def test_orphan_with_a_near_name_is_offered_it(scene_root: Path) -> None:
    (scene_root / "masks/s1.tif").rename(scene_root / "masks/scene1.tif")
    (scene_root / "images/s1.tif").rename(scene_root / "images/Scene1.tif")
    _, _, findings = listed(scenes(scene_root))
    assert sorted(f.fix.partition(",")[0] for f in findings) == [
        "rename its file to Scene1", "rename its file to scene1",
    ]  # fmt: skip


def test_case_that_lacks_a_channel_is_left_out(tmp_path: Path) -> None:
    source = volumes(tmp_path / "two", channels=2)
    (source.root / "imagesTr/c1_0001.nii.gz").unlink()
    cases, _, findings = listed(source)
    assert "c1" not in [c.id for c in cases]
    assert named(findings) == [("orphan", "error", ("c1",))]


def test_folder_that_is_missing_is_bad_input(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "set")
    for path in (root / "imagesTr").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="imagesTr: no image among its 0 entries"):
        listed(NnunetDataset(root))
