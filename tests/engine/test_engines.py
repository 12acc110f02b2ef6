"""Engines: every case once, whatever happens to single cases and to those who work on them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.engine import dask as of_dask
from medseg.engine.dask import DaskEngine
from medseg.engine.engine import Engine, Failure
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from tests.engine.tasks import Square, divide, process

SQUARES = [(n, n * n) for n in range(7)]
FAILED = Failure("case 3: can't be read")


@pytest.fixture(params=["one process", "two processes", "two workers of Dask"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = {
        "one process": lambda: LocalEngine(),
        "two processes": lambda: LocalEngine(2),
        "two workers of Dask": lambda: DaskEngine(workers=2),
    }[request.param]()
    made.check()
    with made:
        yield made


def test_an_engine_calls_the_function_for_each_case_once(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = sorted(engine.map(Square(tmp_path, fails=(3,)), range(7)), key=lambda pair: pair[0])
    assert found == [(n, FAILED if n == 3 else n * n) for n in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}-0" for n in range(7)]
    lines = sorted(capsys.readouterr().err.splitlines())
    assert lines == [f"warning: case {n}" for n in range(7)], "messages of workers are printed by the command"
    with pytest.raises(ZeroDivisionError):  # a defect, not a bad case
        list(engine.map(divide, [1, 0]))


def test_a_case_is_taken_when_a_worker_is_free(tmp_path: Path) -> None:
    taken: list[int] = []

    def cases() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    with LocalEngine(2) as engine:
        for done, _ in enumerate(engine.map(process, cases())):
            assert len(taken) <= done + 4, "no more than two in work, and two that have just ended"
    assert len(taken) == 50


def test_this_process_works_on_one_case_after_the_other() -> None:
    seen: list[str] = []

    def cases() -> Iterator[int]:
        for number in range(3):
            seen.append(f"take {number}")
            yield number

    def call(case: int) -> None:
        seen.append(f"call {case}")

    for case, _ in LocalEngine().map(call, cases()):
        seen += [f"result {case}"]
    assert seen == [f"{word} {n}" for n in range(3) for word in ("take", "call", "result")]


def test_processes_stay_for_further_cases_and_end_with_the_engine() -> None:
    with LocalEngine(2) as engine:
        first = {found for _, found in engine.map(process, range(2))}
        second = {found for _, found in engine.map(process, range(6))}
        assert second <= first
        assert os.getpid() not in first
    for pid in map(int, first):  # type: ignore[arg-type]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_dies_costs_its_case_one_attempt(tmp_path: Path) -> None:
    with LocalEngine(2) as engine:
        found = dict(engine.map(Square(tmp_path, dies_once=(1,), dies=(4,)), range(7)))
    assert {case: value for case, value in found.items() if case != 4} == dict(p for p in SQUARES if p[0] != 4)
    assert isinstance(found[4], Failure)
    assert "died, 3 times in a row" in found[4].reason
    calls = [len(list(tmp_path.glob(f"{n}-*"))) for n in range(7)]
    assert calls == [1, 2, 1, 1, 3, 1, 1], "the others are worked on once"


@pytest.mark.slow
def test_a_worker_of_dask_that_dies_costs_its_case_one_attempt(tmp_path: Path) -> None:
    with DaskEngine(workers=2) as engine:
        found = dict(engine.map(Square(tmp_path, dies_once=(1,), dies=(4,)), range(7)))
    assert {case: value for case, value in found.items() if case != 4} == dict(p for p in SQUARES if p[0] != 4)
    assert isinstance(found[4], Failure)
    assert "died, 3 times in a row" in found[4].reason


def test_workers_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("medseg.engine.calls.cores", lambda: 6)
    with LocalEngine(2) as engine:
        list(engine.map(Square(tmp_path), [1]))
    assert (tmp_path / "1-0").read_text() == "3"


def test_a_number_of_threads_that_was_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with LocalEngine(2) as engine:
        list(engine.map(Square(tmp_path), [1]))
    assert (tmp_path / "1-0").read_text() == "5"


def test_an_address_where_nobody_answers_is_one_line() -> None:
    engine = DaskEngine(address="tcp://127.0.0.1:9", timeout=0.2)
    with pytest.raises(
        InputError, match=r"engine\.address=tcp://127\.0\.0\.1:9: no Dask scheduler answers within 0\.2 s"
    ):
        engine.check()
    with pytest.raises(InputError, match=r"engine\.address=nothing://x:1: .*unknown address scheme"):
        DaskEngine(address="nothing://x:1", timeout=0.2).check()


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_dask, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs distributed, not installed; pip install 'medseg\[dask\]'"):
        DaskEngine().check()
    with pytest.raises(InputError, match=r"needs distributed and dask_jobqueue, not installed"):
        DaskEngine(jobqueue="slurm").check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobqueue": "lsf"}, r"engine\.jobqueue=lsf: expected slurm or pbs"),
        ({"jobqueue": "slurm", "address": "tcp://x:1"}, r"engine\.address=tcp://x:1 and engine\.jobqueue=slurm"),
        ({"job": {"cores": 1}}, r"engine\.job=\{'cores': 1\}: needs engine\.jobqueue"),
    ],
)
def test_settings_that_exclude_each_other_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DaskEngine(**settings)  # type: ignore[arg-type]
