"""A training on cases that annotate one structure each, judged on cases of either kind."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet

KEPT = {"c0": "anterior", "c1": "posterior", "c2": "anterior", "c3": "posterior"}
VALUES = {"anterior": 1, "posterior": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases, of which the last one annotates both structures."""
    folder = write_nnunet(tmp_path_factory.mktemp("data") / "d")
    for case, name in KEPT.items():
        path = folder / f"labelsTr/{case}.nii.gz"
        image = nibabel.load(path)
        label = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(label == VALUES[name], label, 0), image.affine), path)
    declared = json.loads((folder / "dataset.json").read_text())
    annotated = {case: [name] for case, name in KEPT.items()}
    (folder / "dataset.json").write_text(json.dumps(declared | {"annotated_classes": annotated}))
    return folder


def trained(root: Path, folder: Path, *words: str) -> dict[str, Any]:
    where = [f"data.root={root}", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
    train(compose("train", [*SMALL, "split.val_cases=[c0,c3]", *where, *words]))
    return json.loads((folder / "run/metrics.json").read_text(encoding="utf-8"))


def test_it_trains_and_each_case_is_scored_for_what_it_annotates(root: Path, tmp_path: Path) -> None:
    result = trained(root, tmp_path, "loss=dice_ce", "loss/term=[dice,cross_entropy,exclusion]")
    assert {(row["case"], row["class"]) for row in result["cases"]} == {("c0", "anterior"), ("c3", "posterior")}
    entered = {name: by["dice"]["cases"] for name, by in result["classes"].items()}
    assert entered == {"anterior": 1, "posterior": 1}
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert losses
    assert np.isfinite(losses).all()
    assert any(row["train/exclusion"] for row in rows)


def test_training_cases_that_all_lack_a_class_are_refused(root: Path, tmp_path: Path) -> None:
    message = (
        r"^data.annotated: none of the 2 training cases annotates posterior, expected one at least for each class; add"
    )
    with pytest.raises(InputError, match=message):
        trained(root, tmp_path, "split.val_cases=[c1,c3,c4]")
