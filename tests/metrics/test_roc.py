import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata
from torchmetrics.functional.classification import binary_auroc

from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.roc import BINS, area, score_histogram

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
COUNTED = {"spacing": (1.0, 1.0), "unit": "px"}


def by_ranks(prob, positive):
    """Mann-Whitney's U over all pairs; ties have the mean of their ranks."""
    inside = int(positive.sum())
    return (rankdata(prob)[positive].sum() - inside * (inside + 1) / 2) / (inside * (positive.size - inside))


def case(seed, shape=(40, 50), k=3, sharp=3.0):
    """Probabilities that know something of the label; some cells ignored, some invalid."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, shape).astype(np.int16)
    logits = rng.normal(0, 2, (k, *shape))
    np.put_along_axis(logits, label[None].astype(np.int64), np.take_along_axis(logits, label[None], 0) + sharp, 0)
    prob = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    label[rng.random(shape) < 0.1] = IGNORE
    return prob, label, rng.random(shape) < 0.9


def add(scores, name, prob, label, valid):
    pred = prob.argmax(0).astype(np.int16)
    return scores.add(name, pred, label, valid, prob=prob, **COUNTED)


@pytest.mark.parametrize("spread", [0.5, 2.0, 6.0])
def test_as_ranks_and_torchmetrics(spread):
    rng = np.random.default_rng(0)
    positive = rng.random(20_000) < 0.1
    odds = rng.normal(0, spread, positive.size) + spread * positive
    prob = (1 / (1 + np.exp(-odds))).astype(np.float32)
    found = float(area(score_histogram(prob, positive, np.ones(positive.shape, bool))))
    library = binary_auroc(torch.from_numpy(prob), torch.from_numpy(positive).long())
    assert by_ranks(prob, positive) == pytest.approx(float(library), abs=1e-6)
    assert found == pytest.approx(by_ranks(prob, positive), abs=1e-4)
    assert found == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.01)


def test_error_is_at_most_half_the_pairs_of_a_bin():
    """The docstring's figures, for log-odds of standard deviation 2, one apart."""
    rng = np.random.default_rng(1)
    positive = np.arange(400_000) % 2 == 0
    prob = 1 / (1 + np.exp(-(rng.normal(0, 2, positive.size) + positive)))
    outside, inside = histogram = score_histogram(prob, positive, np.ones(positive.shape, bool))
    bound = float((outside * inside).sum() / outside.sum() / inside.sum() / 2)
    error = abs(float(area(histogram)) - by_ranks(prob, positive))
    assert error <= bound
    assert bound < 1.1e-3
    assert error < 5e-6


def test_few_cells_by_hand():
    prob, positive = np.array([0.1, 0.4, 0.35, 0.8, 0.8]), np.array([False, False, True, True, False])
    everywhere = np.ones(5, bool)
    # six pairs: 0.35 beats 0.1; 0.8 beats 0.1 and 0.4, and ties with 0.8
    assert float(area(score_histogram(prob, positive, everywhere))) == pytest.approx(3.5 / 6)
    assert float(area(score_histogram(np.full(5, 0.3), positive, everywhere))) == 0.5
    assert float(area(score_histogram(positive.astype(float), positive, everywhere))) == 1.0
    assert float(area(score_histogram(1 - prob, positive, everywhere))) == pytest.approx(1 - 3.5 / 6)
    assert np.isnan(area(score_histogram(prob, everywhere, everywhere)))
    assert np.isnan(area(score_histogram(prob, ~everywhere, everywhere)))
    assert np.isnan(area(np.zeros((2, BINS))))


def test_what_is_no_probability_is_a_defect():
    for wrong in (np.nan, 1.5, -0.1):
        with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\]"):
            score_histogram(np.array([0.5, wrong]), np.array([True, False]), np.array([True, True]))
    assert score_histogram(np.array([0.5, np.nan]), np.array([True, False]), np.array([True, False])).sum() == 1


