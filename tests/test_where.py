"""The twelve questions of docs/contributing/where.md: each answer is a file of the room that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| (.+\?) \| `([\w/]+)` \| `(medseg/[\w/]+\.py)` \|")
ROWS = ROW.findall((ROOT / "docs/contributing/where.md").read_text(encoding="utf-8"))


def test_there_are_twelve_questions() -> None:
    assert len(ROWS) == 12


@pytest.mark.parametrize(("question", "room", "file"), ROWS, ids=[row[0] for row in ROWS])
def test_the_file_is_in_the_room(question: str, room: str, file: str) -> None:
    assert (ROOT / file).is_file()
    assert Path(file).parent == Path("medseg") / room
