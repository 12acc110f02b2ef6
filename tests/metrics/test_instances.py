"""Instances: panoptic quality against MONAI, AP and AJI by hand and from their definitions."""

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from scipy import ndimage

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores

TABLE = LabelTable.declare({"background": 0, "nucleus": 1})
TWO = LabelTable.declare({"background": 0, "nucleus": 1, "gland": 2})
NAMES = ["pq", "sq", "rq", "ap", "aji"]


def drawn(*rows):
    return np.array([[int(cell == "#") for cell in row] for row in rows], dtype=np.int16)


LABEL = drawn(
    "####...##..",
    "####...##..",
    "...........",
    "####...###.",
)  # fmt: skip
PRED = drawn(
    "###....##..",
    "###.....##.",
    "...........",
    "##.....####",
)  # fmt: skip
"""IoUs: 6/8, 3/5, 2/4 and 3/4."""


def scored(cases, table=TABLE, **settings):
    scores = CaseScores(table, metrics=NAMES, resamples=20, **settings)
    for i, (pred, label) in enumerate(cases):
        valid = np.ones(label.shape, dtype=bool)
        scores.add(f"c{i}", pred, label, valid, spacing=(1.0,) * label.ndim, unit="px")
    return scores


def values(pred, label, **settings):
    row = scored([(pred, label)], **settings).rows[0]
    return {name: row[name] for name in NAMES}


def test_worked_by_hand():
    found = values(PRED, LABEL)
    assert found["sq"] == pytest.approx((6 / 8 + 3 / 5 + 3 / 4) / 3)  # an IoU of exactly one half is no match
    assert found["rq"] == 3 / 4
    assert found["pq"] == pytest.approx((6 / 8 + 3 / 5 + 3 / 4) / 4) == pytest.approx(found["sq"] * found["rq"])
    matches = [4, 3, 3, 2, 2, 2, 0, 0, 0, 0]  # at 0.5, 0.55, ... 0.95; here one half is a match
    assert found["ap"] == pytest.approx(np.mean([n / (8 - n) for n in matches]))
    assert found["aji"] == pytest.approx((6 + 3 + 2 + 3) / (8 + 5 + 4 + 4))
    assert values(LABEL, LABEL) == dict.fromkeys(NAMES, 1.0)


def test_what_merges_and_what_splits():
    two, one = drawn("###.###"), drawn("#######")
    merged = values(one, two)
    assert merged["pq"] == merged["sq"] == merged["rq"] == merged["ap"] == 0
    assert merged["aji"] == pytest.approx(6 / 14), "it is the best partner of both"
    split = values(two, one)
    assert split["aji"] == pytest.approx(3 / (7 + 3)), "the other half is left over"
    mostly = values(drawn("#####.#"), one)
    assert (mostly["pq"], mostly["sq"], mostly["rq"]) == pytest.approx((5 / 7 / 1.5, 5 / 7, 2 / 3))


def test_good_missed_and_false_are_no_mean_of_the_good_one_alone():
    none = LABEL * 0
    cases = [(LABEL, LABEL), (none, LABEL), (LABEL, none), (none, none)]
    result = scored(cases).result()
    assert [[row[name] for name in NAMES] for row in result["cases"]] == [[1.0] * 5, [0.0] * 5, [0.0] * 5, [None] * 5]
    assert [result["summary"][name]["mean"] for name in NAMES] == pytest.approx([1 / 3] * 5)
    pooled = scored(cases, pooled=True).result()["classes"]["nucleus"]
    assert {name: pooled[name]["mean"] for name in NAMES} == {
        "pq": 0.5, "sq": 1.0, "rq": 0.5, "ap": pytest.approx(1 / 3), "aji": pytest.approx(1 / 3)
    }  # fmt: skip
    assert {entry["cases"] for entry in pooled.values()} == {3}


