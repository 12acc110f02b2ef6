import json
from pathlib import Path
from typing import Any

import pytest

from medseg.data.dataset import Case
from medseg.data.splits.folds import folds, held_out, split
from medseg.data.splits.groups import grouped
from medseg.errors import InputError


def cases_of(*ids: str) -> list[Case]:
    return [Case(i, (), None, i) for i in ids]


def numbered(n: int) -> list[Case]:
    return cases_of(*(f"c{i:03d}" for i in range(n)))


PATIENTS = [Case(f"{p}{i}", (), None, p) for p, n in {"p": 5, "q": 3, "r": 1, "s": 1, "t": 2}.items() for i in range(n)]


def test_folds_are_those_of_nnunet() -> None:
    """Literals from scikit-learn's KFold(5, shuffle=True, random_state=12345) over range(12)."""
    expected = [[0, 3, 8], [7, 10, 11], [6, 9], [1, 4], [2, 5]]
    assert folds(numbered(12)) == [[f"c{i:03d}" for i in fold] for fold in expected]


def test_folds_do_not_depend_on_the_order_or_the_group_names() -> None:
    cases = numbered(23)
    renamed = [Case(c.id, (), None, f"g{-i}") for i, c in enumerate(cases)]
    assert folds(cases[::-1]) == folds(cases) == folds(renamed)


def test_every_case_validates_once_and_folds_are_even() -> None:
    parts = folds(numbered(23), 4)
    assert sorted(i for part in parts for i in part) == [c.id for c in numbered(23)]
    assert [len(p) for p in parts] == [6, 6, 6, 5]


def test_groups_never_straddle_and_are_balanced() -> None:
    """p (5), q (3), t (2) open a fold each; of r and s (1), one joins t, and then the other q (3 and 3 tie)."""
    parts = folds(PATIENTS, 3)
    assert [len(part) for part in parts] == [5, 4, 3]
    owners = [{i[0] for i in part} for part in parts]
    assert [o - {"r", "s"} for o in owners] == [{"p"}, {"q"}, {"t"}]
    assert sorted(map(len, owners)) == [1, 2, 2]
    assert folds(PATIENTS[::-1], 3) == parts


def test_seed_deals_equal_groups_differently() -> None:
    pairs = [Case(f"{p}{i}", (), None, p) for p in "abcdefgh" for i in range(2)]
    assert folds(pairs, 4, seed=0) != folds(pairs, 4, seed=1)
    assert [len(p) for p in folds(pairs, 4)] == [4, 4, 4, 4]


@pytest.mark.parametrize(("n", "n_folds"), [(3, 5), (10, 1), (10, 0), (0, 5)])
def test_impossible_folds_are_refused(n: int, n_folds: int) -> None:
    with pytest.raises(InputError, match=rf"{n_folds} folds of {n} group\(s\) .*split\.n_folds, or split\.fold=all"):
        folds(numbered(n), n_folds)


def test_split_of_a_fold_is_its_cases_against_the_rest() -> None:
    cases = numbered(12)
    for fold, val in enumerate(folds(cases)):
        train, held_out = split(cases, fold)
        assert held_out == val
        assert train == sorted({c.id for c in cases} - set(val))


def test_all_trains_and_validates_on_everything() -> None:
    ids = ["a", "b", "c"]
    assert split(cases_of("b", "c", "a"), "all") == (ids, ids)


@pytest.mark.parametrize("fold", [5, -1, "best"])
def test_unknown_fold_is_refused(fold: int | str) -> None:
    with pytest.raises(InputError, match=rf"fold '?{fold}'? of split\.n_folds=5: expected 0 to 4, or \"all\""):
        split(numbered(12), fold)


