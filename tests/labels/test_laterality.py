"""Left and right are read from the names of classes, or declared."""

import json
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.labels import LabelTable, laterality

SIDED = {"background": 0, "left kidney": 1, "right kidney": 2, "spleen": 3}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["background", "left kidney", "right kidney", "bright spot"], [("left kidney", "right kidney")]),
        (["Lung_Left", "lung_right"], [("Lung_Left", "lung_right")]),
        (["lh.cortex", "rh.cortex", "l-eye", "r-eye"], [("lh.cortex", "rh.cortex"), ("l-eye", "r-eye")]),
        (["kidney_l", "kidney_r"], [("kidney_l", "kidney_r")]),
        (["R", "L"], [("L", "R")]),
        (["ren sin", "ren dex"], [("ren sin", "ren dex")]),
        (["Niere rechts", "Niere links"], [("Niere links", "Niere rechts")]),
        (["kidneyLeft", "RightKidney"], [("kidneyLeft", "RightKidney")]),
        (["leftkidney", "rightkidney"], [("leftkidney", "rightkidney")]),
        (["rib_left_1", "rib_right_1", "rib_left_2", "rib_right_2"],
         [("rib_left_1", "rib_right_1"), ("rib_left_2", "rib_right_2")]),
        (["Left-Lateral-Ventricle", "Right-Lateral-Ventricle"],
         [("Left-Lateral-Ventricle", "Right-Lateral-Ventricle")]),
    ],
)  # fmt: skip
def test_pairs_are_found_by_their_names(names: list[str], pairs: list[tuple[str, str]]) -> None:
    found = laterality(names)
    assert list(found.pairs) == pairs
    assert found.one_sided == ()


@pytest.mark.parametrize(
    ("names", "one_sided"),
    [
        (["background", "left kidney", "liver"], ["left kidney"]),
        (["left lung", "right lung", "right lung middle lobe"], ["right lung middle lobe"]),
        (["left eye", "Eye L", "right eye"], ["Eye L", "left eye", "right eye"]),
        (["left ventricle", "right ventricle", "myocardium"], ["left ventricle", "right ventricle"]),
        (["left"], ["left"]),
    ],
)
def test_what_has_no_partner_is_one_sided(names: list[str], one_sided: list[str]) -> None:
    assert list(laterality(names).one_sided) == one_sided


@pytest.mark.parametrize(
    "name",
    ["bright spot", "cleft", "crift", "leftover", "right of way", "left and right lung", "kidneys (L+R)",
     "vertebrae_L5", "LV", "L", "R", "soil", "sin"],
)  # fmt: skip
def test_names_without_a_side(name: str) -> None:
    assert laterality([name]).names == ()


def test_a_table_finds_its_pairs_unless_told() -> None:
    assert LabelTable.declare(SIDED).paired_names == (("left kidney", "right kidney"),)
    assert LabelTable.declare(SIDED).mirror() == (0, 2, 1, 3)
    none = LabelTable.declare(SIDED, pairs=[])
    assert (none.pairs, none.one_sided, none.undeclared_sides) == ((), (), ("left kidney", "right kidney"))
    assert LabelTable.declare(SIDED, pairs=[["left kidney", "right kidney"]]).undeclared_sides == ()


@pytest.mark.parametrize("labels", [SIDED, {"background": 0, "left kidney": 1, "liver": 2}])
def test_sides_are_kept_in_checkpoints(labels: dict[str, int]) -> None:
    table = LabelTable.declare(labels)
    assert LabelTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_regions_have_sides_as_their_classes_do() -> None:
    simple: dict[str, Any] = {"background": 0, "kidneys": [1, 2], "left kidney": 1, "right kidney": 2}
    table = LabelTable.declare(simple, regions_class_order=[1, 1, 2])
    assert (table.mirror_outputs(), table.one_sided) == ((0, 2, 1), ())


def test_regions_whose_mirror_image_is_no_region_are_one_sided() -> None:
    nested = {"background": 0, "left kidney": [1, 2], "right kidney": [3, 4], "left cyst": 2, "right cyst": 4}
    table = LabelTable.declare(nested, regions_class_order=[1, 3, 2, 4])
    assert table.one_sided == ("left kidney", "right kidney")


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([["left kidney", "right kidny"]], r"pairs name \['right kidny'\]"),
        (["left kidney", "right kidney"], "expected two class names in each"),
        ([["left kidney", "right kidney"], ["right kidney", "spleen"]], "each name once"),
        ([["left kidney", "left kidney"]], "each name once"),
    ],
)
def test_pairs_that_are_none(pairs: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LabelTable.declare(SIDED, pairs=pairs)


def test_sides_of_regions_that_nobody_paired_are_named_once() -> None:
    regions: dict[str, Any] = {"background": 0, "kidneys": [1, 2], "left kidney": 1, "right kidney": 2}
    table = LabelTable.declare(regions, regions_class_order=[1, 1, 2], pairs=[])
    assert table.undeclared_sides == ("left kidney", "right kidney")
