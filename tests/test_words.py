"""Plain words: what users and readers see uses standard terms, and names say what a value is."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medseg"

RETIRED = {
    "told": "say, list, print; as a name: message, text",
    "came": "got",
    "mend|mends|mended|mending": "fix",
    "way out": "fix, hint",
    "beside": "next to, in addition to",
    "likewise": "repeat the noun",
    "so for": "repeat the noun",
    "settle|settles|settled|settling": "set, configure, resolve",
    "judge|judges|judged|judging": "score, evaluate, test",
    "heed|heeds|heeded": "follow",
}
"""Words -> what to write instead. Whole words, in any case."""

NAMES = {"told", "came", "found", "known", "given", "kept", "made", "chosen", "settled"}
"""Names of values that say what happened to them: write a noun that says what they are."""

NOT_YET = {
    "data", "factory", "inference", "methods", "models", "prediction", "runtime", "weights",
}  # fmt: skip
"""Rooms whose words are not checked yet; this list only becomes shorter."""

_RETIRED = re.compile(rf"(?<![\w.=`])({'|'.join(RETIRED)})(?![\w=(`])", re.IGNORECASE)
"""A word in backticks, before ``=`` or ``(`` and after ``.`` is a key or a name, which has rules of its own."""


def retired(text: str) -> list[str]:
    return [match[0] for match in _RETIRED.finditer(text)]


def room_of(path: Path) -> str:
    place = path.relative_to(PACKAGE)
    return place.parts[0] if len(place.parts) > 1 else place.stem


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) not in NOT_YET]
WRITTEN = ("CHANGELOG.md", "options.md", "keys.md")  # a record, and pages that are written from conf/
PAGES = [path for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]) if path.name not in WRITTEN]
CONF = sorted((ROOT / "conf").rglob("*.yaml"))


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Lines with a comment, or with a text of more than one word: docstrings, messages, help."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string.strip()):
            yield from enumerate(token.string.splitlines(), token.start[0])


def names(source: str) -> Iterator[tuple[int, str]]:
    """Variables and arguments of functions that a module binds."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.lineno, node.id
            elif isinstance(node, ast.arg):
                yield node.lineno, node.arg


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Comments of a YAML file."""
    for number, line in enumerate(text.splitlines(), 1):
        _, mark, comment = line.partition("#")
        if mark:
            yield number, comment


def problems(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    where = path.relative_to(ROOT)
    return [f"{where}:{number}: {word}" for number, line in lines for word in retired(line)]


def test_texts_of_the_package() -> None:
    found = [p for path in MODULES for p in problems(path, texts(path.read_text(encoding="utf-8")))]
    assert found == [], f"write something plainer: {RETIRED}"


def test_names_of_values() -> None:
    found = sorted(
        {
            f"{path.relative_to(ROOT)}:{number}: {name}"
            for path in MODULES
            for number, name in names(path.read_text(encoding="utf-8"))
            if name in NAMES
        }
    )
    assert found == [], "name the value by a noun: message, match, rows, settings"


def test_comments_of_the_configuration() -> None:
    found = [p for path in CONF for p in problems(path, comments(path.read_text(encoding="utf-8")))]
    assert found == [], f"write something plainer: {RETIRED}"


def test_pages() -> None:
    found = [
        p for path in PAGES for p in problems(path, iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1)))
    ]
    assert found == [], f"write something plainer: {RETIRED}"


def test_rooms_that_are_not_checked_exist() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms >= NOT_YET


def test_nothing_is_printed_outside_of_the_commands() -> None:
    marked = [path for path in PACKAGE.rglob("*.py") if "noqa: T201" in path.read_text(encoding="utf-8")]
    assert {room_of(path) for path in marked} <= {"cli"}, "use logging, or console.show for output of a command"


@pytest.mark.parametrize("text", ["it was told", "Beside it", "judged by Dice", "is settled", "the way out"])
def test_retired_words_are_found(text: str) -> None:
    assert len(retired(text)) == 1


@pytest.mark.parametrize("text", ["judged=best", "`judged`", "split.judged(cfg)", "besides", "untold"])
def test_keys_names_and_other_words_are_not(text: str) -> None:
    assert retired(text) == []
