"""Cases are watched: a bar on a terminal, a few lines elsewhere."""

import io
from contextlib import redirect_stdout

import pytest

from medseg.runtime import progress
from medseg.runtime.progress import Watch, watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_cases_are_watched_line_by_line_where_there_is_no_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter(["", "dice 0.5000", "dice 0.7500", "dice 0.8000"])
    seen = []
    for case in watched(["a", "b", "c", "d"], "judging", so_far=lambda: next(scores)):
        seen.append(case)
        clock[0] += 10
    assert seen == ["a", "b", "c", "d"]
    assert capsys.readouterr().out.splitlines() == [
        "judging: 1 of 4  0:00:10 spent, 0:00:30 left",
        "judging: 2 of 4  0:00:20 spent, 0:00:20 left  dice 0.5000",
        "judging: 3 of 4  0:00:30 spent, 0:00:10 left  dice 0.7500",
        "judging: 4 of 4  0:00:40 spent, 0:00:00 left  dice 0.8000",
    ]


def test_many_cases_are_ten_lines_and_none_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(watched(range(1000), "predicting")) == list(range(1000))
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert list(watched([], "predicting")) == []
    assert capsys.readouterr().out == ""


def test_slow_cases_are_a_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in watched(range(1000), "looking at cases"):
        clock[0] += 25
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "looking at cases: 3 of 1000  0:01:15 spent, 6:55:25 left"
    assert lines[1].startswith("looking at cases: 6 of 1000")
    assert 333 <= len(lines) <= 333 + 10, "every third case, and at most one more for each tenth"


def test_one_large_scene_is_watched_by_its_rows(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Watch("predicting", 1) as watch:
        for row in range(50, 1001, 50):
            clock[0] += 7
            watch.part(row, 1000)
        watch.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "predicting: 0 of 1 (row 100 of 1000)  0:00:14 spent, 0:02:06 left"
    assert lines[-1] == "predicting: 1 of 1  0:02:20 spent, 0:00:00 left"
    assert len(lines) == 10


def test_rows_that_take_long_are_a_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Watch("predicting", 2) as watch:
        for row in range(1, 10):
            clock[0] += 30
            watch.part(row, 1000)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[2].partition(" of")[0] for line in lines] == ["row 2", "row 4", "row 6", "row 8"]


def test_cases_are_watched_on_a_bar_on_a_terminal() -> None:
    with redirect_stdout(Terminal()) as screen:
        assert list(watched(["a", "b"], "predicting")) == ["a", "b"]
    assert "100% predicting: 2 of 2" in screen.getvalue()
    assert "\npredicting: 1 of 2" not in screen.getvalue()
