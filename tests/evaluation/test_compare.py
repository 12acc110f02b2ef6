"""Folders of predictions compared, and scores of groups, by the command."""

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app.compose import compose
from tests.evaluation.test_folders import cube, save

CASES = [f"p{n}" for n in range(7)]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Seven cases: ``old`` is moved by two voxels, ``new`` by one or none."""
    for number, case in enumerate(CASES):
        for name, start in (("labels", 2), ("old", 4), ("new", 2 + number % 2)):
            (tmp_path / name).mkdir(exist_ok=True)
            save(tmp_path / name / f"{case}.nii.gz", cube(start))
    rows = [f"{case},{'north' if n < 3 else 'south'},{30 + 10 * n},q{n // 2}" for n, case in enumerate(CASES)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,site,age,patient", *rows]) + "\n")
    return tmp_path


def run(folders: Path, *words: str) -> dict:
    return evaluate(compose("evaluate", [f"labels={folders}/labels", f"output={folders}/out", *words]))


def two(folders: Path) -> str:
    return f"predictions=[{folders}/old,{folders}/new]"


def test_a_difference_in_every_case_is_shown(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = run(folders, two(folders), "metrics=[dice,iou]")
    row = result["differences"][0]
    assert (row["metric"], row["class"], row["of"], row["to"]) == ("dice", None, "new", "old")
    assert row["difference"] == pytest.approx((4 * 1 + 3 * 0.75) / 7 - 0.5)
    assert row["p"] == 2 / 2**7
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["comparison.html", "comparison.json", "new", "old"]
    assert json.loads((folders / "out/comparison.json").read_text(encoding="utf-8")) == result
    of_new = json.loads((folders / "out/new/metrics.json").read_text(encoding="utf-8"))
    assert of_new["summary"]["dice"]["mean"] == pytest.approx((4 * 1 + 3 * 0.75) / 7)
    page = (folders / "out/comparison.html").read_text(encoding="utf-8")
    assert "<h1>Comparison of old and new</h1>" in page
    assert "new less old: dice +0.3929" in page
    assert page.count("<svg") == 2
    assert result["ranks"]["dice"]["new"] == {"mean": 1.0, "best": 1.0, "cases": 7}


def test_values_of_all_folders_are_classes(folders: Path) -> None:
    save(folders / "new/p0.nii.gz", cube(value=3))
    result = run(folders, two(folders), "metrics=[dice]")
    assert {row["class"] for row in result["differences"]} == {None, "class_1", "class_3"}


def test_a_group_is_exchanged_as_one(folders: Path) -> None:
    result = run(folders, two(folders), "metrics=[dice]", f"table={folders}/cases.csv", "group=patient")
    assert (result["groups"], result["differences"][0]["p"]) == (4, 2 / 2**4)


def test_only_common_cases_are_compared(folders: Path) -> None:
    (folders / "new/p6.nii.gz").unlink()
    with pytest.raises(InputError, match="1 labels without prediction: p6"):
        run(folders, two(folders), "metrics=[dice]")
    result = run(folders, two(folders), "metrics=[dice]", "missing=skip")
    assert result["cases"] == 6


def test_scores_of_groups(folders: Path) -> None:
    words = [f"predictions={folders}/new", f"table={folders}/cases.csv", "metrics=[dice]"]
    found = run(folders, *words, "by={site: null, age: [50, 80]}")["subgroups"]
    assert {name: part["cases"] for name, part in found["site"]["groups"].items()} == {
        "north": CASES[:3],
        "south": CASES[3:],
    }
    assert list(found["age"]["groups"]) == ["below 50", "50 to 80", "80 and above"]
    assert found["age"]["groups"]["below 50"]["cases"] == ["p0", "p1"]
    assert found["site"]["groups"]["north"]["summary"]["dice"]["mean"] == pytest.approx((1 + 0.75 + 1) / 3)
    assert found["site"]["worst"]["dice"]["group"] == "south"
    page = (folders / "out/report.html").read_text(encoding="utf-8")
    assert "Scores of groups" in page
    assert "worst: south" in page


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["predictions=[{0}/old]"], "got 1 folder in a list, expected two or more"),
        (["predictions=[{0}/old,{0}/x/old]"], "several folders are called old; name them"),
        (["predictions={{a b: {0}/old, new: {0}/new}}"], "'a b' is no name"),
        (["predictions={0}/old", "by=[site]"], "by=site: names columns of a table of cases, and there is none"),
        (["predictions=[{0}/old,{0}/new]", "group=patient"], "group=patient: names a column of a table"),
        (["predictions={0}/old", "by=[sites]", "table={0}/cases.csv"], "has no column sites; the nearest are site"),
        (
            ["predictions=[{0}/old,{0}/new]", "group=pat", "table={0}/cases.csv"],
            "has no column pat; the nearest are patient",
        ),
        (["predictions={0}/old", "by={{age: [60, 40]}}", "table={0}/cases.csv"], "expected edges in rising order"),
        (["predictions={0}/old", "by={{site: [1, 2]}}", "table={0}/cases.csv"], "p0 has 'north', expected a number"),
        (["predictions={0}/old", "by=[site]", "table={0}/few.csv"], "5 of 7|case.s. without a row"),
        (["predictions=[{0}/old,{0}/new]", "group=site", "table={0}/few.csv"], "without a row in table="),
    ],
)
def test_what_is_refused_before_anything_is_scored(folders: Path, own: list[str], message: str) -> None:
    (folders / "few.csv").write_text("case,site\np0,north\np1,south\n")
    with pytest.raises(InputError, match=message):
        run(folders, *(word.format(folders) for word in own))
    assert not (folders / "out").exists()


def test_measurements_are_no_groups(folders: Path) -> None:
    from medseg.data.layout.case_table import CaseTable
    from medseg.evaluation.grouping import Grouping

    (folders / "many.csv").write_text("case,age\n" + "".join(f"c{n},{n}\n" for n in range(30)))
    table = CaseTable.read(folders / "many.csv")
    with pytest.raises(InputError, match="got 30 values in 30 cases, expected 20 groups at most"):
        Grouping.of(table, ["age"]).groups([f"c{n}" for n in range(30)])
    (groups,) = Grouping.of(table, {"age": [10]}).groups([f"c{n}" for n in range(30)]).values()
    assert np.unique(list(groups.values()), return_counts=True)[1].tolist() == [20, 10]
