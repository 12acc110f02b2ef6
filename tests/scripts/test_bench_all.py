"""scripts/bench_all.py: every benchmark has a short run, and its options are those of the script."""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.prepared import SCRIPTS, script

bench_all = script("bench_all")


def test_every_benchmark_has_a_short_run() -> None:
    assert {path.stem for path in SCRIPTS.glob("bench_*.py")} - {"bench_all"} <= set(bench_all.SHORT)
    assert set(bench_all.FOLDERS) <= set(bench_all.SHORT)


class Parsed(Exception):
    """Raised where a script has read its arguments, before it does anything."""


@pytest.mark.parametrize("name", [name for name in bench_all.SHORT if name != "bench_checkpoint"])
def test_a_script_takes_the_options_of_its_short_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any) -> None:
        read(parser, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", bench_all.command(name, str(tmp_path)))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    with pytest.raises(Parsed):
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")


def test_listing_runs_nothing_and_names_each_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_all.py", "--list"])
    bench_all.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(bench_all.SHORT)
    assert "$ python scripts/bench_loader.py --root DIR/hippocampus --rounds 1 --batches 2" in lines


def test_what_needs_data_is_not_run_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_all.py", "--only", "bench_loader"])
    bench_all.main()
    assert "bench_loader: not run, needs --data DIR" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in bench_all.SHORT if name not in bench_all.FOLDERS])
def test_short_run_ends_well(name: str) -> None:
    assert bench_all.run(name, "")
