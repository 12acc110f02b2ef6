"""Which cases train, validate and are judged."""

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.factory import split
from medseg.factory.dataset import build_dataset
from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet, write_planar


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cfg = compose("train", ["data=rasters", f"data.root={tmp_path}/raw", *OWN])
    return write_planar(tmp_path / "raw", cfg, n_cases=6)


OWN = ["data.channels=[B4,B8]", "data.labels={background: 0, road: 1}"]


def parts(root: Path, *overrides: str) -> tuple[list[str], list[str], list[str]]:
    """Ids of training, validation and judged cases."""
    cfg = compose("train", ["data=rasters", f"data.root={root}", *OWN, *overrides])
    source = build_dataset(cfg)
    train, val = split.halves(cfg.split, source)
    ids: Any = tuple([case.id for case in cases] for cases in (train, val, split.judged(cfg.split, source)))
    return ids


def test_cases_are_held_out_by_name(root: Path) -> None:
    train, val, judged = parts(root, "split.val_cases=[case_5]", "split.test_cases=['case_[01]']")
    assert (train, val, judged) == (["case_2", "case_3", "case_4"], ["case_5"], ["case_0", "case_1"])
    with pytest.raises(InputError, match=r"split\.val_cases: no case is named 'town', cases are case_0, case_1"):
        parts(root, "split.val_cases=[town]")
    with pytest.raises(InputError, match=r"none is left to train"):
        parts(root, "split.val_cases=['*']")


def test_a_list_splits_and_holds_out(root: Path) -> None:
    rows = [f"case_{i},{part}" for i, part in enumerate(["train", "train", "train", "val", "test", "test"])]
    (root / "split.csv").write_text("\n".join(["case,split", *rows]))
    found = parts(root, f"split.file={root}/split.csv")
    assert found == (["case_0", "case_1", "case_2"], ["case_3"], ["case_4", "case_5"])


def test_runs_keep_neighbours_together_and_apart(root: Path) -> None:
    train, val, _ = parts(root, "split.runs=2", "split.n_folds=3", "split.gap=1")
    first, second = sorted(int(name[-1]) for name in val)
    assert second == first + 1
    assert not {first - 1, first, second, second + 1} & {int(name[-1]) for name in train}


def test_blocks_split_within_scenes(root: Path) -> None:
    train, val, _ = parts(root, "split.blocks={size: 12, buffer: 2}")
    assert {name.partition("@")[0] for name in train} == {f"case_{i}" for i in range(6)}
    assert not set(train) & set(val)


def test_what_validation_shares_with_training_is_told(root: Path) -> None:
    formats.write_image(
        root / "images/case_1.tif",
        formats.open(root / "images/case_0.tif").read(),
        formats.open(root / "images/case_0.tif").grid,
        names=["B4", "B8"],
    )
    cfg = compose("train", ["data=rasters", f"data.root={root}", *OWN, "split.val_cases=[case_0]"])
    source = build_dataset(cfg)
    lines = split.leakage(*split.halves(cfg.split, source), source)
    assert any("case_0" in line and "case_1" in line for line in lines)
    assert all(len(line.splitlines()) == 1 for line in lines)


def test_leakage_of_fold_all_is_not_told(root: Path) -> None:
    cfg = compose("train", ["data=rasters", f"data.root={root}", *OWN, "split.fold=all"])
    source = build_dataset(cfg)
    train, val = split.halves(cfg.split, source)
    assert train == val
    assert split.leakage(train, val, source) == []


def nnunet(root: Path, *overrides: str) -> Any:
    places = [f"data.root={root}", f"cache_dir={root.parent}/cache", f"run_dir={root.parent}/run"]
    return compose("train", [*SMALL, *places, *overrides])


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_a_training_warns_of_a_group_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_nnunet(tmp_path / "raw")
    train(nnunet(root, "data.groups='(c).'", "split.val_cases=[c0]", "test=false"))
    assert warned(capsys) == ["warning: group c is in training (case c1) and in validation (case c0)"]


def test_a_training_warns_of_copied_files_in_validation_and_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_nnunet(tmp_path / "raw")
    for part in ("images", "labels"):
        (root / f"{part}Ts").mkdir()
    shutil.copy(root / "imagesTr/c1_0000.nii.gz", root / "imagesTr/c0_0000.nii.gz")
    shutil.copy(root / "imagesTr/c2_0000.nii.gz", root / "imagesTs/t0_0000.nii.gz")
    shutil.copy(root / "labelsTr/c2.nii.gz", root / "labelsTs/t0.nii.gz")
    train(nnunet(root, "split.val_cases=[c0]"))
    assert warned(capsys) == [
        "warning: validation case c0 has the same image files as training case c1",
        "warning: test case t0 has the same image files as training case c2",
    ]


