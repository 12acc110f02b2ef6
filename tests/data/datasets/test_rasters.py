"""Scenes and images: what a configuration says of them, and how it is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose

GRID = Grid((6, 8), np.eye(3), PIXEL)


def dataset(root: Path, *overrides: str, kind: str = "rasters") -> Any:
    labels = [] if any(o.startswith("data.labels") for o in overrides) else ["data.labels={background: 0, road: 1}"]
    return build_dataset(compose("train", [f"data={kind}", f"data.root={root}", *labels, *overrides]))


@pytest.mark.parametrize("kind", ["rasters", "volumes"])
def test_numbers_of_bands_are_refused_as_they_were_given(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.channels=\[1, 2, 3\]: got numbers, expected names, such as \[CT\]"):
        dataset(tmp_path, "data.channels=[1,2,3]", kind=kind)


@pytest.mark.parametrize("labels", ["{0: background, 1: road}", "[background, road]"])
def test_labels_by_value_and_by_place(labels: str, tmp_path: Path) -> None:
    one = dataset(tmp_path, "data.channels=[B4]", f"data.labels={labels}")
    assert one.spec.labels == dataset(tmp_path, "data.channels=[B4]").spec.labels
    assert one.spec.labels.background


def test_grey_images_name_their_cure(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        formats.write(tmp_path / folder / "a.png", np.ones(GRID.shape, np.uint8), GRID)
    source = dataset(tmp_path, kind="images")
    with pytest.raises(
        InputError, match=r"1 channel\(s\) in .*a\.png, expected 3 \['R', 'G', 'B'\]; .*channels=\[grey\]"
    ):
        source.open(source.cases()[0])
    cured = dataset(tmp_path, "data.channels=[grey]", kind="images")
    assert cured.open(cured.cases()[0]).read().image.shape == (1, 6, 8)


def test_validity_of_single_dates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clear").mkdir()
    (tmp_path / "clear/p00_20150711.tif").touch()
    own = ("data.channels=[B4]", "data.valid=clear")
    with pytest.raises(InputError, match=r"data\.valid=clear: p00_20150711\.tif is a validity mask of one date"):
        dataset(tmp_path, *own, "data.dates={}")
    dataset(tmp_path, *own)


def test_one_class_is_no_regression(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got \['height'\], expected at least two classes.*\(regression\)"):
        dataset(tmp_path, "data.channels=[B4]", "data.labels={height: 0}")