def splits_file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "splits_final.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_users_file_is_honoured(tmp_path: Path) -> None:
    file = splits_file(tmp_path, [{"train": ["b", "a"], "val": ["c"]}, {"train": ["c"], "val": ["b", "a"]}])
    cases = cases_of("a", "b", "c", "left_out")
    assert split(cases, 0, file=file) == (["a", "b"], ["c"])
    assert split(cases, 1, file=str(file)) == (["c"], ["a", "b"])
    with pytest.raises(InputError, match=r"fold 2 of .*splits_final\.json: expected 0 to 1"):
        split(cases, 2, file=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"train": ["p0", "zz"], "val": ["q0"]}], r"1 unknown case\(s\) in .*splits_final\.json, fold 0: zz; exp"),
        ([{"train": ["p0", "q0"], "val": ["q0"]}], r"1 case\(s\) in both training and validation of .*: q0;"),
        ([{"train": ["p0", "q0"], "val": ["p1"]}], r"1 group\(s\) in both training and validation of .*: p; keep"),
        ([{"train": [], "val": ["p1"]}], r"0 training and 1 validation cases"),
        ([{"train": ["p0"]}], r"expected a list of"),
        ({"train": ["p0"], "val": ["q0"]}, r"expected a list of"),
        ([], r"expected a list of"),
        ("[{", r"cannot be read as JSON"),
    ],
)  # fmt: skip
def test_unsound_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(PATIENTS, 0, file=splits_file(tmp_path, content))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read .*split\.file"):
        split(PATIENTS, 0, file=tmp_path / "none.json")


def test_lists_may_be_tables_of_image_and_mask(tmp_path: Path) -> None:
    train = text_file(tmp_path, "train.csv", "p0.tif,p0_label.tif", "p1.tif,p1_label.tif")
    val = text_file(tmp_path, "val.csv", "p2.tif,p2_label.tif")
    cases = [Case(name, (), None, name) for name in ("p0", "p1", "p2")]
    assert split(cases, 0, file=[train, val]) == (["p0", "p1"], ["p2"])


def text_file(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_table_of_folds(tmp_path: Path) -> None:
    table = text_file(tmp_path, "folds.csv", "fold,case", "0,a", "1,b.tif", "0,c", "2,images/d.tif")
    cases = cases_of("a", "b", "c", "d", "left_out")
    assert split(cases, 0, file=table) == (["b", "d"], ["a", "c"])
    assert split(cases, 2, file=str(table)) == (["a", "b", "c"], ["d"])
    with pytest.raises(InputError, match=r"fold 3 of .*folds\.csv: expected 0 to 2"):
        split(cases, 3, file=table)
    assert held_out(cases, 0, table) == []


def test_a_table_of_train_val_and_test(tmp_path: Path) -> None:
    table = text_file(tmp_path, "split.csv", "case,split", "a,train", "b,val", "c,test", "d,train")
    cases = cases_of("a", "b", "c", "d")
    assert split(cases, 0, file=table) == (["a", "d"], ["b"])
    assert held_out(cases, 0, table) == ["c"]
    assert split(cases, "all", file=table) == (["a", "b", "d"], ["a", "b", "d"])
    assert held_out(cases, 0, None) == []
    with pytest.raises(InputError, match=r"fold 1 of .*split\.csv: expected 0 to 0"):
        split(cases, 1, file=table)


def test_lists_of_names(tmp_path: Path) -> None:
    """Names of files stand for the ids that are their stems; an id with a dot is taken as it is."""
    files = [
        text_file(tmp_path, "train.txt", "images/a.png", "", " v1.2 "),
        text_file(tmp_path, "val.txt", "b.nii.gz"),
        text_file(tmp_path, "test.txt", "c"),
    ]
    cases = cases_of("a", "b", "c", "v1.2", "v1")
    assert split(cases, 0, file=files[:2]) == (["a", "v1.2"], ["b"])
    assert held_out(cases, 0, files[:2]) == []
    assert held_out(cases, 0, [str(f) for f in files]) == ["c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["case,part", "p0,1"], r"columns are \['case', 'part'\], expected case,fold or case,split in the first line"),
        (["case,fold,split", "p0,1,val"], r"expected case,fold or case,split in the first line"),
        (["case,split", "p0,train", "q0,validation"], r"1 case\(s\) in .* than train, val or test: q0 \(validation\);"),
        (["case,fold", "p0,1", "q0,2"], r"folds are \['1', '2'\], expected numbers from 0 without a gap"),
        (["case,fold", "p0,0", "q0"], r"folds are \['', '0'\], expected numbers from 0"),
        (["case,fold"], r"no case in the table"),
        (["case,fold", "p0,0", "q0,1", "zz,1"], r"1 unknown case\(s\) in .*t\.csv, fold 0: zz"),
        (["case,split", "p0,train", "q0,val", "p1,test"], r"1 group\(s\) in both training and test of .*: p; keep"),
        (["case,split", "p0,train", "q0,val", "q0,test"], r"1 case\(s\) in both validation and test of .*: q0; leave"),
    ],
)  # fmt: skip
def test_unsound_tables_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(PATIENTS, 0, file=text_file(tmp_path, "t.csv", *lines))


