import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.datasets.msd import MsdDataset
from medseg.errors import InputError

DECLARED = {
    "name": "BRATS",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w"},
    "labels": {"0": "background", "1": "oedema", "2": "tumour"},
    "numTraining": 7,
    "training": [
        {"image": "./imagesTr/BRATS_002.nii.gz", "label": "./labelsTr/BRATS_002.nii.gz"},
        {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"},
        {"image": "./imagesTr/._BRATS_001.nii.gz", "label": "./labelsTr/._BRATS_001.nii.gz"},
    ],
    "test": ["./imagesTs/BRATS_003.nii.gz", "./imagesTs/._BRATS_003.nii.gz"],
}


def task(root: Path, **changed: Any) -> Path:
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (root / sub).mkdir()
    image = np.stack([np.full((3, 4, 5), 10.0), np.full((3, 4, 5), 20.0)], axis=-1).astype(np.float32)
    label = np.full((3, 4, 5), 2, np.uint8)
    for name in ("imagesTr/BRATS_001", "imagesTr/BRATS_002", "imagesTs/BRATS_003"):
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / f"{name}.nii.gz")
    for name in ("BRATS_001", "BRATS_002"):
        nib.save(nib.Nifti1Image(label, np.eye(4)), root / "labelsTr" / f"{name}.nii.gz")
    (root / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"Mac OS X")
    (root / "dataset.json").write_text(json.dumps(DECLARED | changed))
    return root


def test_training_and_test_lists(tmp_path: Path) -> None:
    dataset = MsdDataset(task(tmp_path))
    assert [c.id for c in dataset.cases()] == ["BRATS_001", "BRATS_002"]
    assert [(c.id, c.label) for c in dataset.test_cases()] == [("BRATS_003", None)]
    assert dataset.spec.labels.names == ("background", "oedema", "tumour")
    assert dataset.normalisation == ("zscore", "zscore")
    assert dataset.name == tmp_path.name


def test_channels_are_the_last_axis(tmp_path: Path) -> None:
    dataset = MsdDataset(task(tmp_path))
    sample = dataset.read(dataset.cases()[0])
    assert sample.image.shape == (2, 3, 4, 5)
    assert [np.unique(c).tolist() for c in sample.image] == [[10], [20]]
    assert np.unique(sample.label).tolist() == [2]


def test_groups_and_pairs(tmp_path: Path) -> None:
    dataset = MsdDataset(task(tmp_path), groups="BRATS", pairs=[["oedema", "tumour"]])
    assert {c.group for c in dataset.cases()} == {"BRATS"}
    assert dataset.spec.labels.pairs == ((1, 2),)


def test_listed_files_must_exist(tmp_path: Path) -> None:
    root = task(tmp_path)
    (root / "labelsTr" / "BRATS_002.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"1 file\(s\) listed in .*dataset\.json that do not exist: labelsTr/BRATS_002"
    ):
        MsdDataset(root).cases()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": []}, r'"training" is an empty list'),
        ({"training": [{"image": "a.nii.gz"}]}, r'"training" must list \{"image": file, "label": file\}'),
        ({"training": None}, r'"training" must list'),
        ({"training": {"image": 1}}, r'"training" must list'),
        ({"training": [{"image": 3, "label": "b.nii.gz"}]}, r"lists '3', expected the path of a file below"),
        ({"training": [{"image": "/etc/passwd", "label": "b.nii.gz"}]}, r"lists '/etc/passwd', expected the path"),
        ({"training": [{"image": "../a.nii.gz", "label": "b.nii.gz"}]}, r"lists '\.\./a\.nii\.gz', expected the path"),
        ({"training": [{"image": "a\0", "label": "b.nii.gz"}]}, r"expected the path of a file below"),
        ({"training": [{"image": "", "label": "b.nii.gz"}]}, r"expected the path of a file below"),
        (
            {"training": [{"image": "a" * 300, "label": "b.nii.gz"}]},
            r"2 file\(s\) listed in .* that do not exist: aaaa",
        ),
        ({"training": DECLARED["training"][:1] * 2}, r"1 case\(s\) listed twice in .*: BRATS_002; list each once"),
    ],
)
def test_unsound_lists_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MsdDataset(task(tmp_path, **changed)).cases()


def test_missing_keys_are_listed(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "a"}}))
    with pytest.raises(InputError, match=r"dataset\.json: missing keys \['modality', 'training'\], found \['labels'\]"):
        MsdDataset(tmp_path)


@pytest.mark.parametrize("test", [3, None, [{"label": "a"}], {"a": 1}])
def test_an_unsound_test_list_is_refused(tmp_path: Path, test: Any) -> None:
    with pytest.raises(InputError, match=r'"test" must list files'):
        MsdDataset(task(tmp_path, test=test)).test_cases()
