import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores, write
from medseg.metrics.metric import CountMetric
from medseg.metrics.policy import EmptyPolicy
from medseg.metrics.registry import resolve
from medseg.metrics.score import WHOLE_CASE, score_case
from medseg.metrics.structure import CaseCells
from medseg.metrics.summary import aggregate, primary_metric
from tests.metric_lists import METRICS, SCENE_METRICS, VOLUME_METRICS

CONF = Path(__file__).parents[2] / "conf" / "metric"
TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def arrays(shape=(6, 7, 5), seed=0):
    rng = np.random.default_rng(seed)
    pred, label = rng.integers(0, 3, (2, *shape)).astype(np.int16)
    return pred, label, np.ones(shape, dtype=bool)


def score(pred, label, valid, table=TABLE, spacing=(1.0, 2.0, 3.0), metrics=VOLUME_METRICS, **settings):
    case = CaseCells.from_arrays("p1", pred, label, valid, spacing=spacing, unit="mm", labels=table)
    return score_case(case, resolve(metrics, settings))[0]


def same(first, second):
    return all(a == pytest.approx(b, nan_ok=True) if isinstance(a, float) else a == b
               for a, b in zip(first.values(), second.values(), strict=True))  # fmt: skip


def test_row_worked_by_hand():
    pred, label = np.zeros((2, 1, 4, 4), dtype=np.int16)
    label[0, 0, :2] = pred[0, 0, 1:3] = 1
    row = score(pred, label, label == label, spacing=(2.0, 1.0, 5.0))[0]
    assert row == {
        "case": "p1",
        "class": "a",
        "dice": pytest.approx(2 / 4),
        "iou": pytest.approx(1 / 3),
        "precision": 0.5,
        "recall": 0.5,
        "hd95_mm": pytest.approx(0.95 * 5),  # two surface cells each way, 0 and 5 mm; linear percentile
        "nsd": 0.5,
        "assd_mm": 2.5,
        "volume_error_mm3": 0.0,
    }


@pytest.mark.parametrize("kind", ["missed", "false", "both_empty"])
def test_policy(kind):
    pred, label = np.zeros((2, 3, 4, 12), dtype=np.int16)
    if kind == "missed":
        label[0, 0, :3] = 1
    if kind == "false":
        pred[0, 0, :3] = 1
    row = score(pred, label, label == label, spacing=(1.0, 1.0, 1.0))[0]
    values = {k: v for k, v in row.items() if k not in ("case", "class")}
    if kind == "both_empty":
        assert all(math.isnan(v) for v in values.values())
    else:
        assert values == {
            "dice": 0, "iou": 0, "precision": 0, "recall": 0, "nsd": 0,
            "hd95_mm": 13.0, "assd_mm": 13.0,  # sqrt(9 + 16 + 144)
            "volume_error_mm3": 3.0,
        }  # fmt: skip


class Lenient(CountMetric):
    name, title, description = "lenient", "lenient", "1 for every structure that is there, less where it is missed"
    empty = EmptyPolicy(missed=0.1, false=0.2)

    def value(self, n):
        return n.tp * 0 + 1.0


@pytest.mark.parametrize(("missed", "cost"), [(True, 0.1), (False, 0.2)])
def test_missed_and_false_have_costs_of_their_own(missed, cost):
    some, none = np.ones((2, 3, 3), dtype=np.int16), np.zeros((2, 3, 3), dtype=np.int16)
    pred, label = (none, some) if missed else (some, none)
    assert score(pred, label, some == 1, metrics=[Lenient()])[0]["lenient"] == cost
    scores = CaseScores(TABLE, metrics=[Lenient()], pooled=True)
    for name in "ab":
        scores.add(name, pred, label, some == 1, spacing=(1.0, 1.0, 1.0), unit="px")
    assert scores.result()["classes"]["a"]["lenient"] == {"mean": cost, "ci95": [cost, cost], "cases": 2}
    scores.add("c", some, some, some == 1, spacing=(1.0, 1.0, 1.0), unit="px")
    assert scores.result()["classes"]["a"]["lenient"]["mean"] == 1.0, "the sums have cells of both"


def test_policy_is_stated():
    stated = CaseScores(TABLE, metrics=VOLUME_METRICS, nsd_tolerance=2.0).result()["policy"]
    assert stated["dice"] == {"missed": 0.0, "false": 0.0, "both_empty": None}
    assert stated["hd95"] == {
        "missed": "diagonal of the case's grid",
        "false": "diagonal of the case's grid",
        "both_empty": None,
    }
    assert stated["nsd"]["tolerance"] == 2.0
    assert set(VOLUME_METRICS) < set(stated)
    scene = CaseScores(TABLE, metrics=METRICS, pooled=True).result()["policy"]
    assert set(METRICS) < set(scene)
    assert scene["miou"].startswith("mean IoU over every class, with the background,")
    assert scene["boundary_iou"]["width"] == "2 % of the diagonal"
    assert CaseScores(TABLE, metrics=METRICS, boundary_width=3).result()["policy"]["boundary_iou"]["width"] == "3 cells"
    assert "pooled anew" in scene["ci95"]
    mixed = CaseScores(TABLE, metrics=["hd95", "iou", "nsd", "miou"], pooled=True).result()["policy"]
    assert mixed["mean"].startswith("iou, miou: of the cells of all cases together")
    assert ". hd95, nsd: mean over cases" in mixed["mean"]