def test_rows_are_cases_and_the_summary_pools_their_cells():
    scores = CaseScores(TABLE, metrics=("iou", "accuracy", "auc"), pooled=True, resamples=100)
    cases = [case(seed, sharp=sharp) for seed, sharp in enumerate((1.0, 3.0, 5.0))]
    for i, arrays in enumerate(cases):
        add(scores, f"c{i}", *arrays)
    result = scores.result()
    cells = [np.where(valid, label, IGNORE) for _, label, valid in cases]
    for index, name in ((1, "a"), (2, "b")):
        pairs = [(prob[index][label >= 0], label[label >= 0] == index) for (prob, *_), label in zip(cases, cells)]
        for i, (prob, positive) in enumerate(pairs):
            (row,) = (r for r in result["cases"] if (r["case"], r["class"]) == (f"c{i}", name))
            assert row["auc"] == pytest.approx(by_ranks(prob, positive), abs=1e-4)
        prob, positive = (np.concatenate(parts) for parts in zip(*pairs))
        found = result["classes"][name]["auc"]
        assert found["mean"] == pytest.approx(by_ranks(prob, positive), abs=1e-4)
        assert found["cases"] == 3
        assert found["ci95"][0] < found["mean"] < found["ci95"][1]
    means = [by["auc"]["mean"] for by in result["classes"].values()]
    assert result["summary"]["auc"]["mean"] == pytest.approx(np.mean(means))
    assert result["summary"]["auc"]["classes"] == 2
    assert result["policy"]["mean"].startswith("iou, accuracy, auc: of the cells of all cases together")
    assert result["policy"]["auc"].startswith("area under the ROC curve of the probability of each class against")


def test_means_over_cases_without_pooling():
    scores = CaseScores(TABLE, metrics=("dice", "auc"))
    for i in range(2):
        add(scores, f"c{i}", *case(i))
    result = scores.result()
    rows = [row["auc"] for row in result["cases"] if row["class"] == "a"]
    assert result["classes"]["a"]["auc"]["mean"] == pytest.approx(np.mean(rows))


def test_uncounted_cells_do_not_count():
    prob, label, valid = case(3)
    scores = CaseScores(TABLE, metrics=("dice", "auc"))
    before = add(scores, "c", prob, label, valid)
    out = ~valid | (label == IGNORE)
    prob[:, out] = np.random.default_rng(9).random((3, int(out.sum())))
    assert before == scores.add("c", np.where(out, 0, prob.argmax(0)), label, valid, prob=prob, **COUNTED)


def test_a_class_that_is_nowhere_has_no_value():
    prob, label, valid = case(4)
    label[label == 2] = 0
    scores = CaseScores(TABLE, metrics=("iou", "auc"), pooled=True, resamples=10)
    assert np.isnan(add(scores, "c", prob, label, valid)[1]["auc"])
    add(scores, "d", prob, label, valid)
    result = scores.result()
    assert result["classes"]["b"]["auc"] == {"mean": None, "ci95": None, "cases": 0}
    assert result["summary"]["auc"]["mean"] == result["classes"]["a"]["auc"]["mean"]
    assert result["summary"]["auc"]["classes"] == 1


def test_a_class_that_fills_a_case_has_a_value_with_others():
    prob, label, valid = case(5)
    scores = CaseScores(TABLE, metrics=("iou", "auc"), pooled=True, resamples=10)
    assert np.isnan(add(scores, "full", prob, np.ones_like(label), valid)[0]["auc"])
    add(scores, "mixed", prob, label, valid)
    counted, all_of_it = valid & (label >= 0), valid
    expected = by_ranks(
        np.concatenate([prob[1][all_of_it], prob[1][counted]]),
        np.concatenate([np.ones(all_of_it.sum(), bool), label[counted] == 1]),
    )
    assert scores.result()["classes"]["a"]["auc"]["mean"] == pytest.approx(expected, abs=1e-4)


def test_regions_overlap():
    rng = np.random.default_rng(6)
    _, label, valid = case(6)
    prob = rng.random((2, *label.shape)).astype(np.float32)
    scores = CaseScores(REGIONS, metrics=("dice", "auc"))
    whole, core = scores.add("c", np.zeros_like(label), label, valid, prob=prob, **COUNTED)
    counted = valid & (label >= 0)
    assert whole["auc"] == pytest.approx(by_ranks(prob[0][counted], label[counted] > 0), abs=1e-4)
    assert core["auc"] == pytest.approx(by_ranks(prob[1][counted], label[counted] == 2), abs=1e-4)


def test_classes_permute():
    prob, label, valid = case(7)
    scores = CaseScores(TABLE, metrics=("dice", "auc"))
    a, b = add(scores, "c", prob, label, valid)
    swap = np.array([0, 2, 1, IGNORE], np.int16)
    b2, a2 = add(scores, "d", prob[[0, 2, 1]], swap[label], valid)
    assert (a["auc"], b["auc"]) == (a2["auc"], b2["auc"])


def test_probabilities_have_to_come_where_they_are_asked_for():
    prob, label, valid = case(8)
    with pytest.raises(ValueError, match="c: auc needs probabilities, got none"):
        CaseScores(TABLE, metrics=("dice",), auc=True).add("c", label, label, valid, **COUNTED)
    off = CaseScores(TABLE, metrics=("dice",))
    assert "auc" not in add(off, "c", prob, label, valid)[0]
    assert "auc" not in off.result()["policy"]
