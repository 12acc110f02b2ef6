"""The tables of planted defects fit the source, and what the script makes of them."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.prepared import SCRIPTS, script

ROOT = SCRIPTS.parent


@pytest.fixture(scope="module")
def planting() -> ModuleType:
    return script("plant_defects")


def test_every_defect_has_one_place_and_tests_that_exist(planting: ModuleType) -> None:
    assert planting.problems(planting.DEFECTS, ROOT) == []
    assert len(planting.DEFECTS) >= 80
    assert all(defect.tests for defect in planting.DEFECTS)


def test_tables_that_do_not_fit_are_told(planting: ModuleType) -> None:
    sound = planting.DEFECTS[0]
    changed = [
        sound,
        sound,
        replace(sound, name="gone", old="no such text"),
        replace(sound, name="often", old="e"),
        replace(sound, name="unguarded", tests=("tests/no_such_file.py", f"{sound.tests[0]}_not")),
    ]
    told = planting.problems(changed, ROOT)
    assert told[0] == f"{sound.name}: named twice"
    assert told[1] == f"gone: its text occurs 0 times in {sound.file}, expected once"
    assert told[2].startswith("often: its text occurs ")
    assert told[3:] == [f"unguarded: there is no test {t}" for t in ("tests/no_such_file.py", f"{sound.tests[0]}_not")]
    with pytest.raises(ValueError, match="changes nothing"):
        replace(sound, new=sound.old)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A package of one function and its tests."""
    folder = tmp_path / "source"
    (folder / "medseg_like").mkdir(parents=True)
    (folder / "medseg_like/__init__.py").write_text("")
    (folder / "medseg_like/count.py").write_text("def add(a, b):\n    return a + b\n")
    (folder / "test_count.py").write_text(
        "from medseg_like.count import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n\n\n"
        "def test_negative():\n    assert add(2, -1) == 1\n"
    )
    return folder


@pytest.mark.parametrize(
    ("new", "test", "result"),
    [
        ("a * b", "::test_negative", "noticed"),
        ("a * b", "::test_add", "not noticed"),
        ("a +", "::test_add", "tests could not run"),
        ("__import__('os').kill(0, 15)", "::test_add", "crashed"),
        ("a", "::test_none", "tests could not run"),
        ("[a for _ in iter(int, 1)]", "::test_add", "hung"),
    ],
)
def test_what_becomes_of_a_defect(planting: ModuleType, copy: Path, new: str, test: str, result: str) -> None:
    sound = (copy / "medseg_like/count.py").read_bytes()
    defect = planting.Defect("wrong", "sums", "medseg_like/count.py", "a + b", new, (f"test_count.py{test}",))
    outcome = planting.plant(defect, 0, copy, 2 if result == "hung" else 120)
    assert (outcome.result, (copy / "medseg_like/count.py").read_bytes()) == (result, sound), outcome.first
    if result == "noticed":
        assert outcome.first.startswith("FAILED test_count.py::test_negative")


def test_fewer_than_the_least_share_is_told(planting: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [planting.Outcome(f"d{i}", "noticed", 1.0, "") for i in range(18)]
    assert planting.show([*outcomes, planting.Outcome("ends", "crashed", 1.0, "")]) == 1
    assert planting.show([*outcomes, planting.Outcome("slow", "hung", 1.0, "")]) < planting.LEAST
    assert planting.show([*outcomes, planting.Outcome("other", "not noticed", 1.0, "3 passed")]) < planting.LEAST
    told = capsys.readouterr().out
    assert "19 defects: 18 noticed, 1 not noticed (94.7%)" in told
    assert told.endswith("not noticed: other: 3 passed\n")


def test_names_choose(planting: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert planting.main(["--list", "--only", "lock-not-taken"]) == 0
    assert capsys.readouterr().out.startswith("lock-not-taken ")
    with pytest.raises(SystemExit, match="there is no defect other"):
        planting.chosen(["other"])


def test_tables_stay_short() -> None:
    for path in [*SCRIPTS.glob("defects*.py"), SCRIPTS / "plant_defects.py"]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_the_source_is_not_on_the_path_of_the_tests(planting: ModuleType, copy: Path) -> None:
    (copy / "test_path.py").write_text(
        f"import os, sys\n\n\ndef test_path():\n    assert {str(ROOT)!r} not in sys.path[:1]\n"
        f"    assert (os.getcwd(), sys.path[0]) == ({str(copy)!r},) * 2\n"
    )
    before = os.getcwd(), list(sys.path)
    code, said = planting.run_tests(["test_path.py"], copy, 120)
    assert code == 0, said
    assert (os.getcwd(), sys.path) == before
