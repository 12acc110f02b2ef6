from pathlib import Path

import pytest

from medseg.data.synthetic.cache import draw_once, settings_folder
from medseg.errors import InputError


def write(folder: Path) -> None:
    (folder / "file").write_text("drawn")


def test_a_folder_for_each_choice_of_settings(tmp_path: Path) -> None:
    choices = [{"seed": 0, "n": 2}, {"seed": 1, "n": 2}, {"seed": 0, "n": 3}]
    assert len({settings_folder(tmp_path, choice) for choice in choices}) == 3
    folder = settings_folder(tmp_path, {"n": 2, "seed": 0})
    assert folder == settings_folder(str(tmp_path), choices[0])
    assert folder.parent == tmp_path


def test_it_is_drawn_once_and_readable_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "scenes"
    draw_once(folder, write)
    assert (folder / "file").read_text(encoding="utf-8") == "drawn"
    assert folder.stat().st_mode & 0o777 == 0o755
    draw_once(folder, lambda _: pytest.fail("drawn twice"))
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, kind: type[BaseException]) -> None:
    def interrupted(folder: Path) -> None:
        write(folder)
        raise kind

    with pytest.raises(kind):
        draw_once(tmp_path / "scenes", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_draw_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"

    def overtaken(draft: Path) -> None:
        draw_once(folder, write)  # the other process, done before this one
        (draft / "file").write_text("late")

    draw_once(folder, overtaken)
    assert (folder / "file").read_text(encoding="utf-8") == "drawn"
    assert list(tmp_path.iterdir()) == [folder]


def test_nothing_is_drawn_into_a_folder_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(
        InputError, match=r"holds imagesTr, among which no drawn cases are put; say how your own lie there"
    ):
        draw_once(settings_folder(tmp_path, {"seed": 0}), lambda _: pytest.fail("drawn"))
    (tmp_path / "imagesTr").rmdir()
    for seed in (0, 1):  # beside others that were drawn
        draw_once(settings_folder(tmp_path, {"seed": seed}), write)
    assert len(list(tmp_path.iterdir())) == 2
