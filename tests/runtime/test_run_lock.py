import fcntl
import os
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.runtime.run_lock import locked


def test_a_second_one_is_refused_with_the_process_that_holds_the_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        message = rf"run_dir={tmp_path}: another training writes into it \(process {os.getpid()} on "
        with pytest.raises(InputError, match=message), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on another machine: medseg-train")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text(encoding="utf-8").startswith(f"process {os.getpid()} ")


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()
    flock, removed = fcntl.flock, []

    def slow(stream: object, how: int) -> None:
        flock(stream, how)  # type: ignore[arg-type]
        if not removed:
            removed.append((tmp_path / ".lock").unlink())

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_folders_that_stay_empty_are_removed_again(tmp_path: Path) -> None:
    with locked(tmp_path / "a/b"):
        assert (tmp_path / "a/b").is_dir()
    assert not (tmp_path / "a").exists()


def test_on_a_file_system_without_locks_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        pass
