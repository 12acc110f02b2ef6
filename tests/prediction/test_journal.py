import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.prediction.journal import Journal


def open_(path: Path) -> Journal:
    def check(stored: Any) -> dict[str, Any]:
        return {} if stored is None else dict(stored["values"])

    def apply(content: dict[str, Any], change: Any) -> None:
        content[change["key"]] = change["value"]

    return Journal(path, check, apply)


def set_(journal: Journal, key: str, value: int) -> None:
    journal.change({"key": key, "value": value})


def compact(journal: Journal) -> None:
    journal.compact(lambda content: {"values": content} if content else None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


def test_changes_are_lines_until_the_file_is_written_anew(path: Path) -> None:
    journal = open_(path)
    set_(journal, "a", 1)
    set_(journal, "b", 2)
    assert not path.exists()
    assert len(journal.log.read_text().splitlines()) == 2
    assert open_(path).content == {"a": 1, "b": 2}
    compact(journal)
    assert json.loads(path.read_text()) == {"values": {"a": 1, "b": 2}}
    assert not journal.log.exists()
    assert open_(path).content == {"a": 1, "b": 2}


def test_a_line_that_a_kill_cut_is_left_out_and_overwritten(path: Path) -> None:
    journal = open_(path)
    set_(journal, "a", 1)
    with journal.log.open("a") as log:
        log.write('{"key": "b", "val')
    later = open_(path)
    assert later.content == {"a": 1}
    set_(later, "c", 3)
    assert open_(path).content == {"a": 1, "c": 3}


def test_a_line_that_is_damaged_is_an_error(path: Path) -> None:
    set_(open_(path), "a", 1)
    open_(path).log.write_text('{"key": \n')
    with pytest.raises(json.JSONDecodeError):
        open_(path)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "compact"]), st.integers()), max_size=12))
@settings(max_examples=40, deadline=None)
def test_processes_that_share_a_file_see_what_the_others_did(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("shared") / "a.json"
    processes = [open_(path) for _ in range(3)]
    expected: dict[str, int] = {}
    for number, key, value in steps:
        if key == "compact":
            compact(processes[number])
        else:
            set_(processes[number], key, value)
            expected[key] = value
            assert processes[number].content == expected
    for process in processes:
        process.refresh()
        assert process.content == expected


def test_nothing_is_written_for_nothing(path: Path) -> None:
    journal = open_(path)
    compact(journal)
    assert list(path.parent.iterdir()) == []
