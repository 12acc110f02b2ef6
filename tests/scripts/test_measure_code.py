"""scripts/measure_code.py: counts worked out by hand on small packages."""

import ast
from pathlib import Path

import pytest

from tests.prepared import script

measure_code = script("measure_code")


@pytest.mark.parametrize(
    ("body", "branches"),
    [
        ("pass", 0),
        ("if a: pass\nelif b: pass\nelse: pass", 2),
        ("for a in b:\n    while a: pass", 2),
        ("try: pass\nexcept E: pass\nexcept F: pass\nfinally: pass", 2),
        ("with a, b: pass", 1),
        ("return a if b else c", 1),
        ("return a and b and c or d", 3),
        ("return [a for a in b if a if c for d in e]", 4),
        ("match a:\n    case 1: pass\n    case _: pass", 2),
        ("def g():\n    if a: pass", 1),
        ("return lambda: a or b", 1),
        ("assert a", 0),
        ("return a < b < c", 0),
    ],
)
def test_complexity_is_one_and_a_branch_for_each(body: str, branches: int) -> None:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    (function,) = ast.parse(f"def f():\n{indented}\n").body
    assert measure_code.complexity(function) == 1 + branches


def write(root: Path, **texts: str) -> object:
    for name, text in texts.items():
        path = root / "medseg" / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return measure_code.Code(root)


def test_rooms_circles_and_upward_imports(tmp_path: Path) -> None:
    code = write(
        tmp_path,
        __init__="from medseg import a",
        loose="import medseg.a.x",
        a__in____init__="",
        a__in__x="def f():\n    from medseg.b import y",
        b__in__y="from medseg import loose",
        c__in__z="from medseg.a import x\nfrom medseg import __version__",
    )
    assert code.loose == ["medseg/loose.py"]
    assert code.edges == {"a": {"b"}, "b": {"loose"}, "c": {"a"}, "loose": {"a"}}
    assert measure_code.circles(code.edges) == [["a", "b", "loose"]]
    assert code.upward == ["medseg/c/z.py"]


def test_table_of_a_small_package(tmp_path: Path) -> None:
    text = (
        "from typing import Any\n\n\nclass C:\n    def m(self, a: Any, *, nsd_mm: Any = None) -> Any:\n"
        "        def inner(a, b, c, d, e, f, g, h, i): ...\n        return inner  # type: ignore[x]\n"
    )
    code = write(tmp_path, __init__='"""Text about the hd95 of nsd."""\n', a__in__x=text)
    table = measure_code.measure(code)
    assert table["lines"] == "8"
    assert table["files"] == "2"
    assert table["rooms"] == "1"
    assert table["functions"] == "2"
    assert table["lines of the largest function"] == "3 (`C.m`)"
    assert table["functions with more than 8 parameters"] == "1"
    assert table["`Any`"] == "4"
    assert table["`type: ignore`"] == "1"
    assert code.naming("nsd") == ["medseg/a/x.py"]
    assert code.naming("hd95") == []


def test_list_of_complex_functions(tmp_path: Path) -> None:
    code = write(tmp_path, a__in__x="class C:\n    def m(self):\n        return a or b or c\n\n\ndef f(): ...\n")
    assert measure_code.complex_functions(code, 2) == ["medseg/a/x.py::C.m 3"]
    assert measure_code.complex_functions(code, 3) == []
