"""Which networks a selection may choose from, and which folders it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.sample import Channel
from medseg.selection.members import read_members
from tests.selection.runs import CASES, write_folds, write_run
from tests.tiny_checkpoint import SPEC


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("members")
    write_folds(place / "A", place)
    write_folds(place / "B", place, seed=1)
    return place


def test_a_cross_validation_has_a_network_for_each_fold(place: Path) -> None:
    one, two = read_members([place / "A", place / "B"])
    assert (one.name, two.name) == ("A", "B")
    assert [network.path.parent.parent.name for network in one.networks] == ["0", "1", "2"]
    assert one.network_of == {case: i // 2 for i, case in enumerate(CASES)}
    assert len({network.digest for member in (one, two) for network in member.networks}) == 6


def test_runs_are_those_that_the_cross_validation_lists(place: Path, tmp_path: Path) -> None:
    """As in a sweep of several settings, where each has a folder of its own."""
    folds = [{"run": str(place / "A" / str(fold))} for fold in (0, 2)]
    (tmp_path / "metrics.json").write_text(json.dumps({"folds": folds}))
    (member,) = read_members([tmp_path])
    assert sorted(member.network_of) == [*CASES[:2], *CASES[4:]]
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(
        InputError, match=r"metrics.json: is not that of a cross-validation \(JSONDecodeError\); repeat"
    ):
        read_members([tmp_path])


def test_single_runs_of_one_fold_are_members_too(place: Path) -> None:
    one, two = read_members([place / "A/1", place / "B/1"])
    assert (one.name, two.name) == ("A/1", "B/1")
    assert sorted(one.network_of) == sorted(two.network_of) == CASES[2:4]


Write = Callable[[Path, Path], object]


def other_spec(**changes: object) -> Write:
    return lambda folder, place: write_folds(folder, place, spec=replace(SPEC, **changes))  # type: ignore[arg-type]


def of_fold(fold: int, val: list[str], train: list[str], **settings: object) -> Write:
    return lambda folder, place: write_run(folder, place, fold=fold, val=val, train=train, **settings)  # type: ignore[arg-type]


def without_checkpoint(folder: Path, place: Path) -> None:
    shutil.copytree(place / "A", folder)
    shutil.rmtree(folder / "1/checkpoints")


def of_several_settings(folder: Path, place: Path) -> None:
    write_run(folder / "0", place, fold=0, val=CASES[:3], train=CASES[3:])
    write_run(folder / "1", place, fold=1, val=CASES[3:], train=CASES[:3], words=["optimizer.lr=0.5"])


def of_other_files(folder: Path, place: Path) -> None:
    write_run(folder / "0", place, fold=0, val=CASES[:3], train=CASES[3:], files={CASES[0]: "abc"})
    write_run(folder / "1", place, fold=1, val=CASES[3:], train=CASES[:3], files={CASES[0]: "xyz"})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder, place: folder.mkdir(), "C holds no run .*and no cross-validation; give the run_dir"),
        (without_checkpoint, r"C/1 has no checkpoints/best\.ckpt; train it to its end, or leave it out"),
        (
            other_spec(channels=(Channel("R"), Channel("B"))),
            r"runs: .*C/0/.* has channels \['R', 'B'\], expected \['R', 'G'\]",
        ),
        (
            other_spec(labels=LabelTable.declare({"background": 0, "a": 1, "c": 2})),
            r"classes \('background', 'a', 'c'\), expected \('background', 'a', 'b'\)",
        ),
        (of_fold(0, CASES, CASES[1:]), r"was trained on 5 of the cases that it validates on \(case_1.*split.fold=all"),
        (of_fold(0, CASES[:2], CASES[2:]), r"C has no out-of-fold prediction of 4 cases of A \(case_2, case_3.*finish"),
        (of_fold(0, ["other"], CASES), "C has no out-of-fold prediction of 6 cases of A"),
        (of_several_settings, r"differ in optimizer\.lr \(0\.001 and 0\.5\); name each configuration"),
        (of_other_files, r"case case_0 had other files in .*C/0.* than in .*C/1"),
    ],
)
def test_what_cannot_be_a_member_is_one_line(place: Path, tmp_path: Path, write: Write, message: str) -> None:
    write(tmp_path / "C", place)
    with pytest.raises(InputError, match=message) as refused:
        read_members([place / "A", tmp_path / "C"])
    assert "\n" not in str(refused.value)


def test_a_folder_twice_or_none_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match="a folder is listed twice"):
        read_members([place / "A", place / "A/../A"])
    with pytest.raises(InputError, match=r"runs=\[\]: expected folders"):
        read_members([])


def test_two_networks_for_a_case_are_refused(place: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        write_run(tmp_path / str(number), place, fold=number, val=CASES[:3], train=CASES[3:])
    with pytest.raises(InputError, match=r"case case_0 validates in .*0/checkpoints.* and in .*1/checkpoints"):
        read_members([tmp_path])
