from pathlib import Path

import numpy as np

from medseg import doctor
from medseg.data.datasets.nnunet import NnunetDataset
from tests.doctor.sets import found, label_of, named, pictures, relabel, scenes


def test_sound_data_of_every_kind_is_silent(volume_root: Path, scene_root: Path, picture_root: Path) -> None:
    assert found(NnunetDataset(volume_root)) == []
    assert found(scenes(scene_root)) == []
    assert found(pictures(picture_root)) == []


def test_fast_part_reads_headers_only_and_finds_every_bad_case(volume_root: Path) -> None:
    (volume_root / "labelsTr/c0.nii.gz").unlink()
    (volume_root / "imagesTr/c1_0000.nii.gz").write_bytes(b"")
    relabel(volume_root / "labelsTr/c2.nii.gz", label_of(volume_root / "labelsTr/c2.nii.gz")[1:])
    relabel(volume_root / "labelsTr/c3.nii.gz", np.full((16, 14, 12), 9, np.uint8))  # no header tells
    assert named(doctor.fast(NnunetDataset(volume_root))) == [
        ("grid", "error", ("c2",)), ("orphan", "error", ("c0",)), ("unreadable", "error", ("c1",)),
    ]  # fmt: skip


def test_volume_beyond_the_memory_is_a_warning_with_a_spacing_that_fits(volume_root: Path) -> None:
    (finding, *_) = doctor.fast(NnunetDataset(volume_root), wishes={"ram_gb": 3e-5})
    assert finding.check == "memory"
    assert "16 x 14 x 12 voxels need about 8.6e-05 GB" in finding.message
    spacing = [float(v) for v in finding.fix.partition("[")[2].partition("]")[0].split(",")]
    assert min(spacing) > 1
