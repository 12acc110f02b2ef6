import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelClass, LabelTable, Region

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
KIDNEYS = {"background": 0, "left kidney": 1, "right kidney": 2, "tumour": 7, "ignore": 9}


@pytest.fixture
def brats():
    return LabelTable.declare(BRATS, regions_class_order=[1, 2, 3])


@pytest.fixture
def kidneys():
    return LabelTable.declare(KIDNEYS, pairs=[("left kidney", "right kidney")])


def test_softmax_classes(kidneys):
    assert kidneys.names == ("background", "left kidney", "right kidney", "tumour")
    assert [c.values for c in kidneys.classes] == [(0,), (1,), (2,), (7,)]
    assert [c.saved for c in kidneys.classes] == [0, 1, 2, 7]
    assert (kidneys.n_classes, kidneys.n_outputs, kidneys.ignore_values) == (4, 4, (9,))
    assert kidneys.targets == (("left kidney", (1,)), ("right kidney", (2,)), ("tumour", (3,)))
    assert len({c.colour for c in kidneys.classes}) == 4


def test_classes_are_indexed_by_value_whatever_their_order_and_background_comes_first():
    table = LabelTable.declare({"b": 5, "air": 0, "a": 2})
    assert table.names == ("air", "a", "b")


def test_to_index_and_to_saved_literals(kidneys):
    raw = np.array([[0, 7, 9], [2, 1, 0]], dtype=np.uint16)
    index = kidneys.to_index(raw)
    assert index.dtype == np.int16
    assert index.tolist() == [[0, 3, IGNORE], [2, 1, 0]]
    np.testing.assert_array_equal(kidneys.to_index(raw.astype(np.float32)), index)
    saved = kidneys.to_saved(np.array([[3, 0], [1, 2]]))
    assert (saved.tolist(), saved.dtype) == ([[7, 0], [1, 2]], np.uint8)


@given(raw=st.lists(st.sampled_from([0, 1, 2, 7]), min_size=1, max_size=20))
def test_to_saved_undoes_to_index(raw):
    table = LabelTable.declare(KIDNEYS)
    assert table.to_saved(table.to_index(np.array(raw))).tolist() == raw


def test_unknown_values_are_named_with_their_cells_and_the_way_out(kidneys):
    with pytest.raises(InputError) as told:
        kidneys.to_index(np.array([0, 3, 3, 8, 1]), where="case_7.nii.gz")
    assert str(told.value).startswith(
        "case_7.nii.gz: label values {3: 2, 8: 1} (value: cells) are not in the label table"
    )
    assert "'tumour': [7]" in str(told.value)
    assert str(told.value).endswith("add them to data.labels, or to its ignore list")
    with pytest.raises(InputError, match=r"label: label values \{0\.5: 1\}"):
        kidneys.to_index(np.array([0.5, 1.0]))


def test_merged_values_are_one_class():
    table = LabelTable.declare({"background": 0, "liver": [1, 2], "ignore": [8, 9]}, merge=True)
    assert table.to_index(np.array([0, 1, 2, 8, 9])).tolist() == [0, 1, 1, IGNORE, IGNORE]
    assert table.to_saved(np.array([0, 1])).tolist() == [0, 1]
    assert table.regions == ()


def test_regions(brats):
    assert brats.names == ("background", "value_1", "value_2", "enhancing")
    assert brats.regions == (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    assert (brats.n_classes, brats.n_outputs) == (4, 3)
    assert brats.targets == (("whole", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,)))
    assert brats.region_matrix().tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]


def test_values_without_a_name_are_called_after_their_smallest_region(brats, kidneys):
    assert brats.titles == ("background", "whole (value 1)", "core (value 2)", "enhancing")
    assert kidneys.titles == kidneys.names


@pytest.mark.parametrize("order", [None, [1, 2], [1, 2, 3, 3]])
def test_regions_need_an_order_each(order):
    with pytest.raises(InputError, match=r"regions .* need regions_class_order with 3 raw values .* got"):
        LabelTable.declare(BRATS, regions_class_order=order)


def test_regions_class_order_must_name_raw_values():
    with pytest.raises(InputError, match=r"regions_class_order names \[4\], raw values are \[0, 1, 2, 3\]"):
        LabelTable.declare(BRATS, regions_class_order=[1, 2, 4])


