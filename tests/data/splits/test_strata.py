"""Folds that are alike in classes, sizes or sites, with groups kept together."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.splits.folds import folds, split
from medseg.data.splits.strata import dealt, strata_of
from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable

TABLE = LabelTable.declare({"background": 0, "organ": 1, "lesion": 2})


def cases_of(n: int, **groups: str) -> list[Case]:
    return [Case(f"c{i:02d}", (), Path("label"), groups.get(f"c{i:02d}", f"c{i:02d}")) for i in range(n)]


def spread(parts: list[list[str]], strata: dict[str, frozenset[str]]) -> dict[str, list[int]]:
    """Number of cases of each stratum in each fold."""
    names = sorted({name for own in strata.values() for name in own})
    return {name: [sum(name in strata[case] for case in part) for part in parts] for name in names}


def test_without_strata_folds_are_as_before() -> None:
    assert folds(cases_of(12), strata=None) == folds(cases_of(12))


def test_a_rare_stratum_is_in_every_fold() -> None:
    """5 of 25 cases have the lesion: each of five folds gets one of them, and five cases."""
    strata = {f"c{i:02d}": frozenset(["lesion"] if i < 5 else ["organ"]) for i in range(25)}
    parts = folds(cases_of(25), strata=strata)
    assert spread(parts, strata) == {"lesion": [1] * 5, "organ": [4] * 5}
    assert sorted(case for part in parts for case in part) == [c.id for c in cases_of(25)]


def test_several_strata_of_a_case_are_balanced_at_once() -> None:
    strata = {f"c{i:02d}": frozenset([f"a{i % 2}", f"b{i % 3}"]) for i in range(24)}
    parts = folds(cases_of(24), 4, strata=strata)
    assert all(max(n) - min(n) <= 1 for n in spread(parts, strata).values())
    assert [len(part) for part in parts] == [6] * 4


def test_groups_stay_together() -> None:
    cases = cases_of(20, **{f"c{i:02d}": f"p{i // 2}" for i in range(20)})
    strata = {c.id: frozenset(["site a" if int(c.group[1:]) < 5 else "site b"]) for c in cases}
    parts = folds(cases, 5, strata=strata)
    assert all(len({c.group for c in cases if c.id in part}) == 2 for part in parts)
    assert spread(parts, strata) == {"site a": [2] * 5, "site b": [2] * 5}
    train, val = split(cases, 0, 5, strata=strata)
    assert val == parts[0]
    assert sorted([*train, *val]) == [c.id for c in cases]


def test_the_order_of_cases_has_no_effect_and_the_seed_has_one() -> None:
    strata = {c.id: frozenset([str(int(c.id[1:]) % 3)]) for c in cases_of(20)}
    assert folds(cases_of(20)[::-1], strata=strata) == folds(cases_of(20), strata=strata)
    assert folds(cases_of(20), seed=1, strata=strata) != folds(cases_of(20), strata=strata)


@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12), data=st.data())
def test_every_group_is_dealt_once_and_no_fold_is_empty(sizes: list[int], data: st.DataObject) -> None:
    groups = [(f"g{i}", [f"g{i}c{j}" for j in range(n)]) for i, n in enumerate(sizes)]
    names = st.frozensets(st.sampled_from("abc"))
    strata = {case: data.draw(names) for _, cases in groups for case in cases}
    n_folds = data.draw(st.integers(2, len(groups)))
    fold_of = dealt(groups, n_folds, strata)
    assert set(fold_of) == {name for name, _ in groups}
    assert set(fold_of.values()) == set(range(n_folds))


def test_classes_are_those_of_the_label() -> None:
    labels = {"c00": [0, 1, IGNORE], "c01": [0, 0, 0], "c02": [2, 1, 0]}
    strata = strata_of(cases_of(3), "classes", TABLE, lambda case: np.array(labels[case.id]))
    assert strata == {"c00": {"organ"}, "c01": set(), "c02": {"organ", "lesion"}}
    land = LabelTable.declare({"water": 0, "forest": 1}, background=None)
    assert strata_of(cases_of(1), "classes", land, lambda _: np.array([0]))["c00"] == {"water"}
    with pytest.raises(InputError, match="no background; take classes"):
        strata_of(cases_of(1), "size", land, lambda _: np.array([0]))


def test_sizes_are_quartiles_of_the_share_of_foreground() -> None:
    """Shares 0, 0, 1/8 to 6/8: ignored cells do not count, and equal shares are of one quartile."""
    labels = {f"c{i:02d}": [1] * max(0, i - 1) + [0] * (8 - max(0, i - 1)) + [IGNORE] * i for i in range(8)}
    strata = strata_of(cases_of(8), "size", TABLE, lambda case: np.array(labels[case.id]))
    assert [next(iter(strata[f"c{i:02d}"])) for i in range(8)] == [f"size {q}" for q in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_cases_without_a_label_have_no_stratum() -> None:
    bare = [Case("c00", (), None, "c00")]
    assert strata_of([*bare, *cases_of(2)[1:]], "classes", TABLE, lambda _: np.array([1])) == {"c01": {"organ"}}


def test_words_are_of_a_table_or_of_names(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("case,site,stratum\nc00,north,x\nc01,south,y\n")

    def words(stratify: str) -> Counter[str]:
        strata = strata_of(cases_of(2), stratify, TABLE, lambda _: np.array([]))
        return Counter(name for own in strata.values() for name in own)

    assert words(f"{table}:site") == {"north": 1, "south": 1}
    assert words(str(table)) == {"x": 1, "y": 1}
    assert words("c(0)") == {"0": 2}
    with pytest.raises(InputError, match=r"columns are \['case', 'site', 'stratum'\], expected case,scanner"):
        words(f"{table}:scanner")
    with pytest.raises(InputError, match=r"2 case\(s\) without a stratum in split.stratify='site\(.\)': c00, c01"):
        words("site(.)")
