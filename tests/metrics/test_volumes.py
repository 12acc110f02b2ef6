"""Signed volume errors and balanced accuracy, by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_recall

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.balanced_accuracy import BalancedAccuracy
from medseg.selection.predictions import Scorer

TABLE = LabelTable.declare({"background": 0, "a": 1})
THREE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def cells(n, shape=(4, 5)):
    return (np.arange(np.prod(shape)).reshape(shape) < n).astype(np.int16)


def scored(cases, metrics, table=TABLE, annotated=None, **settings):
    scores = CaseScores(table, metrics=metrics, resamples=10, **settings)
    for i, (pred, label) in enumerate(cases):
        valid = np.ones(label.shape, dtype=bool)
        scores.add(f"c{i}", pred, label, valid, spacing=(1.0, 2.0), unit="mm", annotated=annotated)
    return scores.result()


def test_biases_of_good_missed_and_false():
    cases = [(cells(10), cells(8)), (cells(0), cells(5)), (cells(6), cells(0)), (cells(0), cells(0))]
    result = scored(cases, ["volume_bias", "relative_volume_bias", "volume_error"])
    rows = [list(row.values())[2:] for row in result["cases"]]
    assert rows == [[4.0, 0.25, 4.0], [-10.0, -1.0, 10.0], [12.0, 1.0, 12.0], [None, None, None]]
    summary = result["summary"]
    assert summary["volume_bias_mm2"]["mean"] == pytest.approx(2.0)
    assert summary["volume_bias_mm2"]["cases"] == 3
    assert summary["volume_error_mm2"]["mean"] == pytest.approx(26 / 3), "absolute values do not cancel"
    assert summary["relative_volume_bias"]["mean"] == pytest.approx(0.25 / 3)
    costs = {"missed": "minus its own volume", "false": "its own volume", "both_empty": None}
    assert result["policy"]["volume_bias"] == costs


def test_pooled_bias_is_that_of_all_volume():
    result = scored([(cells(10), cells(8)), (cells(0), cells(5))], ["relative_volume_bias"], pooled=True)
    assert result["classes"]["a"]["relative_volume_bias"]["mean"] == pytest.approx(-3 / 13)


def test_a_bias_is_no_criterion():
    with pytest.raises(InputError, match="criterion=volume_bias: expected one of") as caught:
        Scorer("volume_bias", TABLE)
    assert "bias" not in str(caught.value).partition("expected")[2]


def test_balanced_accuracy_is_the_mean_recall_of_labelled_classes():
    label, pred = np.array([[0, 0, 0, 0, 1, 1]], np.int16), np.array([[0, 0, 2, 0, 1, 0]], np.int16)
    result = scored([(pred, label)], ["balanced_accuracy", "accuracy"], THREE)
    assert result["summary"]["balanced_accuracy"]["mean"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(4 / 6)
    missed = scored([(label * 0, label)], ["balanced_accuracy"])["summary"]["balanced_accuracy"]
    assert missed["mean"] == 0.5, "a missed class counts"


def test_balanced_accuracy_equals_the_macro_recall_of_torchmetrics():
    rng = np.random.default_rng(0)
    cases = [tuple(rng.integers(0, 3, (2, 9, 8)).astype(np.int16)) for _ in range(3)]
    pred, label = (torch.from_numpy(np.concatenate([np.ravel(c[i]) for c in cases])).long() for i in (0, 1))
    expected = float(multiclass_recall(pred, label, num_classes=3, average="macro"))
    pooled = scored(cases, ["balanced_accuracy"], THREE, pooled=True)["summary"]["balanced_accuracy"]
    assert pooled["mean"] == pytest.approx(expected, abs=1e-6)
    assert (pooled["classes"], pooled["cases"]) == (3, 3)


def test_balanced_accuracy_of_regions_and_of_annotated_classes():
    label, pred = np.array([[1, 1, 2, 2, 0]], np.int16), np.array([[1, 2, 2, 0, 0]], np.int16)
    of_regions = scored([(pred, label)], ["balanced_accuracy"], REGIONS)["summary"]["balanced_accuracy"]["mean"]
    assert of_regions == pytest.approx((3 / 4 + 1 / 2) / 2)
    label = np.array([[1, 1, 0, 0, 0]], np.int16)
    partial = scored([(pred, label)], ["balanced_accuracy"], THREE, annotated=np.array([True, True, False]))
    assert partial["summary"]["balanced_accuracy"]["mean"] == pytest.approx((1 / 2 + 1) / 2)
    assert BalancedAccuracy().stated(REGIONS).startswith("mean recall over every region that")
