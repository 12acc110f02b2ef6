import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medseg.data.annotated import check_all_annotated, with_annotated
from medseg.data.case import Case
from medseg.data.datamodule import DataModule
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.datasets.volumes import VolumesDataset
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.data.sampling.case_samplers import Sampling
from medseg.data.sampling.collate import collate_windows
from medseg.data.sampling.patch_dataset import PatchDataset
from medseg.data.store.prepare import PrepareCase
from medseg.data.store.stored_case import StoredCase
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.labels.annotated import annotated_outputs, check_label, unexpected_classes, without_unknown
from tests.data.sampling.test_patch_dataset import Scene
from tests.tiny import LABELS, save, write_nnunet

TABLE = LabelTable.declare(LABELS)
NESTED = LabelTable.declare({"background": 0, "whole": [1, 2], "core": [2]}, regions_class_order=[1, 2])
PLAIN = Preprocess((1.0, 1.0, 1.0), (Normalisation("zscore"),))
BY_NAME = {"a_*": ["anterior"], "b_*": ["background", "posterior"]}


def cases(*names: str) -> list[Case]:
    return [Case(name, (Path("images") / name,), Path("masks") / name, name) for name in names]


def annotated(listed: list[Case]) -> dict[str, list[str] | None]:
    return {case.id: None if case.annotated is None else sorted(case.annotated) for case in listed}


def test_patterns_name_the_classes_of_cases_and_others_annotate_all():
    listed = with_annotated(cases("a_1", "b_1", "c_1"), BY_NAME, TABLE)
    assert annotated(listed) == {"a_1": ["anterior"], "b_1": ["posterior"], "c_1": None}


def test_a_pattern_matches_a_folder_of_labels_too():
    (case,) = with_annotated(cases("a_1"), {"masks": ["posterior"]}, TABLE)
    assert case.annotated == {"posterior"}


def test_a_case_that_annotates_every_class_is_complete():
    assert with_annotated(cases("a_1"), {"a_*": ["posterior", "anterior"]}, TABLE)[0].annotated is None


def test_a_case_without_a_label_annotates_nothing():
    bare = [Case("a_1", (Path("a"),), None, "a_1")]
    assert with_annotated(bare, BY_NAME, TABLE) == bare