def test_pooled_instances_are_counted_together():
    one = drawn("##")
    pooled = scored([(PRED, LABEL), (one, one)], pooled=True).result()["classes"]["nucleus"]
    assert pooled["pq"]["mean"] == pytest.approx((6 / 8 + 3 / 5 + 3 / 4 + 1) / 5)
    assert pooled["aji"]["mean"] == pytest.approx((14 + 2) / (21 + 2))


def fields(seed, shape):
    rng = np.random.default_rng(seed)
    one, other = (ndimage.gaussian_filter(rng.random(shape), 1) for _ in range(2))
    mixed = 0.7 * one + 0.3 * other
    return mixed > np.quantile(mixed, 0.8), one > np.quantile(one, 0.8)


@pytest.mark.parametrize("shape", [(40, 36), (14, 15, 13)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_monai_and_the_definitions(shape, seed):
    pred, label = fields(seed, shape)
    corners = np.ones((3,) * len(shape))
    preds, labels = (ndimage.label(mask, corners)[0] for mask in (pred, label))
    found = values(pred.astype(np.int16), label.astype(np.int16))
    for name in ("pq", "sq", "rq"):
        maps = [torch.from_numpy(m.copy()).int() for m in (preds, labels)]
        theirs = compute_panoptic_quality(*maps, metric_name=name, smooth_numerator=0.0)
        assert found[name] == pytest.approx(float(theirs), abs=1e-6)
    assert 0 < found["pq"] < 1
    assert found["aji"] == pytest.approx(aji_by_loops(preds, labels), abs=1e-12)
    assert found["ap"] == pytest.approx(ap_by_loops(preds, labels), abs=1e-12)


def iou_table(preds, labels):
    """Intersections and unions of all pairs of objects."""
    masks = [[m == i for i in range(1, m.max() + 1)] for m in (labels, preds)]
    both = np.array([[(a & b).sum() for b in masks[1]] for a in masks[0]])
    either = np.array([[(a | b).sum() for b in masks[1]] for a in masks[0]])
    return both, either, masks


def aji_by_loops(preds, labels):
    both, either, (of_label, of_pred) = iou_table(preds, labels)
    used, shared, united = set(), 0, 0
    for i, mask in enumerate(of_label):
        j = int(np.argmax(both[i] / either[i]))
        if both[i, j]:
            shared, united = shared + both[i, j], united + either[i, j]
            used.add(j)
        else:
            united += mask.sum()
    return shared / (united + sum(mask.sum() for j, mask in enumerate(of_pred) if j not in used))


def ap_by_loops(preds, labels):
    both, either, (of_label, of_pred) = iou_table(preds, labels)
    values = []
    for t in np.arange(50, 100, 5):
        matches = int((100 * both >= t * either).any(axis=1).sum())  # from one half on, each has one partner
        values.append(matches / (len(of_label) + len(of_pred) - matches))
    return np.mean(values)


def test_small_instances_do_not_count():
    label, pred = drawn("###...##...#"), drawn("###....#.##.")
    # sizes 3, 2, 1 and 3, 1, 2: from 2 on count two labelled ones; the predicted single cell matches one of them at an
    # IoU of one half, and from there on is neither right nor false
    small = values(pred, label, object_min_volume=2)
    assert (small["pq"], small["rq"]) == (pytest.approx(1 / 2), pytest.approx(1 / 2))
    assert small["aji"] == pytest.approx((3 + 1) / (3 + 2 + 2))
    assert small["ap"] == pytest.approx((2 / 3 + 9 * 1 / 3) / 10)


def test_classes_are_apart_and_permute():
    label, pred = LABEL + 2 * np.roll(LABEL, 2, axis=0) * (LABEL == 0), PRED.copy()
    pred[2] = 2
    rows = scored([(pred, label)], TWO).rows
    swap = np.array([0, 2, 1], dtype=np.int16)
    again = scored([(swap[pred], swap[label])], TWO).rows
    assert [rows[0][name] for name in NAMES] == [again[1][name] for name in NAMES]
    assert [rows[1][name] for name in NAMES] == [again[0][name] for name in NAMES]


def test_depth_one_is_2d():
    assert values(PRED[None], LABEL[None]) == values(PRED, LABEL)
