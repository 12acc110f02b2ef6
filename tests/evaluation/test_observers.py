"""Label files scored against those of several observers."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app.compose import compose

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
READERS = ("anna", "bert", "carl")


def cube(start: int) -> np.ndarray:
    array = np.zeros((10, 8, 8), dtype=np.uint8)
    array[start : start + 4, 2:6, 2:6] = 1
    return array


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A prediction like bert's; anna's cube lies a voxel lower, carl's a voxel higher: Dice 3/4 and 1/2."""
    for case in ("p1", "p2"):
        save(tmp_path / f"predictions/{case}.nii.gz", cube(3))
        for number, reader in enumerate(READERS):
            save(tmp_path / f"{reader}/{case}.nii.gz", cube(2 + number))
    return tmp_path


def run(root: Path, *own: str, labels: str = "{anna: ROOT/anna, bert: ROOT/bert, carl: ROOT/carl}") -> dict[str, Any]:
    named = labels.replace("ROOT", str(root))
    words = [f"predictions={root}/predictions", f"labels={named}", f"output={root}/out", "metrics=[dice]", *own]
    return evaluate(compose("evaluate", words))


def test_scores_against_the_majority_each_observer_and_of_the_observers(root: Path) -> None:
    result = run(root)
    assert result["summary"]["dice"]["mean"] == 1  # the majority is bert's
    section = result["observers"]
    assert {name: means["dice"] for name, means in section["prediction"].items()} == {
        "anna": 0.75, "bert": 1.0, "carl": 0.75,
    }  # fmt: skip
    assert section["mean"]["dice"] == pytest.approx(2.5 / 3)
    assert section["agreement"]["dice"] == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert json.loads((root / "out/metrics.json").read_text())["observers"] == section
    page = (root / "out/report.html").read_text()
    assert "Scores against each observer" in page
    assert "Evaluation of predictions against anna and bert and carl" in page


def test_a_file_in_another_order_of_axes_is_brought_to_that_of_the_first(root: Path) -> None:
    whole = run(root)["observers"]
    turned = AFFINE[:, [2, 0, 1, 3]]
    save(root / "carl/p1.nii.gz", cube(4).transpose(2, 0, 1), turned)
    save(root / "predictions/p1.nii.gz", cube(3).transpose(2, 0, 1), turned)
    with pytest.raises(InputError, match="1 of 2 cases"):
        run(root)
    save(root / "carl/p1.nii.gz", cube(4))
    assert run(root)["observers"] == whole


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{anna: ROOT/anna}", r"got 1 observer\(s\), expected two or more, or labels=DIR"),
        ("{anna: ROOT/anna, bert: null}", r"labels=\{'bert': None\}: expected a folder for each observer"),
        ("{anna: ROOT/anna, bert: ROOT/none}", "none: no such folder"),
    ],
)
def test_labels_that_are_refused(root: Path, labels: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(root, labels=labels)


def test_cases_that_an_observer_lacks_are_left_out_on_demand(root: Path) -> None:
    (root / "carl/p2.nii.gz").unlink()
    with pytest.raises(InputError, match="1 predictions without label: p2"):
        run(root)
    assert [row["case"] for row in run(root, "missing=skip")["cases"]] == ["p1"]
