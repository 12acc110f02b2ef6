"""Scores of several predictions compared: equal to what their own results say, pooled or not."""

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.paired import compared
from medseg.metrics.subgroups import subgroups

TABLE = LabelTable.declare({"background": 0, "organ": 1, "lesion": 2})


def scored(seed, *, pooled=False, noise=0.3, cases=5, metrics=("dice", "hd95", "miou")):
    scores = CaseScores(TABLE, metrics=list(metrics), pooled=pooled, resamples=20)
    for i in range(cases):
        label = np.random.default_rng(i).integers(0, 3, (9, 8)).astype(np.int16)
        rng = np.random.default_rng([seed, i])
        pred = np.where(rng.random(label.shape) < noise, rng.integers(0, 3, label.shape), label).astype(np.int16)
        if i == 3:  # no lesion, neither labelled nor predicted
            pred, label = np.where(pred == 2, 0, pred), np.where(label == 2, 0, label)
        scores.add(f"c{i}", pred, label, np.ones(label.shape, bool), spacing=(1.0, 1.0), unit="px")
    return scores


@pytest.mark.parametrize("pooled", [False, True])
def test_differences_are_those_of_the_results(pooled):
    first, second = scored(0, pooled=pooled), scored(1, pooled=pooled, noise=0.5)
    result = compared({"old": first, "new": second})
    one, other = first.result(), second.result()
    assert (result["cases"], result["groups"], result["predictions"]) == (5, None, ["old", "new"])
    for row in result["differences"]:
        key, name = row["metric"], row["class"]
        a, b = (r["summary"][key] if name is None else r["classes"][name][key] for r in (one, other))
        assert row["difference"] == pytest.approx(b["mean"] - a["mean"]), (key, name)
        assert (row["of"], row["to"]) == ("new", "old")
        assert row["p_corrected"] >= row["p"] >= 1 / 32
    keys = [(row["metric"], row["class"]) for row in result["differences"]]
    classes = (None, "organ", "lesion")
    assert keys == [*(("dice", n) for n in classes), *(("hd95_px", n) for n in classes), ("miou", None)]


def test_a_structure_that_only_one_of_them_finds_costs_it():
    """A false lesion in the case without one: a pair that leaves the case out would not see it."""
    first, second = scored(0, noise=0.0, metrics=["dice"]), scored(0, noise=0.0, metrics=["dice"])
    label = np.zeros((9, 8), np.int16)
    false = label.copy()
    false[2:4, 2:4] = 2
    for scores, pred in ((first, label), (second, false)):
        scores.add("empty", pred, label, np.ones(label.shape, bool), spacing=(1.0, 1.0), unit="px")
    rows = compared({"a": first, "b": second})["differences"]
    (lesion,) = (row for row in rows if row["class"] == "lesion")
    assert lesion["difference"] == pytest.approx(-1 / 5)  # four perfect cases, and one that scores 0 in b alone


def test_ranks_by_hand():
    first, second, third = (scored(0, noise=n, metrics=["dice", "hd95"]) for n in (0.2, 0.2, 0.9))
    ranks = compared({"a": first, "b": second, "c": third})["ranks"]
    assert ranks["dice"]["a"] == {"mean": 1.5, "best": 0.0, "cases": 5}
    assert ranks["dice"]["c"]["mean"] == 3.0
    assert ranks["hd95"]["a"]["mean"] < ranks["hd95"]["c"]["mean"], "a smaller distance is better"


def test_groups_widen_what_is_needed_to_show_a_difference():
    first, second = scored(0, cases=8, metrics=["dice"]), scored(1, cases=8, noise=0.5, metrics=["dice"])
    alone = compared({"a": first, "b": second})
    grouped = compared({"a": first, "b": second}, {f"c{i}": f"p{i // 4}" for i in range(8)})
    assert grouped["groups"] == 2
    assert grouped["policy"]["least_p"] == 0.5
    assert alone["policy"]["least_p"] == 2 / 2**8
    assert grouped["differences"][0]["p"] >= 0.5 > alone["differences"][0]["p"]


@pytest.mark.parametrize("pooled", [False, True])
def test_scores_of_a_group_are_those_of_its_cases_alone(pooled):
    scores = scored(0, pooled=pooled)
    found = subgroups(scores, {"site": {"c0": "n", "c1": "n", "c2": "s", "c3": "s", "c4": "s"}})["site"]
    assert list(found["groups"]) == ["n", "s"]
    alone = scored(0, pooled=pooled, cases=2).result()
    assert found["groups"]["n"]["cases"] == ["c0", "c1"]
    assert found["groups"]["n"]["summary"] == alone["summary"]
    assert found["groups"]["n"]["classes"] == alone["classes"]
    for key, better in (("dice", max), ("hd95_px", min)):
        means = {name: part["summary"][key]["mean"] for name, part in found["groups"].items()}
        best = better(means.values())
        (worst,) = (name for name, mean in means.items() if mean != best)
        assert found["worst"][key] == {
            "group": worst,
            "mean": means[worst],
            "gap": pytest.approx(abs(best - means[worst])),
        }


def test_one_group_has_no_worst():
    assert subgroups(scored(0), {"site": dict.fromkeys((f"c{i}" for i in range(5)), "n")})["site"]["worst"] == {}


def test_the_worst_signed_error_is_the_largest_in_size():
    scores = scored(0, noise=0.0, cases=2, metrics=["volume_bias"])
    label = np.zeros((9, 8), np.int16)
    label[:4] = 1
    small = np.where(np.arange(8) < 2, label, 0).astype(np.int16)
    scores.add("c2", small, label, np.ones(label.shape, bool), spacing=(1.0, 1.0), unit="px")
    found = subgroups(scores, {"site": {"c0": "n", "c1": "n", "c2": "s"}})["site"]["worst"]["volume_bias_px2"]
    assert found == {"group": "s", "mean": -24.0, "gap": 24.0}
