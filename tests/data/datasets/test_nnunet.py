import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.splits.folds import split
from medseg.errors import InputError

V2 = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1},
    "file_ending": ".nii.gz",
    "numTraining": 99,
}


def folder(root: Path, declared: Any, files: dict[str, list[str]]) -> Path:
    """A dataset whose files hold a volume of ones each."""
    for sub, names in files.items():
        (root / sub).mkdir(parents=True)
        for name in names:
            nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), root / sub / name)
    (root / "dataset.json").write_text(declared if isinstance(declared, str) else json.dumps(declared))
    return root


TRAIN = {"imagesTr": ["a_0000.nii.gz", "b_0000.nii.gz"], "labelsTr": ["b.nii.gz", "a.nii.gz"]}


def test_version_2(tmp_path: Path) -> None:
    dataset = NnunetDataset(folder(tmp_path / "Dataset001_Liver", V2, TRAIN | {"imagesTs": ["c_0000.nii.gz"]}))
    assert dataset.name == "Dataset001_Liver"
    assert [c.name for c in dataset.spec.channels] == ["CT"]
    assert dataset.normalisation == ("ct",)
    assert dataset.spec.labels.names == ("background", "liver")
    assert [(c.id, c.label and c.label.name, c.group) for c in dataset.cases()] == [
        ("a", "a.nii.gz", "a"), ("b", "b.nii.gz", "b"),
    ]  # fmt: skip
    assert [(c.id, c.label) for c in dataset.test_cases()] == [("c", None)]
    assert (dataset.read(dataset.cases()[0]).label > 0).sum() == 60


def test_version_1(tmp_path: Path) -> None:
    declared = {"modality": {"1": "T2", "0": "T1"}, "labels": {"0": "background", "2": "tumour", "1": "oedema"}}
    files = {"imagesTr": ["a_0000.nii.gz", "a_0001.nii.gz"], "labelsTr": ["a.nii.gz"]}
    dataset = NnunetDataset(folder(tmp_path / "d", declared, files))
    assert [c.name for c in dataset.spec.channels] == ["T1", "T2"]
    assert dataset.spec.labels.names == ("background", "oedema", "tumour")
    assert dataset.read(dataset.cases()[0]).image.shape == (2, 3, 4, 5)
    assert dataset.test_cases() == []


def test_regions_ignore_and_pairs(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    regions = NnunetDataset(folder(tmp_path / "r", V2 | {"labels": labels, "regions_class_order": [1, 2]}, TRAIN))
    assert [r.name for r in regions.spec.labels.regions] == ["whole", "core"]
    assert regions.spec.labels.ignore_values == (3,)
    sides = V2 | {"labels": {"background": 0, "left lung": 1, "right lung": 2}}
    paired = NnunetDataset(folder(tmp_path / "p", sides, TRAIN), pairs=[["left lung", "right lung"]], name="lungs")
    assert paired.spec.labels.pairs == ((1, 2),)
    assert paired.name == "lungs"


def test_test_labels_are_used_where_they_exist(tmp_path: Path) -> None:
    files = TRAIN | {"imagesTs": ["c_0000.nii.gz"], "labelsTs": ["c.nii.gz"]}
    dataset = NnunetDataset(folder(tmp_path / "d", V2, files))
    assert [c.label and c.label.parent.name for c in dataset.test_cases()] == ["labelsTs"]


def test_groups_and_reading_settings(tmp_path: Path) -> None:
    dataset = NnunetDataset(folder(tmp_path / "d", V2, TRAIN), groups=".", grid_tolerance=0.0)
    assert [c.group for c in dataset.cases()] == ["a", "b"]
    label = tmp_path / "d" / "labelsTr" / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.diag([1, 1, 1.001, 1])), label)
    with pytest.raises(InputError, match="allowed are 0"):
        dataset.read(dataset.cases()[0])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, r"dataset\.json: missing keys \['labels'\], found \[\]; add them"),
        ({"labels": {"background": 0, "a": 1}}, r"missing keys \['channel_names', 'file_ending'\], found \['labels'\]"),
        ("{oops", r"dataset\.json: is not valid JSON"),
        ([1], r"dataset\.json: holds a list, expected an object"),
        (V2 | {"channel_names": {"0": "CT", "2": "PET"}}, r"channels are .*'2': 'PET'.*without a gap"),
        (V2 | {"channel_names": {}}, r"channels are \{\}, expected"),
        (V2 | {"labels": {"background": 0, "a": "first"}}, r"labels are .*'first'.*expected class names with integer"),
        (V2 | {"labels": ["background", "a"]}, r"labels are \['background', 'a'\], expected class names"),
        ("[" * 100_000, r"dataset\.json: is not valid JSON"),
        (V2 | {"labels": {"background": 0, "a": float("inf")}}, r"labels are .*inf.*expected class names with integer"),
        (V2 | {"labels": {"background": 0, "a": 2**40}}, r"labels are .*expected class names with integer"),
        (V2 | {"labels": {"background": [], "a": 1}}, r"labels are .*expected class names with integer"),
        (V2 | {"labels": {"0": ["background"], "1": {}}}, r"labels are .*expected class names with integer"),
        (V2 | {"labels": {}}, r"labels are \{\}, expected class names with integer"),
        (V2 | {"regions_class_order": [None]}, r"regions_class_order is \[None\], expected a list of integers"),
        (V2 | {"regions_class_order": 3}, r"regions_class_order is 3, expected a list of integers"),
        (V2 | {"file_ending": []}, r"file_ending is \[\], expected one of"),
        (V2 | {"file_ending": ".tif"}, r"file_ending is '\.tif', expected one of \[.*'\.nii\.gz'"),
    ],
)  # fmt: skip
def test_unsound_declarations_are_refused(tmp_path: Path, declared: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NnunetDataset(folder(tmp_path / "d", declared, TRAIN))


def test_missing_declaration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json: no such file; set data\.root to a folder"):
        NnunetDataset(tmp_path)


def test_empty_folder_and_orphans_are_refused(tmp_path: Path) -> None:
    empty = NnunetDataset(folder(tmp_path / "e", V2, {"imagesTr": [], "labelsTr": []}))
    with pytest.raises(InputError, match=r"labelsTr: no label file among its 0 entries"):
        empty.cases()
    orphan = NnunetDataset(folder(tmp_path / "o", V2, TRAIN | {"labelsTr": ["a.nii.gz"]}))
    with pytest.raises(InputError, match=r"1 image\(s\) in .*imagesTr without a label in .*labelsTr: b;"):
        orphan.cases()


@pytest.mark.real
def test_hippocampus(real_data: Path) -> None:
    dataset = NnunetDataset(real_data / "hippocampus")
    cases = dataset.cases()
    train, val = split(cases, 0)
    assert (len(cases), len(train), len(val)) == (200, 160, 40)
    assert dataset.spec.labels.names == ("background", "anterior", "posterior")
    for case in cases[::25]:
        sample = dataset.read(case)
        assert sample.grid.spacing == pytest.approx((1, 1, 1), abs=1e-5)
        assert 2000 < (sample.label > 0).sum() < 5000