@pytest.mark.parametrize("mask", ["ignored", "invalid"])
def test_uncounted_cells_do_not_count(mask):
    pred, label, valid = arrays()
    rng = np.random.default_rng(5)
    out = rng.random(label.shape) < 0.3
    if mask == "ignored":
        label[out] = IGNORE
    else:
        valid[out] = False
    before = score(pred, label, valid, metrics=METRICS)
    pred[out] = rng.integers(0, 3, int(out.sum()))
    if mask == "invalid":
        label[out] = rng.integers(0, 3, int(out.sum()))
        pred[out] = 99
    for first, second in zip(before, score(pred, label, valid, metrics=METRICS), strict=True):
        assert same(first, second)


def test_rows_of_a_scene_worked_by_hand():
    label, pred = np.array([[1, 1, 2, 2], [0, 0, 0, 0]], np.int16), np.array([[1, 2, 2, 2], [0, 0, 1, 0]], np.int16)
    a, b, whole = score(pred, label, label >= 0, spacing=(1.0, 1.0), metrics=SCENE_METRICS, boundary_width=1)
    assert a == {
        "case": "p1", "class": "a", "iou": pytest.approx(1 / 3), "f1": 0.5, "precision": 0.5, "recall": 0.5,
        "boundary_iou": pytest.approx(1 / 3),  # every cell of structures one cell thick is in the band
    }  # fmt: skip
    assert b["iou"] == pytest.approx(2 / 3)
    assert whole == {
        "case": "p1",
        "class": WHOLE_CASE,
        "miou": pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3),  # with the background
        "accuracy": pytest.approx(6 / 8),
    }
    *_, of_regions = score(pred, label, label >= 0, REGIONS, spacing=(1.0, 1.0), metrics=("iou", "miou"))
    assert of_regions["miou"] == pytest.approx((4 / 5 + 2 / 3) / 2)  # whole and core overlap


def test_a_case_without_a_counted_cell_has_no_score():
    pred, label, valid = arrays((4, 4))
    *_, whole = score(pred, label, valid & False, spacing=(1.0, 1.0), metrics=SCENE_METRICS)
    assert math.isnan(whole["miou"])
    assert math.isnan(whole["accuracy"])


def test_classes_permute():
    pred, label, valid = arrays()
    swap = np.array([0, 2, 1], dtype=np.int16)
    a, b = score(pred, label, valid)
    b2, a2 = score(swap[pred], swap[label], valid)
    assert same(a | {"class": ""}, a2 | {"class": ""})
    assert same(b | {"class": ""}, b2 | {"class": ""})
    assert not same(a | {"class": ""}, b | {"class": ""})


def test_regions_are_unions():
    pred, label, valid = arrays()
    whole, core = score(pred, label, valid, REGIONS)
    assert (whole["class"], core["class"]) == ("whole", "core")
    union, _ = score((pred > 0).astype(np.int16), (label > 0).astype(np.int16), valid)
    assert same(whole | {"class": ""}, union | {"class": ""})


def test_2d_equals_3d_of_depth_one_for_overlap():
    pred, label, valid = arrays((6, 7))
    overlap = ("dice", "iou", "precision", "recall")
    overlap += ("f1", "miou", "accuracy")
    flat = score(pred, label, valid, spacing=(1.0, 2.0), metrics=overlap)
    assert flat == score(pred[..., None], label[..., None], valid[..., None], metrics=overlap)


def test_prediction_outside_the_table_is_a_defect():
    pred, label, valid = arrays()
    pred[0, 0, 0] = IGNORE
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        score(pred, label, valid)


def rows(values):
    return [{"case": c, "class": k, "dice": v} for (c, k), v in values.items()]


def test_means_worked_by_hand():
    result = aggregate(
        rows({("1", "a"): 0.2, ("1", "b"): math.nan, ("2", "a"): 0.4, ("2", "b"): 0.9, ("3", "a"): math.nan,
              ("3", "b"): math.nan}),
        policy={},
    )  # fmt: skip
    assert result["classes"]["a"]["dice"]["mean"] == pytest.approx(0.3)
    assert result["classes"]["a"]["dice"]["cases"] == 2
    assert result["classes"]["b"]["dice"] == {"mean": 0.9, "ci95": None, "cases": 1}
    assert result["summary"]["dice"]["mean"] == pytest.approx(0.6)  # not the mean of rows, 0.5
    assert result["summary"]["dice"]["cases"] == 2
    assert result["cases"][1] == {"case": "1", "class": "b", "dice": None}


