"""What the benchmark of partial labels writes and prints; nothing is trained."""

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np

from medseg.data.datasets.nnunet import NnunetDataset
from tests.prepared import script
from tests.tiny import write_nnunet

bench = script("bench_partial")


def test_halves_of_hippocampus_annotate_one_structure_each(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "raw", n_cases=6, channels=["MRI"])
    (fold,) = bench.folds("hippocampus", root, 2)
    assert (dict(fold.annotated), fold.val) == ({"c0": ("anterior",), "c2": ("posterior",)}, ("c1", "c3"))
    data = NnunetDataset(bench.write(root, tmp_path / "marginal", fold, "marginal", ["anterior", "posterior"]))
    cases = data.cases()
    assert [(case.id, case.annotated) for case in cases] == [
        ("c0", {"anterior"}), ("c1", None), ("c2", {"posterior"}), ("c3", None)
    ]  # fmt: skip
    assert [np.unique(data.read(case).label).tolist() for case in cases] == [[0, 1], [0, 1, 2], [0, 2], [0, 1, 2]]
    less = NnunetDataset(bench.write(root, tmp_path / "less", fold, "less", ["posterior"]))
    assert [(case.id, np.unique(less.read(case).label).tolist()) for case in less.cases()] == [
        ("c1", [0, 1]), ("c2", [0, 1]), ("c3", [0, 1])
    ]  # fmt: skip
    assert bench.parts_of(fold, "less") == [["anterior"], ["posterior"]]


def test_folds_of_brats_have_one_complete_case(tmp_path: Path) -> None:
    (tmp_path / "labelsTr").mkdir()
    for number in range(6):
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
        nibabel.save(image, tmp_path / f"labelsTr/p{number}.nii.gz")
    first, *others = bench.folds("brats", tmp_path, 0)
    assert first.val == ("p0", "p1")
    for fold in (first, *others):
        complete = [name for name, own in fold.annotated.items() if len(own) == 4]
        assert len(complete) == 1
        assert len(fold.annotated) == 4
    assert bench.parts_of(first, "less") == [["necrosis", "oedema", "non-enhancing", "enhancing"]]


def test_differences_are_paired_by_seed() -> None:
    args = argparse.Namespace(steps=5, seeds=[0, 1], cases=2, words=[], ways=["full", "less"])
    lines = [
        {"run": ["hippocampus", way, 0, seed, 5, 2, []], "dice": {"anterior": dice + seed / 10, "posterior": dice}}
        for way, dice in (("full", 0.8), ("less", 0.6))
        for seed in (0, 1)
    ]
    lines.append({"run": ["hippocampus", "full", 0, 0, 6, 2, []], "dice": {"anterior": 0.0, "posterior": 0.0}})
    table = bench.table(json.loads(json.dumps(lines)), args, "hippocampus").splitlines()
    assert table[2] == "| labels | anterior | posterior | mean | less `less` | less `full` |"
    assert table[4] == "| full | 0.850 | 0.800 | 0.825 | +0.200 (+0.200 to +0.200) |  |"
    assert table[5].startswith("| less | 0.650 | 0.600 | 0.625 |  | -0.200")