def test_mirror(kidneys, brats):
    assert kidneys.mirror() == (0, 2, 1, 3)
    assert kidneys.mirror_outputs() == (0, 2, 1, 3)
    assert brats.mirror() == (0, 1, 2, 3)
    assert brats.mirror_outputs() == (0, 1, 2)


def test_mirror_of_regions():
    classes = tuple(LabelClass(n, (i,), i, (0, 0, i)) for i, n in enumerate(("background", "left", "right")))
    both, left, right = Region("both", (1, 2), 1), Region("left", (1,), 1), Region("right", (2,), 2)
    assert LabelTable(classes, regions=(both, left, right), pairs=((1, 2),)).mirror_outputs() == (0, 2, 1)
    with pytest.raises(InputError, match="region 'left' has no mirror image among the regions"):
        LabelTable(classes, regions=(both, left), pairs=((1, 2),)).mirror_outputs()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 1), np.uint8), ((0, 255), np.uint8), ((0, 256), np.uint16), ((0, 65536), np.uint32),
        ((0, -1), np.int8), ((-129, 0), np.int16), ((-1, 128), np.int16), ((0, -1, 40000), np.int32),
    ],
)  # fmt: skip
def test_saved_dtype_is_the_smallest_that_holds_the_values(values, dtype):
    table = LabelTable(tuple(LabelClass(f"c{v}", (v,), v, (0, 0, 0)) for v in values))
    assert table.saved_dtype == dtype
    assert table.to_saved(np.arange(len(values))).tolist() == list(values)


@pytest.mark.parametrize(
    "labels", [{0: "background", 1: "liver", 4: "spleen"}, {"0": "background", "1": "liver", "4": "spleen"}]
)
def test_values_with_names_are_turned_round(labels):
    assert LabelTable.declare(labels) == LabelTable.declare({"background": 0, "liver": 1, "spleen": 4})


def test_a_list_of_names_counts_from_zero():
    assert LabelTable.declare(["background", "liver"]) == LabelTable.declare({"background": 0, "liver": 1})
    assert LabelTable.declare({0: "background", 1: "liver", 255: "ignore"}).ignore_values == (255,)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a": 1, "b": 2}, r"no background \(value 0\)"),
        ({"background": 0}, r"expected at least two classes.*regression"),
        ({"background": "liver"}, r"background has the value .*liver.*expected a whole number"),
        ({1: 2, 3: 4}, r"got \{1: 2, 3: 4\}, expected class names"),
        ({0: "background", 1: 2}, r"expected class names with integer values"),
        ({0: "background", 1: "liver", 2: "liver"}, r"\['liver'\] stand for more than one value.*\{liver: \[1, 2\]\}"),
        (["background", "liver", "liver"], "stand for more than one value"),
        ({"background": 0, "a": 1, "b": 1}, "a raw value may belong to one class only"),
        ({"background": 0, "a": 1, "ignore": 1}, "a raw value may belong to one class only"),
    ],
)
def test_declare_refuses(labels, words):
    with pytest.raises(InputError, match=words):
        LabelTable.declare(labels)


def test_names_must_be_unique_and_pairs_known():
    twins = tuple(LabelClass("a", (v,), v, (0, 0, 0)) for v in (0, 1))
    with pytest.raises(InputError, match="class names must be unique"):
        LabelTable(twins)
    with pytest.raises(InputError, match=r"left/right pairs name \['kidney'\]"):
        LabelTable.declare({"background": 0, "left": 1}, pairs=[("left", "kidney")])


def test_colours_may_be_chosen():
    table = LabelTable.declare({"background": 0, "a": 1, "b": 2}, colours={"b": [1, 2, 3]})
    assert table.classes[2].colour == (1, 2, 3)
    assert table.classes[0].colour == (0, 0, 0)


def test_from_dict_undoes_to_dict_through_json(kidneys, brats):
    for table in (kidneys, brats):
        assert LabelTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_background_wins_its_name_over_the_value_zero() -> None:
    table = LabelTable.declare({"organ": 0, "background": 255})
    assert table.names == ("background", "organ")


def test_nan_in_a_label_is_counted() -> None:
    table = LabelTable.declare({"background": 0, "organ": 1})
    with pytest.raises(InputError, match=r"\{nan: 2\}"):
        table.to_index(np.array([0.0, np.nan, np.nan]))