def test_nothing_known_is_null():
    result = aggregate(rows({("1", "a"): math.nan, ("2", "a"): math.nan}), policy={})
    assert result["summary"]["dice"] == {"mean": None, "ci95": None, "cases": 0}


def test_interval_agrees_with_theory():
    values = np.random.default_rng(3).normal(0.7, 0.1, 400)
    result = aggregate(rows({(str(i), "a"): float(v) for i, v in enumerate(values)}), policy={})
    low, high = result["summary"]["dice"]["ci95"]
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_interval_depends_on_the_seed_alone():
    table = rows({(str(i), "a"): i / 7 for i in range(7)})
    assert aggregate(table, policy={}, seed=1) == aggregate(table, policy={}, seed=1)
    assert aggregate(table, policy={}, seed=1) != aggregate(table, policy={}, seed=2)


def test_a_case_that_comes_twice_counts_once():
    table = rows({("1", "a"): 0.2, ("2", "a"): 0.4})
    assert aggregate([*table, table[0]], policy={}) == aggregate(table, policy={})


def test_written_files(tmp_path):
    scores = CaseScores(TABLE, metrics=VOLUME_METRICS)
    pred, label, valid = arrays()
    scores.add("p1", pred, label, valid, spacing=(1.0, 2.0, 3.0), unit="mm")
    scores.add("p2", pred * 0, label * 0, valid, spacing=(1.0, 2.0, 3.0), unit="mm")
    write(tmp_path / "new", scores.result())
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["cases.csv", "metrics.json"]
    text = (tmp_path / "new" / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == scores.result()
    with (tmp_path / "new" / "cases.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(r["case"], r["class"]) for r in table] == [("p1", "a"), ("p1", "b"), ("p2", "a"), ("p2", "b")]
    assert float(table[0]["dice"]) == scores.rows[0]["dice"]
    assert table[3]["hd95_mm"] == ""


def test_no_name_is_a_formula_and_all_are_read_back(tmp_path):
    names = ["-rf", "=1+1", "+a", "@b", "\tc", "'=d", "''-e", "'plain", "a=b", "p1"]
    result = {"cases": [{"case": name, "class": "a", "dice": -0.5} for name in names]}
    write(tmp_path, result)
    with (tmp_path / "cases.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert not any(row["case"].startswith(("-", "=", "+", "@", "\t")) for row in table)
    assert [re.sub(r"^'('*[=+@\t-])", r"\1", row["case"]) for row in table] == names
    assert {row["dice"] for row in table} == {"-0.5"}


@pytest.mark.parametrize("option", sorted(p.stem for p in CONF.glob("*.yaml")))
def test_every_option_scores(option):
    scores = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))(labels=TABLE)
    _, label, valid = arrays((8, 9))
    scores.add("scene", label, label, valid, spacing=(10.0, 10.0), unit="m")
    assert scores.result()["summary"]["iou"]["mean"] == 1.0
    assert scores.pooled == (option == "scene")
    assert scores.result()["classes"].keys() == {"a", "b"}
    scores.reset()
    assert scores.result()["cases"] == []


def test_whole_metrics_stand_in_the_summary_and_in_no_class():
    scores = CaseScores(TABLE, metrics=("iou", "miou", "accuracy"))
    for seed in range(3):
        scores.add(f"p{seed}", *arrays((5, 6), seed), spacing=(1.0, 1.0), unit="px")
    result = scores.result()
    assert {tuple(by) for by in result["classes"].values()} == {("iou",)}
    values = [row["accuracy"] for row in result["cases"] if row["class"] == WHOLE_CASE]
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert result["summary"]["accuracy"]["cases"] == 3


def test_primary_metric_is_the_first_of_classes_between_0_and_1():
    assert primary_metric(CaseScores(TABLE, metrics=VOLUME_METRICS).result()) is None
    _, label, valid = arrays((4, 4))
    listed = {VOLUME_METRICS: "dice", SCENE_METRICS: "iou", ("hd95", "recall", "dice"): "recall"}
    for metrics, expected in (listed | {("hd95", "miou"): None, ("accuracy", "volume_error"): None}).items():
        scores = CaseScores(TABLE, metrics=metrics)
        scores.add("p1", label, label, valid, spacing=(1.0, 1.0), unit="px")
        assert primary_metric(scores.result()) == expected


def test_progress_shows_the_first_metric_with_its_unit():
    scores = CaseScores(TABLE, metrics=("hd95", "dice"))
    assert scores.glance() == ""
    pred, label = np.zeros((2, 1, 9), np.int16)
    pred[0, 0] = label[0, 3] = 1
    scores.add("p1", pred, label, label >= 0, spacing=(1.0, 2.0), unit="mm")
    assert scores.glance() == "hd95 6.0000"


def test_a_reserved_class_is_refused():
    with pytest.raises(InputError, match="rename the class"):
        CaseScores(LabelTable.declare({"background": 0, WHOLE_CASE: 1}), metrics=["dice"])
