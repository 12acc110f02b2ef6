from pathlib import Path

import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from tests.doctor.sets import found, label_of, named, relabel, write_volumes


def change(root: Path, **cells: object) -> None:
    path = root / "labelsTr/c4.nii.gz"
    label = label_of(path)
    for place, value in cells.values():  # type: ignore[misc]
        label[place] = value
    relabel(path, label)


def test_label_without_foreground_is_a_warning(volume_root: Path) -> None:
    change(volume_root, every=(slice(None), 0))
    assert named(found(NnunetDataset(volume_root))) == [("empty label", "warning", ("c4",))]


def test_tiny_structure_is_a_warning(tmp_path: Path) -> None:
    volume_root = write_volumes(tmp_path / "eight", n_cases=8)
    change(volume_root, left=(slice(8, 16), 0), dot=((12, 5, 5), 1))
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("label size", "warning", ("c4",))]
    assert "anterior of 1 is" in finding.message


def test_stray_piece_is_a_warning_with_its_place(volume_root: Path) -> None:
    change(volume_root, dot=((1, 1, 11), 1))
    (finding,) = found(NnunetDataset(volume_root))
    assert named([finding]) == [("label pieces", "warning", ("c4",))]
    assert "anterior in 2 pieces, one of 1 cell(s) is 8 cells from the largest" in finding.message


def test_class_that_comes_in_pieces_everywhere_is_silent(volume_root: Path) -> None:
    for path in (volume_root / "labelsTr").iterdir():
        label = label_of(path)
        label[0:2, 0:2, 10:12] = 1
        relabel(path, label)
    assert found(NnunetDataset(volume_root)) == []


def test_rare_class_is_a_note_with_the_key_that_draws_it(volume_root: Path) -> None:
    for path in (volume_root / "labelsTr").iterdir():
        label = label_of(path)
        label[label == 2] = 0
        label[2, 3, 4] = 2
        relabel(path, label)
    (finding,) = examine(NnunetDataset(volume_root))[1]
    assert (finding.severity, finding.check) == ("note", "balance")
    assert "sampling=class" in finding.fix
    assert np.isclose(6 / (6 * 16 * 14 * 12), 0.00037, rtol=0.01)
    assert "0.00037 of all cells (6)" in finding.message
