import errno
import hashlib
import subprocess
from pathlib import Path

import pytest

from medseg.data.conversion.preparation import MANIFEST, SETTINGS, Preparation, Work
from medseg.errors import InputError


class Killed(BaseException):
    """What no handler of errors stops, as a signal."""


def entry(number: int, log: list[int] | None = None, *, dies: bool = False) -> Work:
    def write(image: Path, label: Path) -> None:
        image.write_bytes(bytes([number]) * 10)
        if dies:
            raise Killed
        label.write_text(f"label {number}")
        if log is not None:
            log.append(number)

    return Work(f"c{number}", (f"images/c{number}.bin", f"labels/c{number}.txt"), write)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_their_checksums_are_written(tmp_path: Path) -> None:
    assert Preparation(tmp_path / "out", "set").fill([entry(n) for n in range(3)]) == 3
    written = content(tmp_path / "out")
    assert set(written) == {MANIFEST, SETTINGS, *(f for n in range(3) for f in entry(n).files)}
    assert written["images/c2.bin"] == b"\2" * 10
    lines = [line.split("  ") for line in written[MANIFEST].decode().splitlines()]
    assert {path: digest for digest, path in lines} == {
        path: hashlib.sha256(cells).hexdigest() for path, cells in written.items() if "/" in path
    }
    checked = subprocess.run(["sha256sum", "--check", MANIFEST], cwd=tmp_path / "out", capture_output=True, check=False)
    assert checked.returncode == 0


def test_a_killed_run_goes_on_to_the_same_bytes_and_does_nothing_twice(tmp_path: Path) -> None:
    Preparation(tmp_path / "whole", "set").fill([entry(n) for n in range(4)])
    killed, log = Preparation(tmp_path / "killed", "set"), list[int]()
    with pytest.raises(Killed):
        killed.fill([entry(0, log), entry(1, log), entry(2, log, dies=True), entry(3, log)])
    assert log == [0, 1]
    assert not (tmp_path / "killed/images/c2.bin").exists()
    with (tmp_path / "killed" / MANIFEST).open("a") as manifest:
        manifest.write("0123")  # a line that was cut off
    (tmp_path / "killed/.drafts").mkdir()
    (tmp_path / "killed/.drafts/0_c2.bin").write_text("left over")
    assert killed.fill([entry(n, log) for n in range(4)]) == 2
    assert log == [0, 1, 2, 3]
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert killed.fill([entry(n, log) for n in range(4)]) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["change", "delete"])
def test_a_damaged_file_is_found_and_written_anew(tmp_path: Path, damage: str) -> None:
    work, preparation = [entry(n) for n in range(3)], Preparation(tmp_path, "set")
    preparation.fill(work)
    before = content(tmp_path)
    assert preparation.damaged(work) == []
    victim = tmp_path / "labels/c1.txt"
    victim.write_text("label 7") if damage == "change" else victim.unlink()
    assert preparation.damaged(work) == ["labels/c1.txt"]
    assert preparation.fill(work) == 1
    assert content(tmp_path) == before


def test_a_file_that_is_not_done_yet_counts_as_damaged(tmp_path: Path) -> None:
    preparation = Preparation(tmp_path, "set")
    preparation.fill([entry(0)])
    assert preparation.damaged([entry(0), entry(1)]) == ["images/c1.bin", "labels/c1.txt"]


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty and is no preparation of set"):
        Preparation(tmp_path / "mine", "set").fill([entry(0)])
    assert content(tmp_path / "mine") == {"thesis.txt": b"x"}
    Preparation(tmp_path / "a", "set", {"classes": "all"}).fill([entry(0)])
    with pytest.raises(InputError, match=r"got .*'classes': 'all'.*expected .*'classes': 'few'"):
        Preparation(tmp_path / "a", "set", {"classes": "few"}).fill([entry(0)])
    with pytest.raises(InputError, match="nothing was prepared here yet"):
        Preparation(tmp_path / "b", "set").damaged([entry(0)])
    assert not (tmp_path / "b").exists()


def test_an_unreadable_source_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(draft: Path) -> None:
        (tmp_path / "gone").read_bytes()

    bad = [Work(f"c{number}", (f"c{number}.bin",), write) for number in (8, 9)]
    folder = Preparation(tmp_path / "out", "set")
    with pytest.raises(InputError, match=r"set, c9: .*No such file.*; fix or .* anew \(the other 2 of 3 cases are in"):
        folder.fill([entry(0), bad[1], entry(1)])
    assert set(content(tmp_path / "out")) == {MANIFEST, SETTINGS, *entry(0).files, *entry(1).files}
    with pytest.raises(InputError, match="2 of 4 cases could not be prepared and are listed above"):
        folder.fill([entry(0), *bad, entry(1)])
    lines = capsys.readouterr().err.splitlines()
    assert [line[:20] for line in lines] == ["error: c8: set, c8: ", "error: c9: set, c9: "]
    assert folder.fill([entry(0), entry(1)]) == 0, "what was written counts"


def test_a_full_disk_ends_a_preparation(tmp_path: Path) -> None:
    def write(draft: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        Preparation(tmp_path / "out", "set").fill([Work("c9", ("c9.bin",), write), entry(0)])
    assert set(content(tmp_path / "out")) == {MANIFEST, SETTINGS}
