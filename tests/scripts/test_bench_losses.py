"""scripts/bench_losses.py: a row that takes too long does not stop the others, and what is stored is not run again."""

from pathlib import Path

import pytest

from tests.prepared import script

bench = script("bench_losses")
ROW = {"loss": "dice", "shape": [4, 4], "classes": 2, "batch": 1, "device": "cpu", "repeats": 1, "seconds": 1}


@pytest.mark.parametrize(
    ("code", "limit", "expected"),
    [
        ("import time; time.sleep(60)", 0.3, {"over": 0.3}),
        ("raise SystemExit('no such loss')", 60, {"failed": "no such loss"}),
        ("print('warning'); print('{\"forward\": 1.0}')", 60, {"figures": {"forward": 1.0}}),
    ],
    ids=["slow", "failed", "finished"],
)
def test_a_row_has_figures_or_a_reason(
    code: str, limit: float, expected: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text(code)
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "one.py"))
    assert bench.run(ROW, tmp_path / "batch.pt", limit) == ROW | expected


def test_rows_that_are_stored_are_not_run_again() -> None:
    figures, over, failed = ROW | {"figures": {}}, ROW | {"over": 60}, ROW | {"failed": "memory"}
    assert bench.finished(ROW, [failed, figures], 10) == figures
    assert bench.finished(ROW, [failed], 10) is None
    assert bench.finished(ROW, [over], 60) == over
    assert bench.finished(ROW, [over], 61) is None
    assert bench.finished(ROW | {"repeats": 2}, [figures], 10) is None


def test_a_row_is_printed_with_its_reason() -> None:
    assert bench.printed(ROW | {"over": 60}) == "| `dice` | more than 60 s |  |  |"
    square = {"matching": "sure", "shape": [8, 8], "figures": {"exact": 0.123, "256": 0.1}}
    assert bench.printed(square) == "| 8 x 8 | sure | 0.12 | 0.10 |"
