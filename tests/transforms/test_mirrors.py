"""Sides of classes decide which axes may be mirrored."""

import pytest

from medseg.labels import LabelTable
from medseg.transforms.mirrors import allowed_mirrors, far_turned
from medseg.transforms.spatial import Rotation
from medseg.transforms.turns import RandomRotate90

PAIRED = LabelTable.declare({"background": 0, "left kidney": 1, "right kidney": 2})
ONE_SIDED = LabelTable.declare({"background": 0, "left kidney": 1, "spleen": 2})
DECLARED_NONE = LabelTable.declare({"background": 0, "left kidney": 1, "right kidney": 2}, pairs=[])
PLAIN = LabelTable.declare({"background": 0, "liver": 1})


@pytest.mark.parametrize(
    ("table", "wanted", "lateral", "axes", "words"),
    [
        (PLAIN, (0, 1, 2), 0, (0, 1, 2), ""),
        (PLAIN, (0, 1), None, (0, 1), ""),
        (PAIRED, (0, 1, 2), 0, (0, 1, 2), ""),
        (PAIRED, (0, 1), None, (), "'left kidney', 'right kidney': the axis across the body is unknown"),
        (PAIRED, (), None, (), ""),
        (ONE_SIDED, (0, 1, 2), 0, (1, 2), "'left kidney': no class is the mirror image"),
        (ONE_SIDED, (1, 2), 0, (1, 2), ""),
        (ONE_SIDED, (0, 1), None, (), "'left kidney': the axis across the body is unknown"),
        (DECLARED_NONE, (0, 1, 2), 0, (0, 1, 2), "learned as one"),
        (DECLARED_NONE, (0, 1), None, (0, 1), "learned as one"),
        (DECLARED_NONE, (1, 2), 0, (1, 2), ""),
    ],
)
def test_mirrors_that_a_table_allows(
    table: LabelTable, wanted: tuple[int, ...], lateral: int | None, axes: tuple[int, ...], words: str
) -> None:
    found = allowed_mirrors(wanted, table, lateral_axis=lateral)
    assert found.axes == axes
    assert words in found.warning
    assert bool(found.warning) == bool(words)


def test_an_axis_that_half_a_turn_brings_across_is_not_mirrored() -> None:
    """Half a turn in the plane of both axes with a flip of one is the flip of the other."""
    assert allowed_mirrors((0, 1, 2), PAIRED, lateral_axis=0, turned_with=(1,)).axes == (0, 2)
    assert allowed_mirrors((0, 1, 2), ONE_SIDED, lateral_axis=0, turned_with=(1,)).axes == (2,)
    assert allowed_mirrors((0, 1, 2), PLAIN, lateral_axis=0, turned_with=(1,)).axes == (0, 1, 2)


def test_planes_of_far_rotations() -> None:
    cube, slab, ones = (32, 32, 32), (32, 32, 8), (1.0, 1.0, 1.0)
    assert far_turned(cube, ones, 0, rotation=Rotation(degrees=30)) == ()
    assert far_turned(cube, ones, 0, rotation=Rotation(degrees=120)) == (1, 2)
    assert far_turned(slab, ones, 0, rotation=Rotation()) == (1,)
    assert far_turned(slab, ones, 0, rotation=Rotation(p=0)) == ()
    assert far_turned(slab, ones, 2, rotation=Rotation()) == ()
    assert far_turned((32, 32), (1.0, 1.0), 1, turns=RandomRotate90()) == (0,)
    assert far_turned((32, 32), (1.0, 1.0), None, turns=RandomRotate90()) == ()
