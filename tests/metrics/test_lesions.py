"""Lesions: matching worked by hand, and against a loop over pairs of components."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.lesion_dice import LesionDice
from medseg.metrics.lesion_f1 import LesionF1
from medseg.metrics.lesion_sensitivity import LesionSensitivity
from medseg.metrics.objects import match, overlaps_of

TABLE = LabelTable.declare({"background": 0, "lesion": 1})
NAMES = ["lesion_f1", "lesion_precision", "lesion_sensitivity", "lesion_dice"]


def drawn(*rows):
    return np.array([[int(cell == "#") for cell in row] for row in rows], dtype=np.int16)


LABEL = drawn(
    "##....##..",
    "##....##..",
    "..........",
    "####...#..",
)  # fmt: skip
PRED = drawn(
    "##........",
    "###.......",
    "..........",
    "#.##.###.#",
)  # fmt: skip
"""Labelled lesions: found with one cell too many, missed, found in two pieces, found with two cells too many."""


def scored(cases, spacing=(1.0, 2.0), metrics=NAMES, **settings):
    scores = CaseScores(TABLE, metrics=metrics, resamples=20, **settings)
    for i, (pred, label) in enumerate(cases):
        scores.add(f"c{i}", pred, label, np.ones(label.shape, dtype=bool), spacing=spacing, unit="mm")
    return scores


def values(cases, **settings):
    (row,) = scored(cases, **settings).rows
    return {name: row[name] for name in NAMES}


def test_worked_by_hand():
    found = values([(PRED, LABEL)])
    assert found["lesion_sensitivity"] == 3 / 4
    assert found["lesion_precision"] == 4 / 5  # the two pieces of the third are both right; the last is false
    assert found["lesion_f1"] == pytest.approx(2 * 0.75 * 0.8 / 1.55)
    assert found["lesion_dice"] == pytest.approx((8 / 9 + 0 + 6 / 7 + 2 / 4) / (4 + 1))


def test_one_to_one_above_an_iou_worked_by_hand():
    # IoUs: 4/5, pieces 1/4 and 2/4, 1/3
    found = values([(PRED, LABEL)], lesion_overlap=0.5)
    assert (found["lesion_sensitivity"], found["lesion_precision"]) == (2 / 4, 2 / 5)
    assert found["lesion_dice"] == pytest.approx((8 / 9 + 4 / 6) / (4 + 3))
    found = values([(PRED, LABEL)], lesion_overlap=0.2)  # the smaller piece has no lesion left
    assert (found["lesion_sensitivity"], found["lesion_precision"]) == (3 / 4, 3 / 5)
    assert values([(PRED, LABEL)], lesion_overlap=0.51)["lesion_sensitivity"] == 1 / 4
    assert values([(LABEL, LABEL)], lesion_overlap=1.0) == dict.fromkeys(NAMES, 1.0)


def test_small_lesions_do_not_count_neither_way():
    # Cells of 2 mm²: from 5 mm² on are the lesions of 4 cells; the labelled single cell and the predicted false single
    # cell leave, and the predicted lesion of three cells that matches the small one is neither right nor false.
    found = values([(PRED, LABEL)], object_min_volume=5)
    assert found["lesion_sensitivity"] == 2 / 3
    assert found["lesion_precision"] == 1.0
    assert found["lesion_dice"] == pytest.approx((8 / 9 + 6 / 7) / 3)
    small = drawn("#...", "....")
    assert all(map(math.isnan, values([(small, small)], object_min_volume=5).values()))
    assert all(map(math.isnan, values([(small * 0, small)], object_min_volume=5).values())), "nothing to miss"
    assert values([(small, small)], object_min_volume=2) == dict.fromkeys(NAMES, 1.0), "the limit itself counts"
    assert values([(drawn("..##", "..##"), small)], object_min_volume=5) == dict.fromkeys(NAMES, 0.0)


def test_connectivity():
    diagonal = drawn("#...", ".#..", "..#.", "...#")
    assert len(overlaps_of(diagonal > 0, diagonal > 0, "corners").label_cells) == 1
    assert len(overlaps_of(diagonal > 0, diagonal > 0, "faces").label_cells) == 4
    assert values([(drawn("#...", "....", "....", "...."), diagonal)])["lesion_sensitivity"] == 1
    faces = values([(drawn("#...", "....", "....", "...."), diagonal)], object_connectivity="faces")
    assert faces["lesion_sensitivity"] == 1 / 4


@pytest.mark.parametrize("connectivity", ["faces", "corners"])
def test_objects_are_those_of_scipy(connectivity):
    rng = np.random.default_rng(0)
    for shape in [(1, 12), (7, 7), (4, 5), (12, 1), (1, 1, 7), (5, 4, 6)] * 8:
        mask = rng.random(shape) < 0.5
        structure = ndimage.generate_binary_structure(mask.ndim, 1 if connectivity == "faces" else mask.ndim)
        parts, number = ndimage.label(mask, structure)
        sizes = overlaps_of(mask, mask, connectivity).label_cells
        assert sorted(sizes) == sorted(np.bincount(parts.ravel(), minlength=number + 1)[1:])


def test_good_missed_and_false_are_no_mean_of_the_good_one_alone():
    none = LABEL * 0
    cases = [(LABEL, LABEL), (none, LABEL), (LABEL, none), (none, none)]
    result = scored(cases).result()
    assert [[row[name] for name in NAMES] for row in result["cases"]] == [[1.0] * 4, [0.0] * 4, [0.0] * 4, [None] * 4]
    assert [result["summary"][name]["mean"] for name in NAMES] == pytest.approx([1 / 3] * 4)
    assert {result["summary"][name]["cases"] for name in NAMES} == {3}
    costs = {"missed": 0.0, "false": 0.0, "both_empty": None}
    assert costs.items() <= result["policy"]["lesion_f1"].items()
    pooled = scored(cases, pooled=True).result()["classes"]["lesion"]
    assert {name: entry["mean"] for name, entry in pooled.items()} == {
        "lesion_f1": 0.5, "lesion_precision": 0.5, "lesion_sensitivity": 0.5, "lesion_dice": pytest.approx(1 / 3)
    }  # fmt: skip
    assert {entry["cases"] for entry in pooled.values()} == {3}


def test_pooled_lesions_are_counted_together():
    one = drawn("#.........", "..........", "..........", "..........")
    pooled = scored([(PRED, LABEL), (one, one)], pooled=True).result()["classes"]["lesion"]
    assert pooled["lesion_sensitivity"]["mean"] == pytest.approx(4 / 5)
    assert pooled["lesion_precision"]["mean"] == pytest.approx(5 / 6)
    assert pooled["lesion_dice"]["mean"] == pytest.approx((8 / 9 + 6 / 7 + 2 / 4 + 1) / 6)


def test_sensitivity_by_size_stands_in_the_details():
    scores = scored([(PRED, LABEL), (LABEL, LABEL)], lesion_sizes=[3, 8])  # lesions of 8, 8, 8 and 2 mm²
    details = json.loads(json.dumps(scores.result()))["details"]
    assert details == {"lesion_sensitivity": {"lesion": [
        {"from": 0.0, "to": 3.0, "labelled": 2, "found": 2, "sensitivity": 1.0},
        {"from": 3.0, "to": 8.0, "labelled": 0, "found": 0, "sensitivity": None},
        {"from": 8.0, "to": None, "labelled": 6, "found": 5, "sensitivity": 5 / 6},
    ]}}  # fmt: skip
    assert "details" not in scored([(PRED, LABEL)]).result()
    again = scored([], lesion_sizes=[3, 8])
    again.add_stored(json.loads(json.dumps(scores.stored())))
    assert again.result() == scores.result()
    value = scored([(PRED, LABEL)], lesion_sizes=[3, 8]).rows[0]["lesion_sensitivity"]
    assert value == scored([(PRED, LABEL)]).rows[0]["lesion_sensitivity"]


def by_loops(pred, label, least, iou_least):
    """Sensitivity, precision and Dice from the definition, component by component."""
    structure = np.ones((3,) * pred.ndim)
    preds, labels = (
        [ndimage.label(m, structure)[0] == i + 1 for i in range(ndimage.label(m, structure)[1])] for m in (pred, label)
    )
    pairs = [(i, j) for i, a in enumerate(labels) for j, b in enumerate(preds) if (a & b).any()]
    if iou_least:
        iou = {(i, j): (labels[i] & preds[j]).sum() / (labels[i] | preds[j]).sum() for i, j in pairs}
        pairs, free = [], dict(iou)
        while free and max(free.values()) >= iou_least:
            best = max(free, key=lambda pair: free[pair])
            pairs.append(best)
            free = {pair: v for pair, v in free.items() if pair[0] != best[0] and pair[1] != best[1]}
    counted = [i for i, a in enumerate(labels) if a.sum() >= least]
    right = {j for i, j in pairs if i in counted}
    false = [j for j, b in enumerate(preds) if j not in {q for _, q in pairs} and b.sum() >= least]
    dice = []
    for i in counted:
        own = sum((preds[j] for a, j in pairs if a == i), np.zeros_like(pred))
        dice.append(2 * (own & labels[i]).sum() / (own.sum() + labels[i].sum()))
    hit = sum(any(a == i for a, _ in pairs) for i in counted)
    return hit / len(counted), len(right) / (len(right) + len(false)), sum(dice) / (len(counted) + len(false))


@pytest.mark.parametrize("shape", [(26, 24), (11, 12, 10)])
@pytest.mark.parametrize("overlap", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("least", [0, 4])
def test_equals_loops(shape, overlap, least):
    partly = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        one, other = (ndimage.gaussian_filter(rng.random(shape), 1) for _ in range(2))
        mixed = 0.5 * one + 0.5 * other
        label, pred = one > np.quantile(one, 0.85), mixed > np.quantile(mixed, 0.85)
        row = values(
            [(pred.astype(np.int16), label.astype(np.int16))], spacing=(1.0,) * len(shape), lesion_overlap=overlap,
            object_min_volume=least,
        )  # fmt: skip
        expected = by_loops(pred, label, least, overlap)
        assert [row["lesion_sensitivity"], row["lesion_precision"], row["lesion_dice"]] == pytest.approx(expected)
        partly += 0 < row["lesion_f1"] < 1
    assert partly > 0, "not all right and not all wrong"


def test_predicted_and_labelled_change_places_and_depth_one_is_2d():
    there, back = (match(overlaps_of(*pair, "corners"), 0) for pair in ((PRED > 0, LABEL > 0), (LABEL > 0, PRED > 0)))
    assert (there.hit.sum(), there.right.sum(), there.false.sum()) == (3, 4, 1)
    assert (back.hit.sum(), back.right.sum(), back.false.sum()) == (4, 3, 1)
    assert values([(PRED[None], LABEL[None])], spacing=(3.0, 1.0, 2.0)) == values([(PRED, LABEL)])


def test_cells_that_do_not_count_belong_to_no_lesion():
    label, pred = LABEL.copy(), PRED.copy()
    label[0:2, 6:8] = IGNORE  # the missed lesion
    pred[0, 6] = 1
    label[3, 9] = IGNORE  # the false one
    assert values([(pred, label)])["lesion_sensitivity"] == values([(pred, label)])["lesion_precision"] == 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"object_connectivity": "edges"}, "object_connectivity must be faces or corners, got edges"),
        ({"object_min_volume": -1}, "object_min_volume must be a volume >= 0, got -1"),
        ({"lesion_overlap": 1.5}, r"lesion_overlap must be an IoU from 0 \(a shared cell\) to 1, got 1.5"),
        ({"lesion_sizes": [100, 10]}, r"lesion_sizes must be increasing volumes > 0, .* got \[100, 10\]"),
        ({"lesion_sizes": [0, 10]}, "lesion_sizes must be increasing"),
        ({"lesion_sizes": 10}, "lesion_sizes must be increasing volumes > 0, .* got 10"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(unchecked, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        CaseScores(TABLE, metrics=["dice"], **settings)
    assert "\n" not in str(caught.value)


def test_settings_are_those_of_all_lesions():
    assert LesionF1(overlap=0.5) != LesionF1()
    scores = CaseScores(TABLE, metrics=NAMES, lesion_overlap=0.5, object_min_volume=3)
    stated = scores.result()["policy"]
    assert all(stated[name]["overlap"] == 0.5 and stated[name]["min_volume"] == 3 for name in NAMES)
    assert isinstance(hash(LesionSensitivity(sizes=[1, 2])), int)
    assert np.isnan(LesionDice().from_parts(np.zeros((1, 2)))[0])
