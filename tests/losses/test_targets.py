import torch

from medseg.labels import IGNORE, LabelTable
from medseg.losses.targets import counted_cells, memberships, target_of


def test_counted_needs_validity_and_a_known_class():
    label = torch.tensor([[0, 1, IGNORE, IGNORE]])
    valid = torch.tensor([[True, False, True, False]])
    assert counted_cells(label, valid).tolist() == [[True, False, False, False]]


def test_members_are_one_hot_without_regions():
    table = LabelTable.declare({"background": 0, "a": 1, "b": 2})
    label = torch.tensor([[[0, 1], [2, 0]]])
    expected = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).bool()
    assert torch.equal(target_of(label, memberships(table)), expected)


def test_regions_overlap():
    table = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    target = target_of(torch.tensor([[0, 1, 2, IGNORE]]), memberships(table))
    assert target.int().tolist() == [[[0, 1, 1, 0], [0, 0, 1, 0]]]
