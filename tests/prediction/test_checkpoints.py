"""What ``checkpoint`` may name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.errors import InputError
from medseg.prediction.checkpoints import Choice, find_checkpoints


def run(folder: Path, *names: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    for name in names:
        (folder / "checkpoints" / name).touch()
    return folder


def selection(folder: Path, **changes: Any) -> Path:
    stored = {"format": 1, "members": [{"checkpoint": "a.ckpt", "digest": "1f"}], "flips": None, "postprocessing": []}
    path = folder / "selection.yaml"
    path.write_text(yaml.safe_dump(stored | changes))
    return path


def test_a_file_is_itself(tmp_path: Path) -> None:
    assert find_checkpoints(tmp_path / "any.ckpt") == Choice((tmp_path / "any.ckpt",), (None,))


def test_a_run_is_its_best_checkpoint(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "best.ckpt", "last.ckpt")
    assert find_checkpoints(str(folder)).paths == (folder / "checkpoints/best.ckpt",)


def test_a_sweep_is_all_its_runs_in_order(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        run(tmp_path / str(number), "best.ckpt")
    (tmp_path / "comparison.json").touch()
    assert [path.parts[-3] for path in find_checkpoints(tmp_path).paths] == ["0", "9", "10"]


def test_a_cross_validation_lists_its_runs(tmp_path: Path) -> None:
    """Of a sweep over folds and settings, the folder of a setting."""
    for name in ("0", "1", "2"):
        run(tmp_path / name, "best.ckpt")
    setting = tmp_path / "optimizer.lr=0.1"
    setting.mkdir()
    (setting / "metrics.json").write_text('{"folds": [{"run": "../0"}, {"run": "../2"}]}')
    assert [path.resolve().parts[-3] for path in find_checkpoints(setting).paths] == ["0", "2"]
    (setting / "metrics.json").write_text('{"folds": [3]}')
    with pytest.raises(InputError, match=r"metrics.json: is not that of a cross-validation \(TypeError\)"):
        find_checkpoints(setting)


def test_a_list_may_mix_files_and_folders(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "best.ckpt")
    assert find_checkpoints([tmp_path / "any.ckpt", str(folder)]).paths == (
        tmp_path / "any.ckpt",
        folder / "checkpoints/best.ckpt",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "the run has no checkpoint; train it"), (("last.ckpt",), "no checkpoints/best.ckpt, only last.ckpt.*name ")],
)
def test_runs_without_a_checkpoint_are_named(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    run(tmp_path / "0", "best.ckpt")
    run(tmp_path / "1", *names)
    with pytest.raises(InputError, match=rf"checkpoint={tmp_path}/1: .*{message}"):
        find_checkpoints(tmp_path)


def test_other_folders_and_empty_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoints/best.ckpt in it and no folders of runs"):
        find_checkpoints(tmp_path)
    with pytest.raises(InputError, match=r"checkpoint=\[\]: expected at least one"):
        find_checkpoints([])
    with pytest.raises(InputError, match=r"a.ckpt is named twice"):
        find_checkpoints(["a.ckpt", "a.ckpt"])


def test_a_selection_names_members_next_to_it(tmp_path: Path) -> None:
    steps = [{"step": "keep_largest", "classes": ["liver"]}]
    members = [{"checkpoint": "runs/a.ckpt", "digest": "1f"}, {"checkpoint": "/elsewhere/b.ckpt"}]
    choice = find_checkpoints(selection(tmp_path, members=members, flips=True, postprocessing=steps))
    assert choice.paths == (tmp_path / "runs/a.ckpt", Path("/elsewhere/b.ckpt"))
    assert (choice.digests, choice.flips, choice.postprocessing) == (("1f", None), True, tuple(steps))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has the format 2, expected 1"),
        ({"members": []}, "got 0 members"),
        ({"flips": "often"}, "flips=often, expected"),
        ({"members": [{"path": "a.ckpt"}]}, r"is not a selection of medseg-select \(KeyError\)"),
        ({"postprocessing": 3}, r"is not a selection of medseg-select \(TypeError\)"),
    ],
)
def test_selections_that_medseg_did_not_write(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        find_checkpoints(selection(tmp_path, **changes))


def test_a_selection_is_no_member_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a selection stands by itself, not in a list"):
        find_checkpoints([selection(tmp_path), "a.ckpt"])
    with pytest.raises(InputError, match="a selection stands by itself"):
        find_checkpoints([tmp_path / "missing.yaml"])
