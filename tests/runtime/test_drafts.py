import os
import subprocess
import sys
from pathlib import Path

from medseg.runtime import drafts


def test_drafts_of_processes_that_ended_are_removed_and_others_stay(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    own = drafts.draft_folder(tmp_path, ".building-")
    dead = own.with_name(own.name.replace(f".{os.getpid()}-", f".{int(ended.stdout)}-"))
    elsewhere = tmp_path / f".building-another.{int(ended.stdout)}-abc"
    for folder in (dead, elsewhere):
        folder.mkdir()
    (dead / "image.b2nd").touch()
    assert drafts.remove_dead_folders(tmp_path, ".building-") == [dead]
    assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere])


def test_drafts_of_files_are_told_by_their_names(tmp_path: Path) -> None:
    for name in (".best.ckpt.12", ".metrics.json.7.part", ".lock", "best.ckpt", ".hidden.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in drafts.remove_files(tmp_path)] == [".best.ckpt.12", ".metrics.json.7.part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden.txt", ".lock", "best.ckpt"]
