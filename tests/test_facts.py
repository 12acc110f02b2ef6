"""Facts of cases: kinds, values of the training cases, and the numbers that networks see."""

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.facts import NO_CLASS, CaseFacts, Fact, check_kind, inferred_kind
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec

AGE = Fact("age", "number").fitted(["40", "60", "", "NA"])
SEX = Fact("sex", "word").fitted(["M", "F", "F", "n/a"])
SIGNS = Fact("signs", "tags").fitted(["mass;oedema", "oedema", "", ";"])


def test_numbers_are_standardised_by_the_training_cases() -> None:
    assert (AGE.mean, AGE.std, AGE.width) == (50, 10, 2)
    assert AGE.encode("65") == [1.5, 0]
    assert AGE.encode("n/a") == [0, 1]


def test_a_number_that_is_the_same_in_every_case_is_only_centred() -> None:
    assert Fact("age", "number").fitted(["7", "7"]).encode("9") == [2, 0]


def test_words_and_tags_are_indicators_of_the_values_of_training() -> None:
    assert SEX.values == ("F", "M")
    assert [SEX.encode(word) for word in ("F", "M", "")] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert SIGNS.values == ("mass", "oedema")
    assert SIGNS.encode("oedema; mass") == [1, 1, 0]
    assert SIGNS.encode("") == [0, 0, 1]
    assert SIGNS.encode(";") == [0, 0, 0]  # it is known that there are none


def test_values_that_training_lacks_count_as_missing() -> None:
    assert SEX.unknown("X") == ("X",)
    assert SEX.encode("X") == SEX.encode("")
    assert SIGNS.unknown("mass;new") == ("new",)
    assert SIGNS.encode("mass;new") == [1, 0, 0]
    assert SIGNS.encode("new") == [0, 0, 1]


def test_kinds_are_inferred() -> None:
    assert inferred_kind("age", {"a": "4", "b": "", "c": "5.5e1"}) == "number"
    assert inferred_kind("site", {"a": "north", "b": "3"}) == "word"
    assert inferred_kind("signs", {"a": "x;y", "b": "x"}) == "tags"
    assert inferred_kind("empty", {"a": "", "b": "NA"}) == "word"


def test_a_column_of_numbers_with_a_word_in_it_is_refused() -> None:
    cells = {"a": "4", "b": "5", "c": "old", "d": "6,5", "e": "7", "f": "inf", "g": "8", "h": "9"}
    with pytest.raises(InputError, match=r"column age has 3 value\(s\) that are no number \(c: 'old', d: '6,5', f: "):
        inferred_kind("age", cells)
    with pytest.raises(InputError, match="no number"):
        check_kind("age", "number", {"a": "4", "c": "old"})
    assert check_kind("age", "word", cells) == "word"
    with pytest.raises(InputError, match=r"data\.facts\.age=words: expected one of number, word, tags"):
        check_kind("age", "words", cells)


def test_a_fact_that_no_training_case_has_is_refused() -> None:
    with pytest.raises(InputError, match="no training case has a value of age"):
        AGE.fitted(["", "NA"])
    with pytest.raises(InputError, match="300 values"):
        Fact("name", "word").fitted([f"n{i}" for i in range(300)])


def test_the_facts_of_a_case() -> None:
    label = Fact("lesion", "word", ("benign", "malign"))
    case = CaseFacts((AGE, SEX), ("70", ""), label, "malign")
    np.testing.assert_array_equal(case.encoded, np.float32([2, 0, 0, 0, 1]))
    assert (case["age"], case["lesion"], case.label_index) == ("70", "malign", 1)
    assert CaseFacts((), (), label, "").label_index == CaseFacts((), (), label, "new").label_index == NO_CLASS
    other = Fact("age", "number", mean=70, std=5)
    turned = case.refitted((SEX, other), None)
    assert (turned.texts, turned.label, turned.label_text) == (("", "70"), None, "")
    assert turned.refitted((AGE,), label).label_text == ""
    np.testing.assert_array_equal(case.encoded_by([other, Fact("site", "word", ("n",))]), np.float32([0, 0, 0, 1]))


def test_a_spec_without_facts_is_stored_as_before() -> None:
    spec = DataSpec((Channel("CT"),), LabelTable.declare({"background": 0, "liver": 1}), 3)
    assert {*spec.to_dict()} == {"channels", "labels", "ndim"}
    label = Fact("lesion", "word", ("benign", "malign"))
    rich = DataSpec(spec.channels, spec.labels, 3, facts=(AGE, SIGNS), case_label=label)
    assert DataSpec.from_dict(rich.to_dict()) == rich
    assert rich.of_cells == spec
    assert rich.every_fact == (AGE, SIGNS, label)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"facts": [{"name": "age", "kind": "date"}]}, r"spec\.facts\.kind=date"),
        ({"facts": [{"name": "age", "kind": "number", "mean": 1.0, "std": 0.0}]}, r"spec\.facts\.std=0\.0"),
        ({"case_label": {"name": "lesion", "kind": "word", "values": ["one"]}}, "expected two classes or more"),
        ({"facts": ["age"]}, r"spec\.facts=age"),
    ],
)
def test_stored_facts_are_checked(part: dict[str, object], message: str) -> None:
    spec = DataSpec((Channel("CT"),), LabelTable.declare({"background": 0, "liver": 1}), 3)
    with pytest.raises(InputError, match=message):
        DataSpec.from_dict(spec.to_dict() | part)
