"""Labels of several observers, joined into one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.data.dataset import Dataset
from medseg.data.datasets.several_observers import staple
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.conf import composed
from medseg.labels import IGNORE
from medseg.labels.majority import majority

SHAPE = (20, 30)


def test_majority_by_hand() -> None:
    votes = np.array([[0, 1, 2, 0, IGNORE, IGNORE], [0, 2, 2, 1, 1, IGNORE], [1, 2, 0, 2, IGNORE, IGNORE]])
    assert majority(votes, 3).tolist() == [0, 2, 2, 0, 1, IGNORE]


def test_staple_trusts_observers_that_agree() -> None:
    """Two careful observers differ in a few cells from the truth, three careless ones label everything."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SHAPE, dtype=np.int64)
    truth[5:15, 8:20] = 1
    votes = np.stack([np.where(rng.random(SHAPE) < 0.02, 1 - truth, truth) for _ in range(3)])
    votes = np.concatenate([votes, np.where(rng.random((2, *SHAPE)) < 0.4, 1 - truth, truth)])
    by_staple, by_majority = ((rule(votes, 2) != truth).sum() for rule in (staple, majority))
    assert by_staple < by_majority
    assert by_staple <= 10
    votes[:3, 0, 0], votes[3:, 0, 0] = IGNORE, 1
    assert staple(votes, 2)[0, 0] == 1  # as the majority of those who do not ignore it
    assert (staple(np.full((2, 4, 4), IGNORE), 2) == IGNORE).all()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    grid = Grid(SHAPE, np.eye(3), PIXEL)
    for folder in ("images", "anna", "bert", "carl"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for case in ("a", "b"):
        formats.write_image(tmp_path / f"raw/images/{case}.tif", np.ones((1, *SHAPE), np.float32), grid, names=["B1"])
        for column, observer in enumerate(("anna", "bert", "carl")):
            label = np.full(SHAPE, 3, np.uint8)
            label[:, column : column + 10] = 7
            label[0] = 255
            formats.write(tmp_path / f"raw/{observer}/{case}.tif", label, grid)
    return tmp_path


def source_of(root: Path, *own: str) -> Dataset:
    words = ["data=rasters", f"data.root={root}/raw", "data.channels=[B1]", "data.labels={a: 3, b: 7, ignore: 255}"]
    masks = "data.masks={anna: anna, bert: bert, carl: carl}"
    return build_dataset(composed("train", [*words, masks, f"cache_dir={root}/cache", *own]))


def test_the_label_of_a_case_is_that_of_the_majority(root: Path) -> None:
    source = source_of(root)
    cases = source.cases()
    assert [case.id for case in cases] == ["a", "b"]
    label = source.read(cases[0]).label
    assert label is not None
    assert (label[0] == IGNORE).all()
    expected = np.zeros(SHAPE[1])
    expected[1:11] = 1  # columns that two of three have labelled
    assert (label[1:] == expected).all()
    assert formats.open(cases[0].label).read()[0, 1, 1] == 7
    again = source_of(root).cases()
    assert [case.label for case in again] == [case.label for case in cases]
    shutil.copy(root / "raw/carl/a.tif", root / "raw/anna/a.tif")
    changed = source_of(root).cases()
    assert changed[0].label != cases[0].label
    assert changed[1].label == cases[1].label
    assert source_of(root, "data.annotations=staple").cases()[1].label != cases[1].label


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["data.annotations=mean"], r"data\.annotations=mean: expected one of majority, staple"),
        (["~data.masks", "+data.masks={anna: anna}"], "got labels of 1 observer"),
        (
            ["~data.masks", "+data.masks=anna", "data.annotations=staple"],
            "name their folders, as in data.label_folder=",
        ),
        (["data.mask_colours={a: [0, 0, 0]}"], "labels that hold values, not colours"),
    ],
)
def test_settings_that_are_refused(root: Path, own: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_of(root, *own)


def test_a_case_that_an_observer_has_not_labelled_is_refused(root: Path) -> None:
    (root / "raw/bert/b.tif").unlink()
    with pytest.raises(InputError, match=r"without one of the same name in .*/bert: b; add the files"):
        source_of(root).cases()
