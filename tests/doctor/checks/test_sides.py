from pathlib import Path

import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor import examine
from tests.doctor.sets import found, label_of, named, relabel, write_volumes

LATERAL = {"background": 0, "left kidney": 1, "right kidney": 2}
PAIR = [["left kidney", "right kidney"]]


def test_lateral_names_that_are_said_to_be_no_pair_give_the_key(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "kidneys", labels=LATERAL)
    (finding,) = found(NnunetDataset(root, pairs=[]))
    assert named([finding]) == [("sides", "warning", ())]
    assert finding.fix.startswith("'data.pairs=[[left kidney, right kidney]]'")
    assert found(NnunetDataset(root, pairs=PAIR)) == []
    assert found(NnunetDataset(root)) == [], "found by their names"


def test_a_side_without_a_partner_is_a_note(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "kidney", labels={"background": 0, "left kidney": 1, "liver": 2})
    (finding,) = [f for f in examine(NnunetDataset(root))[1] if f.check == "sides"]
    assert named([finding]) == [("sides", "note", ())]
    assert "left kidney: of one side" in finding.message


def test_case_with_left_on_the_right_is_a_warning(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "kidneys", labels=LATERAL)
    path = root / "labelsTr/c3.nii.gz"
    relabel(path, np.array([0, 2, 1], dtype=np.uint8)[label_of(path)])
    assert named(found(NnunetDataset(root, pairs=PAIR))) == [("sides", "warning", ("c3",))]


def test_sides_swapped_in_every_case_are_one_finding(tmp_path: Path) -> None:
    swapped = {"background": 0, "right kidney": 1, "left kidney": 2}
    root = write_volumes(tmp_path / "kidneys", labels=swapped)
    (finding,) = found(NnunetDataset(root, pairs=PAIR))
    assert finding.cases == ("c0", "c1", "c2", "c3", "c4", "c5")
    assert "in 6 of 6 cases" in finding.message
