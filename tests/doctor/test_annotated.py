"""What medseg-check says of partial labels."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from medseg.doctor.examine import examine, fast
from medseg.doctor.finding import Finding
from tests.tiny import AFFINE, save, write_nnunet


def written(root: Path, annotated: dict[str, Any], *, without: dict[str, list[int]]) -> NnunetDataset:
    """Three cases of two structures, some of whose values are taken out of the label files."""
    write_nnunet(root, n_cases=3)
    for name, values in without.items():
        path = root / f"labelsTr/{name}.nii.gz"
        label = np.asarray(nibabel.load(path).dataobj)
        save(path, np.where(np.isin(label, values), 0, label).astype(np.uint8), AFFINE)
    declared = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(declared | {"annotated_classes": annotated}))
    return NnunetDataset(root)


def own(findings: list[Finding]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(f.severity, f.cases, f.message) for f in findings if f.check == "annotated classes"]


def test_labels_that_fit_have_no_finding(tmp_path: Path) -> None:
    data = written(
        tmp_path / "d", {"c0": ["anterior"], "c1": ["posterior"], "c2": ["posterior"]},
        without={"c0": [2], "c1": [1], "c2": [1]},
    )  # fmt: skip
    assert own(examine(data)[1]) == []


def test_a_class_that_no_case_annotates_is_an_error_of_the_fast_part(tmp_path: Path) -> None:
    data = written(tmp_path / "d", {"c*": ["anterior"]}, without={})
    message = "class 'posterior' is annotated in none of 3 labelled cases"
    assert own(fast(data)) == [("error", (), message)]


def test_a_label_that_contradicts_its_declaration_is_named_with_its_file(tmp_path: Path) -> None:
    data = written(tmp_path / "d", {"c0": ["anterior"]}, without={"c0": [1]})
    contradiction, note = own(examine(data)[1])
    severity, cases, message = contradiction
    assert (severity, cases) == ("error", ("c0",))
    assert message.startswith(str(tmp_path / "d/labelsTr/c0.nii.gz: 450 cells of posterior, which the case does not"))
    assert note == ("note", ("c0",), "class 'anterior' is annotated in 1 cases, and in none of their labels")