def test_ignore_is_never_saved() -> None:
    table = LabelTable.declare({"background": 0, "organ": 1})
    with pytest.raises(ValueError, match="got -1 to 1"):
        table.to_saved(np.array([IGNORE, 1]))


def test_without_background_every_class_is_scored_in_the_order_of_its_values() -> None:
    table = LabelTable.declare({"water": 4, "building": 0, "land": [1, 7], "ignore": 255}, background=None, merge=True)
    assert table.targets == (("building", (0,)), ("land", (1,)), ("water", (2,)))
    assert LabelTable.from_dict(table.to_dict()) == table
    assert table.to_index(np.array([0, 7, 255, 4])).tolist() == [0, 1, -1, 2]


def test_background_by_name_comes_first() -> None:
    table = LabelTable.declare({"burned": 0, "unburned": 1}, background="unburned")
    assert table.names == ("unburned", "burned")
    assert table.targets == (("burned", (1,)),)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "a": 2**40}, r"class 'a' has the value 1099511627776, expected whole numbers from"),
        ({"background": 0, "a": 2**31, "b": -1}, r"class 'a' has the value 2147483648, .* to 2147483647"),
        ({"background": 0, "a": -(2**40)}, r"class 'a' has the value -1099511627776"),
        ({f"c{i}": i for i in range(40_000)}, r"got 40,000 classes, expected at most 32,768"),
        ({"background": [], "a": 1}, r"background has the value \[\], expected a whole number"),
        ({"background": 0, "a": [[1]]}, r"a has the value \[\[1\]\], expected a whole number"),
        ({"background": 0, "a": {"b": 1}}, r"a has the value \{'b': 1\}, expected"),
        ({"background": 0, "a": None}, r"a has the value None, expected"),
        ({"background": 0, "a": 1.5}, r"a has the value 1\.5, expected"),
        ({"background": 0, "a": float("inf")}, r"a has the value inf, expected"),
        ({"background": 0, "a": "one"}, r"a has the value one, expected"),
        ({0: "background", "a": 1}, r"expected class names with integer values"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_values_that_no_label_file_holds_are_refused(labels, words):
    with pytest.raises(InputError, match=words):
        LabelTable.declare(labels)


@pytest.mark.usefixtures("unchecked")
def test_text_of_a_number_is_a_value():
    assert LabelTable.declare({"background": "0", "a": "12", "b": 3.0}).names == ("background", "b", "a")


@pytest.mark.usefixtures("unchecked")
def test_regions_class_order_holds_values():
    with pytest.raises(InputError, match=r"regions_class_order names \[\[2\]\]"):
        LabelTable.declare(BRATS, regions_class_order=[1, [2], 3])


LIVER = {"category": [123037004, "SCT", "Anatomical Structure"], "type": ["10200004", "SCT", "Liver"]}


def test_codes_are_stored_with_the_table_and_change_nothing_else():
    plain = LabelTable.declare({"background": 0, "liver": 1, "lung": 2})
    table = plain.with_codes({"liver": LIVER})
    assert "codes" not in plain.to_dict()
    stored = LabelTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert stored.codes == table.codes
    (name, codes), *others = stored.codes
    assert (name, codes.category.value, codes.type.meaning, others) == ("liver", "123037004", "Liver", [])
    assert table == plain, "members of an ensemble may differ in codes"
    assert plain.with_codes(None) is plain


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ({"livr": LIVER}, r"data\.codes: no class 'livr'; the nearest are liver"),
        ({"background": LIVER}, r"data\.codes: no class 'background'"),
        ({"liver": {"category": LIVER["category"]}}, r"data\.codes\.liver: 'type' is missing"),
        ({"liver": LIVER | {"site": []}}, r"data\.codes\.liver: 'site' is no key of it, expected category, type"),
        ({"liver": {"type": ["10200004", "SCT"]}}, r"data\.codes\.liver\.type=.*: expected value, scheme and meaning"),
        ({"liver": {"type": ["1" * 17, "SCT", "Liver"]}}, "of up to 16, 16 and 64 characters"),
        (["liver"], "data.codes=.*: expected keys and values"),
    ],
)
def test_codes_of_another_form_are_refused(codes, words):
    with pytest.raises(InputError, match=words):
        LabelTable.declare({"background": 0, "liver": 1}).with_codes(codes)