def test_unsound_lists_are_refused(tmp_path: Path) -> None:
    lists = [text_file(tmp_path, f"{n}.txt", n) for n in ("p0", "q0")]
    with pytest.raises(InputError, match=r"split\.file: got 1 lists, expected \[train\.txt, val\.txt\]"):
        split(PATIENTS, 0, file=lists[:1])
    with pytest.raises(InputError, match=r"no\.txt: cannot be read as a list .* expected a case in each line"):
        split(PATIENTS, 0, file=[lists[0], tmp_path / "no.txt"])
    with pytest.raises(InputError, match=r"1 unknown case\(s\) in .*p0\.txt and .*x\.txt, fold 0: x"):
        split(PATIENTS, 0, file=[lists[0], text_file(tmp_path, "x.txt", "x")])
    with pytest.raises(InputError, match=r"1 unknown case\(s\) in .*x\.txt: x; expected ids"):
        held_out(PATIENTS, 0, [*lists, tmp_path / "x.txt"])


def test_json_may_keep_a_test_set(tmp_path: Path) -> None:
    file = splits_file(tmp_path, [{"train": ["a"], "val": ["b"], "test": ["c"]}, {"train": ["a"], "val": ["c"]}])
    cases = cases_of("a", "b", "c")
    assert split(cases, 0, file=file) == (["a"], ["b"])
    assert split(cases, "all", file=file) == (["a", "b"], ["a", "b"])
    assert [held_out(cases, fold, file) for fold in (0, 1, "all")] == [["c"], [], ["c"]]
    with pytest.raises(InputError, match=r"fold 2 of .*: expected 0 to 1"):
        held_out(cases, 2, file)


def test_groups_by_expression() -> None:
    visits = cases_of("p1_a", "p1_b", "p2_a")
    assert [c.group for c in grouped(visits, r"^(p\d+)_")] == ["p1", "p1", "p2"]
    assert [c.group for c in grouped(visits, r"[ab]$")] == ["a", "b", "a"]
    assert grouped(visits, None) == visits


def test_groups_by_table(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("group,case\nsite1,a\nsite2,b\nsite1,c\n")
    assert [c.group for c in grouped(cases_of("a", "b", "c"), str(table))] == ["site1", "site2", "site1"]
    with pytest.raises(InputError, match=r"1 case\(s\) without a group in data\.groups='.*groups\.csv': d; add"):
        grouped(cases_of("a", "d"), str(table))
    table.write_text("id,site\na,1\n")
    with pytest.raises(InputError, match=r"groups\.csv: columns are \['id', 'site'\], expected case,group"):
        grouped(cases_of("a"), str(table))


def test_cases_without_a_group_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 case\(s\) without a group in data\.groups='\^\(p\.\)': q1, r1; add"):
        grouped(cases_of("p1", "q1", "r1"), "^(p.)")
    with pytest.raises(InputError, match=r"data\.groups='\(p' is no regular expression .*; give one, or a \.csv"):
        grouped(cases_of("p1"), "(p")
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        grouped(cases_of("p1"), "nowhere.csv")
