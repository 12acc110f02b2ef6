"""Tables of cases: what spreadsheets write, and what is refused."""

from pathlib import Path

import pytest

from medseg.data.case import Case
from medseg.data.layout.case_table import CaseTable
from medseg.errors import InputError
from medseg.facts import Fact


def table(folder: Path, text: str, *, key: str | None = None, encoding: str = "utf-8") -> CaseTable:
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return CaseTable.read(path, key=key)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("case,age,sex\na,4,F\nb,5,\n", "utf-8"),
        ("case;age;sex\r\na;4;F\r\nb;5;\r\n", "utf-8-sig"),
        ("case\tage\tsex\na\t4\tF\nb\t5\t\n\n", "utf-8"),
        (' case , age,sex\n"a", 4 ,F\nb,5\n,,\n', "utf-8"),
    ],
)
def test_commas_semicolons_tabs_and_byte_order_marks(tmp_path: Path, text: str, encoding: str) -> None:
    rows = table(tmp_path, text, encoding=encoding)
    assert rows.columns == ("age", "sex")
    assert rows.column("age") == {"a": "4", "b": "5"}
    assert rows.column("sex") == {"a": "F", "b": ""}


def test_another_column_holds_the_names_of_cases(tmp_path: Path) -> None:
    assert table(tmp_path, "id,case\na,1\n", key="id").rows == {"a": {"id": "a", "case": "1"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,age\na,4\n", r"has no column case, its columns are id, age; data\.table_key names another, such as .*=id"),
        ("", "has no column case, its columns are none"),
        ("case,age\na,4\na,5\nb,1\nb,2\n", r"2 case\(s\) with several rows in data\.table=.*: a, b; keep one of each"),
        ("case,age,age\na,4,5\n", "columns age; give each a name of its own"),
        ("case,age,\na,4,5\n", "columns without a name"),
        ("case,age\n,4\n", "a row has no case"),
        ("case,age\na,4,7\n", "line 2 has more cells than the 2 columns"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(tmp_path, text)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.table=.*none\.csv: no such file"):
        CaseTable.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is not UTF-8"):
        table(tmp_path, "case,site\na,Köln\n", encoding="latin-1")


def test_cases_without_a_row_and_rows_of_no_case(tmp_path: Path) -> None:
    rows = table(tmp_path, "case,age\na,4\nx,5\n")
    cases = [Case(f"{name}", (), None, "") for name in "abcdefgh"]
    with pytest.raises(InputError, match=r"7 case\(s\) without a row in data\.table=.*: b, c, d, e, f, \.\.\.; add"):
        rows.check_cases(cases)
    with pytest.raises(InputError, match=r"1 row\(s\) of no case in data\.table=.*: x; remove"):
        rows.check_cases(cases[:1])
    rows.check_cases(cases[:1], extra=False)


def test_columns_and_values_of_other_cases(tmp_path: Path) -> None:
    rows = table(tmp_path, "case,age,sex\na,4,F\nb,5,X\nc,,Y\n")
    sex, age = Fact("sex", "word", ("F",)), Fact("age", "number", mean=1, std=2)
    assert rows.check_values([age]) == []
    (warning,) = rows.check_values([age, sex])
    assert warning.endswith("sex has 2 value(s) that no training case has (X, Y): they count as missing")
    with pytest.raises(InputError, match=r"data\.facts: .*cases\.csv has no column seks; the nearest are sex"):
        rows.check_columns(["age", "seks"], "data.facts")
    assert rows.facts_of("b", (age, sex))["sex"] == "X"
    assert rows.facts_of("z", (age, sex)).encoded.tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match="no number"):
        rows.check_values([Fact("sex", "number")])
