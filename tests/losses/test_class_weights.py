import pytest

from medseg.losses.class_weights import POWERS, balanced


def test_worked_by_hand():
    cells = {"background": 6400, "liver": 400, "tumour": 4}
    assert balanced(cells, 1.0) == {"background": 1 / 16, "liver": 1.0, "tumour": 100.0}
    assert balanced(cells, 0.5) == {"background": 1 / 4, "liver": 1.0, "tumour": 10.0}
    assert balanced(cells, 0.0) == dict.fromkeys(cells, 1.0)
    assert POWERS == {"auto": 0.5, "median_frequency": 1.0}


def test_of_an_even_number_the_median_lies_between_the_middle_two():
    assert balanced({"a": 100, "b": 300}, 1.0) == {"a": 2.0, "b": 0.6667}


def test_with_power_one_all_classes_weigh_the_same_in_total():
    cells = {"a": 123456, "b": 789, "c": 10}
    totals = [cells[name] * weight for name, weight in balanced(cells, 1.0).items()]
    assert totals == pytest.approx([789] * 3, rel=1e-3)


def test_a_class_without_cells_weighs_one_and_leaves_the_median():
    assert balanced({"a": 100, "b": 400, "c": 0, "d": 0}, 1.0) == {"a": 2.5, "b": 0.625, "c": 1.0, "d": 1.0}
    assert balanced({"a": 0}, 1.0) == {"a": 1.0}
