import pytest

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.hierarchy import Hierarchy

COVER = LabelTable.declare({"tree": 1, "grass": 2, "road": 3, "house": 4, "water": 5}, background=None)
GROUPS = {"vegetation": ["tree", "grass"], "built": ["road", "house"], "land": ["vegetation", "built"]}
REGIONS = LabelTable.declare(
    {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 1, "dead": 2}, regions_class_order=[1, 3, 1, 2]
)


def named(tree, rows):
    return {tree.names[i]: {tree.names[j] for j in row.nonzero().flatten().tolist()} for i, row in enumerate(rows)}


def test_tree_of_classes():
    tree = Hierarchy.of(COVER, GROUPS, loss="logic")
    assert tree.names == (*COVER.names, "vegetation", "built", "land")
    assert [tree.names[i] for i in tree.chain(0)] == ["tree", "vegetation", "land"]
    assert tree.members.sum(dim=1).tolist() == [1, 1, 1, 1, 1, 2, 2, 4]
    assert named(tree, tree.children)["land"] == {"vegetation", "built"}
    assert named(tree, tree.rivals)["water"] == {"land"}
    assert named(tree, tree.rivals)["tree"] == {"grass"}
    assert named(tree, tree.lineage)["road"] == {"road", "built", "land"}
    assert tree.divided.tolist() == [False] * 5 + [True] * 3


def test_tree_of_regions():
    tree = Hierarchy.of(REGIONS, {}, loss="logic")
    assert tree.names == ("whole", "core", "rim", "dead")
    assert tree.parents == (None, 0, 0, 1)
    assert named(tree, tree.rivals) == {"whole": set(), "core": {"rim"}, "rim": {"core"}, "dead": set()}
    assert tree.divided.tolist() == [True, False, False, False]  # core holds more than dead


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"green": ["tree", "gras"]}, "green holds gras, which is neither a class nor a group; the nearest are grass"),
        ({"a": ["tree"], "b": ["tree"]}, "tree is in a and in b, expected one parent"),
        ({"a": ["tree", "tree"]}, "tree is in a and in a, expected one parent"),
        ({"a": ["b"], "b": ["a"]}, "a lies in itself"),
        ({"a": ["a"]}, "a lies in itself"),
        ({"top": ["a"], "a": ["b"], "b": ["c", "tree"], "c": ["grass"]}, None),
        ({"tree": ["grass"]}, "tree is a class already"),
        ({"a": []}, r"a holds \[\], expected a list of classes or groups"),
        ({"a": "tree"}, "a holds 'tree', expected a list"),
    ],
)
def test_what_is_no_tree_is_refused_in_one_line(groups, message):
    if message is None:
        assert len(Hierarchy.of(COVER, groups, loss="logic").names) == 9
        return
    with pytest.raises(InputError, match=f"loss logic: hierarchy: {message}") as error:
        Hierarchy.of(COVER, groups, loss="logic")
    assert "\n" not in str(error.value)


def test_groups_of_regions_are_refused():
    with pytest.raises(InputError, match="with regions, which are a hierarchy of their own; leave hierarchy out"):
        Hierarchy.of(REGIONS, {"a": ["core"]}, loss="logic")