def test_copies_in_another_file_are_found_and_their_cells_are_read_once(tmp_path: Path) -> None:
    """The same volume, compressed anew, with another origin; other volumes have its shape, too."""
    root = write_nnunet(tmp_path / "raw")
    copied = nib.load(root / "imagesTr/c1_0000.nii.gz")
    affine = copied.affine.copy()
    affine[:3, 3] += 7
    for folder in ("imagesTr/c0_0000", "labelsTr/c0"):
        source = nib.load(root / f"{folder.replace('c0', 'c1')}.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(source.dataobj), affine), root / f"{folder}.nii.gz")
    cfg = nnunet(root, "split.val_cases=[c0]")
    source, digests = build_dataset(cfg), {}
    sides = split.halves(cfg.split, source)
    lines = ["validation case c0 has the same cells as training case c1"]
    assert split.leakage(*sides, source, digests=digests) == lines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "cells_digest", lambda reader: pytest.fail("read again"))
        assert split.leakage(*sides, source, digests=digests) == lines


def test_folds_are_balanced_over_what_split_stratify_names(tmp_path: Path) -> None:
    """Of six volumes the first two lack a class: with three folds, not both in one."""
    root = write_nnunet(tmp_path / "raw", n_cases=6)
    for name in ("c0", "c1"):
        label = nib.load(root / f"labelsTr/{name}.nii.gz")
        cells = np.asarray(label.dataobj) % 2
        nib.save(nib.Nifti1Image(cells.astype(np.uint8), label.affine), root / f"labelsTr/{name}.nii.gz")
    held = [halves(nnunet(root, "split.n_folds=3", "split.stratify=classes", f"split.fold={k}"))[1] for k in range(3)]
    assert sorted(case for val in held for case in val) == [f"c{i}" for i in range(6)]
    assert sorted(len({"c0", "c1"} & set(val)) for val in held) == [0, 1, 1]
    by_name = [
        halves(nnunet(root, "split.n_folds=2", "split.stratify='c[0-2]|'", f"split.fold={k}"))[1] for k in (0, 1)
    ]
    assert all(len({"c0", "c1", "c2"} & set(val)) in (1, 2) for val in by_name)
    (root / "folds.csv").write_text("case,split\nc0,val\nc1,train\n")
    with pytest.raises(InputError, match=r"split.stratify=size: the folds are those of split.file"):
        halves(nnunet(root, "split.stratify=size", f"split.file={root}/folds.csv"))


def halves(cfg: Any) -> tuple[list[str], list[str]]:
    train_cases, val = split.halves(cfg.split, build_dataset(cfg))
    return [case.id for case in train_cases], [case.id for case in val]


def test_fewer_groups_than_folds_give_as_many_folds_unless_a_number_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_nnunet(tmp_path / "raw", n_cases=3)
    cfg = nnunet(root)
    train_cases, val = split.halves(cfg.split, build_dataset(cfg))
    assert (len(train_cases), len(val)) == (2, 1)
    assert "note: 3 folds instead of 5: there are 3 groups of cases" in capsys.readouterr().err
    cfg = nnunet(root, "split.n_folds=5")
    with pytest.raises(InputError, match=r"5 folds of 3 group\(s\) of cases: expected 2 to 3 folds"):
        split.halves(cfg.split, build_dataset(cfg))


def test_each_part_has_so_many_cases_at_most(root: Path) -> None:
    names = ["split.val_cases=['case_[345]']", "split.test_cases=['case_[01]']"]
    cfg = compose("train", ["data=rasters", f"data.root={root}", *OWN, *names, "split.most_cases=1"])
    source = build_dataset(cfg)
    train, val = split.labelled_halves(cfg.split, source)
    found = [[case.id for case in part] for part in (train, val, split.judged(cfg.split, source))]
    assert found == [["case_2"], ["case_3"], ["case_0"]]
    train, val = split.unlabelled(cfg.split, source)
    assert [[case.id for case in part] for part in (train, val)] == [["case_2"], ["case_3"]]
