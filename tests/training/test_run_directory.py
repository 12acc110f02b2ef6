"""Which folder a training writes into, what it resumes, and that it is alone in it."""

import os
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.run_directory import owned, run_folder

DATE, LATER = "2026-01-31_12-00-00", "2026-02-01_12-00-00"


def begun(folder: Path, *, checkpoint: bool, name: str = "ct", age: int = 0) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    files = [folder / "config.yaml", *([folder / "checkpoints/last.ckpt"] if checkpoint else [])]
    for file in files:
        file.write_text(f"name: {name}\n")
        os.utime(file, (2e9 - age, 2e9 - age))
    return folder


def chosen(run_dir: Path | str, ckpt_path: str = "last") -> tuple[Path, Path | None]:
    return run_folder(compose("train", ["name=ct", f"run_dir={run_dir}", f"ckpt_path={ckpt_path}"]))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs/ct")


def test_a_folder_that_was_chosen_is_the_folder_whatever_lies_next_to_it(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(runs / "first", checkpoint=True)
    assert chosen(runs / "second") == (runs / "second", None)
    warning = "warning: ckpt_path=last: there is no run to resume in runs/ct/second; it starts from scratch\n"
    assert capsys.readouterr().err == warning
    assert not (runs / "second").exists()


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again_in_its_folder(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(runs / "first", checkpoint=True)
    begun(runs / "second", checkpoint=False)
    assert chosen(runs / "second") == (runs / "second", None)
    assert "the run has no checkpoint yet in runs/ct/second; it starts from scratch" in capsys.readouterr().err


def test_the_dated_default_takes_the_newest_run_of_its_name(runs: Path) -> None:
    begun(runs / "older", checkpoint=True, age=9)
    newest = begun(runs / DATE, checkpoint=True)
    begun(runs / "another", checkpoint=True, name="mr", age=-9)
    assert chosen(runs / LATER) == (newest, newest / "checkpoints/last.ckpt")


def test_the_dated_default_begins_again_what_was_killed_last(runs: Path) -> None:
    begun(runs / "older", checkpoint=True, age=9)
    newest = begun(runs / DATE, checkpoint=False)
    assert chosen(runs / LATER) == (newest, None)


def test_the_dated_default_starts_from_scratch_where_there_is_no_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(runs / DATE) == (runs / DATE, None)
    assert f"there is no run to resume in runs/ct/{DATE}" in capsys.readouterr().err


def test_its_own_checkpoint_is_resumed(runs: Path) -> None:
    own = begun(runs / "first", checkpoint=True)
    assert chosen(own) == (own, own / "checkpoints/last.ckpt")
    assert chosen(own, str(own / "checkpoints/last.ckpt")) == (own, own / "checkpoints/last.ckpt")


def test_what_finished_while_this_one_started_is_not_overwritten(tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run", checkpoint=True)
    with pytest.raises(InputError, match="already holds a training"), owned(run_dir, None):
        pass


def test_drafts_of_killed_trainings_are_removed(tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run", checkpoint=True)
    for draft in (".metrics.json.123.part", "checkpoints/.best.ckpt.123"):
        (run_dir / draft).touch()
    with owned(run_dir, run_dir / "checkpoints/last.ckpt"):
        left = sorted(path.name for path in run_dir.rglob("*") if path.is_file())
    assert left == [".lock", "config.yaml", "last.ckpt"]
    assert not (run_dir / ".lock").exists()


def test_other_ranks_leave_the_folder_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with owned(tmp_path / "run", None):
        assert not (tmp_path / "run").exists()
