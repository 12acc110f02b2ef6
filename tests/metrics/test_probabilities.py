"""Calibration of probabilities: against torchmetrics and torch, by hand, and with what it must not depend on."""

import json

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.metrics import blocks
from medseg.metrics.accumulate import CaseScores

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
COVER = LabelTable.declare({"wood": 0, "water": 1, "road": 2}, background=None)
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
NAMES = ["ece", "class_ece", "brier", "nll"]


def case(seed, shape=(20, 30), k=3, sharp=2.0):
    """Probabilities that know something of the label; some cells ignored, some invalid."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, shape).astype(np.int16)
    logits = rng.normal(0, 2, (k, *shape))
    np.put_along_axis(logits, label[None].astype(int), np.take_along_axis(logits, label[None], 0) + sharp, 0)
    prob = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    label[rng.random(shape) < 0.1] = IGNORE
    return prob, label, rng.random(shape) < 0.9


def scored(cases, table=TABLE, metrics=NAMES, annotated=None, **settings):
    scores = CaseScores(table, metrics=metrics, resamples=20, **settings)
    for i, (prob, label, valid) in enumerate(cases):
        pred = np.zeros_like(label)
        scores.add(f"c{i}", pred, label, valid, spacing=(1.0,) * label.ndim, unit="px", prob=prob, annotated=annotated)
    return scores


def counted(cases):
    """Probabilities and labels of all counted cells, as torch has them."""
    keep = [valid & (label != IGNORE) for _, label, valid in cases]
    prob = np.concatenate([p[:, own].T for (p, _, _), own in zip(cases, keep, strict=True)])
    label = np.concatenate([t[own] for (_, t, _), own in zip(cases, keep, strict=True)])
    return torch.from_numpy(prob), torch.from_numpy(label.astype(np.int64))


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_equals_torchmetrics_and_torch(bins):
    cases = [case(seed, sharp=sharp) for seed, sharp in enumerate((0.5, 2.0, 6.0))]
    result = scored(cases, pooled=True, calibration_bins=bins).result()
    prob, label = counted(cases)
    expected = float(multiclass_calibration_error(prob.double(), label, num_classes=3, n_bins=bins))
    assert result["summary"]["ece"]["mean"] == pytest.approx(expected, abs=1e-6)
    for index, name in ((1, "a"), (2, "b")):
        of_class = binary_calibration_error_of(prob[:, index].double(), label == index, bins)
        assert result["classes"][name]["class_ece"]["mean"] == pytest.approx(of_class, abs=1e-6)
    truth = torch.nn.functional.one_hot(label, 3)
    brier = float((prob.double() - truth).square().sum(dim=1).mean())
    assert result["summary"]["brier"]["mean"] == pytest.approx(brier, abs=1e-9)
    nll = float(torch.nn.functional.nll_loss(prob.double().log(), label))
    assert result["summary"]["nll"]["mean"] == pytest.approx(nll, abs=1e-9)
    by_case = scored(cases, calibration_bins=bins).result()
    rows = [row["brier"] for row in by_case["cases"] if "brier" in row]
    assert by_case["summary"]["brier"]["mean"] == pytest.approx(np.mean(rows))


def binary_calibration_error_of(prob, inside, bins):
    """Of the probability of a class itself, in its bins."""
    return float(binary_calibration_error(prob.contiguous(), inside.long(), n_bins=bins))


def test_worked_by_hand():
    # Four cells at 0.9, of which three are right, and two at 0.6, of which one is: |0.9 - 0.75| 4/6 + |0.6 - 0.5| 2/6.
    top = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    prob = np.stack([1 - top, top, np.zeros(6)])[:, None]
    label = np.array([[1, 1, 1, 0, 1, 0]], np.int16)
    scores = scored([(prob, label, label >= 0)], calibration_bins=10)
    a, b, whole = scores.rows
    assert whole["ece"] == pytest.approx(0.15 * 4 / 6 + 0.1 * 2 / 6)
    assert a["class_ece"] == pytest.approx(whole["ece"])
    assert b["class_ece"] == 0.0
    assert whole["brier"] == pytest.approx(2 * (3 * 0.01 + 0.81 + 0.16 + 0.36) / 6)
    assert whole["nll"] == pytest.approx(-(3 * np.log(0.9) + np.log(0.1) + np.log(0.6) + np.log(0.4)) / 6)
    bins = json.loads(json.dumps(scores.result()))["details"]["ece"]["(all)"]
    assert [row["cells"] for row in bins] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 4]
    expected = {"from": 0.9, "to": 1.0, "cells": 4, "probability": pytest.approx(0.9), "share": 0.75}
    assert bins[9] == expected
    assert bins[0] == {"from": 0.0, "to": 0.1, "cells": 0, "probability": None, "share": None}
    of_a = scores.result()["details"]["class_ece"]["a"]
    assert sum(row["cells"] for row in of_a) == 6
    assert scores.result()["policy"]["ece"].endswith("in 10 bins")


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_worst():
    label = np.array([[0, 1, 2, 2]], np.int16)
    prob = np.stack([label == i for i in range(3)]).astype(np.float32)
    good = scored([(prob, label, label >= 0)]).rows[-1]
    assert (good["ece"], good["brier"], good["nll"]) == (0, 0, 0)
    bad = scored([(np.roll(prob, 1, axis=0), label, label >= 0)]).rows[-1]
    assert (bad["ece"], bad["brier"]) == (1, 2)
    assert bad["nll"] == pytest.approx(-np.log(np.finfo(np.float32).eps)), "16 nats at most"


def test_regions_are_in_or_out_each():
    rng = np.random.default_rng(3)
    _, label, valid = case(3)
    prob = rng.random((2, *label.shape)).astype(np.float32)
    whole, core, all_of_it = scored([(prob, label, valid)], REGIONS).rows
    own = valid & (label != IGNORE)
    inside = np.stack([label[own] > 0, label[own] == 2])
    p = torch.from_numpy(prob[:, own]).double()
    right = (p > 0.5) == torch.from_numpy(inside)
    expected = binary_calibration_error_of(torch.maximum(p, 1 - p).ravel(), right.ravel(), 15)
    assert all_of_it["ece"] == pytest.approx(expected, abs=1e-6)
    assert whole["class_ece"] == pytest.approx(
        binary_calibration_error_of(p[0], torch.from_numpy(inside[0]), 15), abs=1e-6
    )
    assert core["class_ece"] == pytest.approx(
        binary_calibration_error_of(p[1], torch.from_numpy(inside[1]), 15), abs=1e-6
    )
    truth = torch.from_numpy(inside).double()
    assert all_of_it["brier"] == pytest.approx(float((p - truth).square().sum(0).mean()))
    nll = torch.nn.functional.binary_cross_entropy(p, truth, reduction="none").sum(0).mean()
    assert all_of_it["nll"] == pytest.approx(float(nll))


def test_uncounted_cells_do_not_count_and_classes_permute():
    prob, label, valid = case(4)
    before = scored([(prob, label, valid)]).rows
    changed, out = prob.copy(), ~valid | (label == IGNORE)
    changed[:, out] = 7.0
    assert scored([(changed, label, valid)]).rows == before
    swap = np.array([0, 2, 1, IGNORE], np.int16)
    after = scored([(prob[[0, 2, 1]], swap[label], valid)]).rows
    assert [before[0]["class_ece"], before[1]["class_ece"]] == [after[1]["class_ece"], after[0]["class_ece"]]
    assert before[2] == pytest.approx(after[2])


@pytest.mark.parametrize("cells", [1, 77])
def test_blocks_change_nothing(monkeypatch, cells):
    arrays = case(5, shape=(6, 7, 5))
    whole = scored([arrays]).rows
    monkeypatch.setattr(blocks, "CELLS", cells)
    for first, second in zip(whole, scored([arrays]).rows, strict=True):
        assert first == pytest.approx(second, abs=1e-12)


def test_half_precision_and_depth_one():
    prob, label, valid = case(6)
    full, half = scored([(prob, label, valid)]).rows, scored([(prob.astype(np.float16), label, valid)]).rows
    assert full[2]["brier"] == pytest.approx(half[2]["brier"], abs=1e-3)
    assert full == scored([(prob[:, None], label[None], valid[None])]).rows


def test_a_class_that_is_not_annotated_counts_as_the_background():
    prob, label, valid = case(7)
    label[label == 2] = 0
    some = np.array([True, True, False])
    (a, whole) = scored([(prob, label, valid)], annotated=some).rows
    merged = np.stack([prob[0] + prob[2], prob[1]])
    two = LabelTable.declare({"background": 0, "a": 1})
    (a2, whole2) = scored([(merged, label, valid)], two).rows
    assert a == pytest.approx(a2)
    assert whole == pytest.approx(whole2, abs=1e-6)
    result = scored([(prob, label, valid)], annotated=some, pooled=True).result()
    assert result["classes"]["b"]["class_ece"] == {"mean": None, "ci95": None, "cases": 0}


def test_no_background_and_no_cell():
    prob, label, valid = case(8)
    assert scored([(prob, label, valid)], COVER).rows[0]["class"] == "wood"
    result = scored([(prob, label, valid & False)], pooled=True).result()
    assert {result["summary"][name]["mean"] for name in NAMES} == {None}
    both = scored([(prob, label, valid & False), (prob, label, valid)], pooled=True).result()
    alone = scored([(prob, label, valid)], pooled=True).result()
    assert [both["summary"][n]["mean"] for n in NAMES] == [alone["summary"][n]["mean"] for n in NAMES]
    assert both["summary"]["ece"]["cases"] == 1


def test_results_of_other_processes_are_added():
    scores = scored([case(9), case(10)], pooled=True)
    again = scored([], pooled=True)
    again.add_stored(json.loads(json.dumps(scores.stored())))
    assert again.result() == scores.result()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda prob: prob * 0.5, r"c0: probabilities of a cell sum to 1 - 0\.5, expected 1 .* softmax"),
        (lambda prob: prob * 3, r"c0: probabilities must lie in \[0, 1\], got"),
        (lambda prob: prob * np.nan, r"c0: probabilities must lie in \[0, 1\], got nan"),
        (lambda prob: prob[:2], r"c0: got probabilities of shape \(2, 20, 30\), expected \(3, 20, 30\)"),
        (lambda prob: prob[:, 1:], r"c0: got probabilities of shape \(3, 19, 30\)"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_are_no_probabilities_is_refused_in_one_line(unchecked, change, words, name):
    prob, label, valid = case(11)
    with pytest.raises(InputError, match=words) as caught:
        scored([(change(prob), label, valid)], metrics=[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bins", [0, 2.5, 1001, True, "many"])
def test_bins_are_a_number(unchecked, bins):
    with pytest.raises(InputError, match=f"calibration_bins must be a number of bins from 1 to 1000, got {bins}"):
        CaseScores(TABLE, metrics=["dice"], calibration_bins=bins)
