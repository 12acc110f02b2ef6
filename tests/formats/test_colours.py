from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg import formats
from medseg.errors import InputError
from medseg.formats.colours import ColourMask, colours_by_name
from medseg.geometry.box import Box
from medseg.labels import LabelTable

TABLE = LabelTable.declare({"land": [3, 4], "water": 7, "ignore": [255, 0]}, merge=True, background=None)
GIVEN: dict[str, Any] = {"water": [0, 0, 255], "land": [[0, 255, 0], [0, 254, 0]], "ignore": [0, 0, 0]}
COLOURS = colours_by_name(GIVEN)


def picture(folder: Path, cells: np.ndarray) -> Path:
    Image.fromarray(cells).save(folder / "mask.png")
    return folder / "mask.png"


def test_colours_become_raw_values(tmp_path: Path) -> None:
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0, 0], rgb[0, 1], rgb[1, 2] = (0, 0, 255), (0, 255, 0), (0, 254, 0)
    mask = ColourMask(formats.open(picture(tmp_path, rgb)), COLOURS, TABLE)
    np.testing.assert_array_equal(mask.read(), [[[7, 3, 255], [255, 255, 3]]])
    np.testing.assert_array_equal(mask.read(Box((0, 1), (2, 2))), [[[3], [255]]])
    assert (mask.n_channels, mask.grid.shape) == (1, (2, 3))


def test_transparent_cells_are_not_valid(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, :, 3] = 255
    mask = ColourMask(formats.open(picture(tmp_path, rgba)), COLOURS, TABLE)
    np.testing.assert_array_equal(mask.read_valid()[1], [[True, True], [False, False]])


def test_colours_of_no_class_are_counted(tmp_path: Path) -> None:
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0], rgb[1, 0] = (9, 8, 7), (255, 255, 255)
    mask = ColourMask(formats.open(picture(tmp_path, rgb)), COLOURS, TABLE)
    with pytest.raises(
        InputError, match=r"mask\.png: 2 colour\(s\) of no class, such as \{\(9, 8, 7\): 3, \(255, 255, 255"
    ):
        mask.read()


def test_masks_of_values_are_refused(tmp_path: Path) -> None:
    grey = formats.open(picture(tmp_path, np.zeros((2, 2), np.uint8)))
    with pytest.raises(InputError, match=r"got 1 channel\(s\) of uint8, but data\.mask_colours expects 3"):
        ColourMask(grey, COLOURS, TABLE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"water": [0, 0]}, r"\[0, 0\] is no colour, expected \[red, green, blue\] of 0 to 255"),
        ({"water": [0, 0, 256]}, r"\[0, 0, 256\] is no colour"),
        ({"water": [0, 0, 1], "land": [[0, 0, 1]]}, r"got \[0, 0, 1\] more than once"),
    ],
)
def test_unsound_colours_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        colours_by_name(given)


def test_unknown_classes_are_named(tmp_path: Path) -> None:
    source = formats.open(picture(tmp_path, np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(
        InputError, match=r"data\.mask_colours names \['sea'\], classes are \['land', 'water', 'ignore'\]"
    ):
        ColourMask(source, colours_by_name({"sea": [1, 1, 1]}), TABLE)
