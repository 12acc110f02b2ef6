from pathlib import Path

import pytest

from medseg.runtime import drafts
from medseg.runtime.atomic import atomic_file, atomic_folder, write_together, write_whole


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "told.txt"
    for text in ("Größe: 1 µm\n", "2\n"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["told.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "told.txt"
    path.write_text("old")

    def fail(self: Path, text: str, encoding: str) -> None:
        with self.open("w", encoding=encoding) as file:
            file.write(text[:2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["told.txt"]


def test_of_several_files_all_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    write_together(dict.fromkeys(paths, "old"))
    write = Path.write_text

    def fail(self: Path, text: str, encoding: str) -> int:
        if self.name.startswith(".c."):
            raise OSError(28, "No space left on device", str(self))
        return write(self, text, encoding=encoding)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        write_together(dict.fromkeys(paths, "new"))
    assert [path.read_text(encoding="utf-8") for path in sorted(tmp_path.iterdir())] == ["old"] * 3


def test_a_draft_takes_the_place_of_its_target_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 240 + ".nii.gz")  # as long as names may be, almost
    with atomic_file(target, suffix=".nii.gz") as draft:
        draft.write_text("new")
        assert not target.exists()
        assert draft.name.endswith(".nii.gz")
        assert draft.parent == target.parent
    assert (target.read_text(), [p.name for p in tmp_path.iterdir()]) == ("new", [target.name])
    with pytest.raises(TypeError), atomic_file(target, suffix=".nii.gz") as draft:
        draft.write_text(draft)  # type: ignore[arg-type]
    assert (target.read_text(), [p.name for p in tmp_path.iterdir()]) == ("new", [target.name])


def test_what_a_kill_leaves_of_a_draft_is_found(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "last.ckpt") as draft:
        draft.write_text("1")
        assert drafts.remove_files(tmp_path) == [draft]
        draft.write_text("2")
    assert (tmp_path / "last.ckpt").read_text() == "2"


def test_of_two_that_make_a_folder_the_first_one_stays(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    with atomic_folder(folder, ".building-") as one, atomic_folder(folder, ".building-") as two:
        (one / "a").write_text("one")
        (two / "a").write_text("two")
    assert (folder / "a").read_text() == "two", "the inner block ended first"
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "other", ".building-") as draft:
        (draft / "a" / "b").write_text("its folder is missing")
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