@pytest.mark.parametrize(
    "text", ["case,classes\na_1,anterior\nb_1,anterior; posterior\n", "case,anterior,posterior\na_1,1,0\nb_1,1,1\n"]
)
def test_a_table_lists_classes_or_ticks_them(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    listed = with_annotated(cases("a_1", "b_1"), str(tmp_path / "t.csv"), TABLE)
    assert annotated(listed) == {"a_1": ["anterior"], "b_1": None}


def test_regions_are_named_like_classes():
    (case,) = with_annotated(cases("a_1"), {"a_*": ["whole"]}, NESTED)
    assert annotated_outputs(NESTED, case.annotated).tolist() == [True, False]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"a_*": ["liver"]}, "case a_1: annotates liver, expected names among"),
        ({"a_*": ["background"]}, "case a_1: annotates no class"),
        ({"a_*": "anterior"}, "expected lists of class names by patterns"),
        ({"x_*": ["anterior"]}, "no case or folder is named 'x_\\*'"),
        ({"a_*": ["anterior"], "*_1": ["posterior"]}, "matches 'a_\\*', '\\*_1', which name different classes"),
        ("annotated.txt", "expected a .csv file"),
    ],
)
def test_a_wrong_declaration_is_one_line(setting, message):
    with pytest.raises(InputError, match=message):
        with_annotated(cases("a_1"), setting, TABLE, further=list)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,classes\na_1,anterior\n", "1 labelled case.s. that data.annotated=.* does not list: b_1"),
        ("case,anterior\na_1,yes\nb_1,1\n", "case a_1: got anterior='yes', expected a column 'classes', or 0 and 1"),
        ("case\na_1\nb_1\n", "got no further column"),
        (
            "case,classes\na_1,anterior\nb_1,anterior\nc_1,posterior\n",
            "1 row.s. of no case in data.annotated=.*: c_1; ",
        ),
        ("case,classes\na_1,anterior\nb_1,anterior\na_1,posterior\n", "1 case.s. with several rows in .*: a_1; keep"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        with_annotated(cases("a_1", "b_1"), str(tmp_path / "t.csv"), TABLE, further=list)


def test_rows_of_a_table_may_be_of_test_cases(tmp_path):
    (tmp_path / "t.csv").write_text("case,classes\na_1,anterior\nt_1,posterior\n")
    listed = with_annotated(cases("a_1"), str(tmp_path / "t.csv"), TABLE, further=lambda: cases("t_1"))
    assert annotated(listed) == {"a_1": ["anterior"]}
    assert annotated(with_annotated(cases("t_1"), str(tmp_path / "t.csv"), TABLE)) == {"t_1": ["posterior"]}


def test_a_class_that_no_case_annotates_is_refused():
    partial = with_annotated(cases("a_1"), BY_NAME, TABLE)
    with pytest.raises(InputError, match="none of the 1 training cases annotates posterior"):
        check_all_annotated(partial, TABLE)
    check_all_annotated([*partial, *with_annotated(cases("b_1"), BY_NAME, TABLE)], TABLE)
    check_all_annotated([*partial, *cases("c_1")], TABLE)


def test_dataset_json_declares_it_and_the_setting_replaces_that(tmp_path):
    root = write_nnunet(tmp_path / "d", n_cases=2)
    file = root / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotated_classes": {"c0": ["anterior"]}}))
    assert annotated(NnunetDataset(root).cases()) == {"c0": ["anterior"], "c1": None}
    replaced = NnunetDataset(root, annotated={"c1": ["posterior"]}).cases()
    assert annotated(replaced) == {"c0": None, "c1": ["posterior"]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotated_classes": {"c0": ["liver"]}}))
    with pytest.raises(InputError, match=r"dataset.json: annotated_classes: case c0: annotates liver"):
        NnunetDataset(root).cases()


def test_a_label_that_holds_a_class_which_its_case_does_not_annotate_is_refused_with_the_file(tmp_path):
    root = write_nnunet(tmp_path / "d", n_cases=1)
    data = NnunetDataset(root, annotated={"c0": ["anterior"]})
    for read in (data.read, lambda case: data.open(case).read_label()):
        with pytest.raises(
            InputError, match=r"labelsTr/c0.nii.gz: has \d+ cells of posterior, which the case does not"
        ):
            read(data.cases()[0])


def test_a_class_of_an_annotated_region_may_stand_in_a_label():
    whole, core = (annotated_outputs(NESTED, {name}) for name in ("whole", "core"))
    assert unexpected_classes(NESTED, whole).tolist() == [False, False, False]
    assert unexpected_classes(NESTED, core).tolist() == [False, True, False]
    check_label(np.array([0, 2, -1]), NESTED, {"core"}, "x")
    with pytest.raises(InputError, match="has 1 cells of whole"):
        check_label(np.array([0, 1, 2]), NESTED, {"core"}, "x")


def test_unknown_classes_count_as_the_background():
    index, only = np.array([0, 1, 2, -1]), annotated_outputs(TABLE, {"posterior"})
    assert without_unknown(index, TABLE, only).tolist() == [0, 0, 2, -1]
    assert without_unknown(index, TABLE, only, predicted=True).tolist() == [0, 0, 2, -1]
    cover = LabelTable.declare({"wood": 0, "water": 1, "road": 2}, background=None)
    some = annotated_outputs(cover, {"water"})
    assert without_unknown(index, cover, some).tolist() == [-1, 1, -1, -1]
    assert without_unknown(index, cover, some, predicted=True).tolist() == index.tolist()
    assert without_unknown(index, NESTED, annotated_outputs(NESTED, {"core"})).tolist() == index.tolist()


def partial_volumes(tmp_path: Path) -> VolumesDataset:
    """c0 annotates anterior alone."""
    root = write_nnunet(tmp_path / "d", n_cases=2)
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:9, 4:9] = 1
    save(root / "labelsTr/c0.nii.gz", label)
    return VolumesDataset(
        root, ["MR"], LABELS, images="imagesTr", label_folder="labelsTr", annotated={"c0": ["anterior"]}
    )


def test_the_store_holds_it_with_cells_of_annotated_classes_alone(tmp_path):
    data = partial_volumes(tmp_path)
    prepare = PrepareCase(data.open, PLAIN, tuple(TABLE.targets), (8, 8, 8), True)
    stored = []
    for case in data.cases():
        prepare((case, tmp_path / case.id))
        stored.append(StoredCase(tmp_path / case.id))
    partial, complete = stored
    assert partial.read().annotated.tolist() == [True, True, False]
    assert set(partial.cells) == set(partial.counts) == {"anterior"}
    assert (complete.annotated, complete.read().annotated) == (None, None)
    assert "annotated" not in complete.stored
    assert set(complete.counts) == {"anterior", "posterior"}


def test_reading_carries_it(tmp_path):
    data = partial_volumes(tmp_path)
    read = [CaseReader(case, data.spec, ReadOptions()).read().annotated for case in data.cases()]
    assert read[0].tolist() == [True, True, False]
    assert read[1] is None


def test_every_batch_of_a_partial_dataset_says_it_and_none_of_a_complete_one():
    def windows(second: np.ndarray | None) -> PatchDataset:
        scenes = [Scene("a", (8, 8), "a"), Scene("b", (8, 8), "b", annotated=second)]
        return PatchDataset(scenes, patch=(4, 4), window=(4, 4), batch_size=1, seed=0, sampling=Sampling())

    complete = windows(None)
    assert collate_windows([complete[0, 0]]).annotated is None
    partial = windows(np.array([True, False]))
    rows = {w.sample.case: collate_windows([w]).annotated for w in (partial[step, 0] for step in range(2))}
    assert rows["a"].tolist() == [[True, True]]


def test_a_complete_case_has_the_key_that_it_had_before_partial_labels(tmp_path):
    data = partial_volumes(tmp_path)
    module = SimpleNamespace(preprocess=PLAIN, spec=data.spec, patch=(8, 8, 8), in_store=True)
    partial, complete = (DataModule._settings(module, case, {}) for case in data.cases())
    assert partial.pop("annotated") == ["anterior"]
    assert set(partial) == set(complete) == {
        "preprocess", "spec", "reading", "chunks", "group", "labelled", "box", "masked", "cells"
    }  # fmt: skip
