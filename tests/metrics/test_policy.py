import json
import subprocess
import sys
from pathlib import Path

from medseg.labels import LabelTable
from medseg.metrics import policy
from medseg.metrics.score import METRICS, WHOLE

TABLE = LabelTable.declare({"background": 0, "a": 1})


def test_every_metric_of_a_class_has_a_cost_and_the_others_a_sentence():
    assert set(policy.COSTS) == set(METRICS) - set(WHOLE)
    described = policy.describe(METRICS, TABLE)
    assert {m for m, text in described.items() if isinstance(text, str)} == set(WHOLE)


def test_description_is_json():
    assert json.loads(json.dumps(policy.describe(["iou"], TABLE), allow_nan=False)) == {
        "iou": {"missed": 0.0, "false": 0.0, "both_empty": None}
    }


def test_mean_iou_says_what_it_is_a_mean_of():
    regions = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    cover = LabelTable.declare({"road": 0, "water": 1}, background=None)
    told = [policy.describe(["miou"], table)["miou"].partition(" that ")[0] for table in (TABLE, regions, cover)]
    assert told == ["mean IoU over every " + what for what in ("class, with the background,", "region", "class")]


def test_costs_of_missed_and_false():
    for missed in (True, False):
        assert policy.cost_of("hd95", missed=missed, diagonal=5.0, volume=2.0) == 5.0
        assert policy.cost_of("volume_error", missed=missed, diagonal=5.0, volume=2.0) == 2.0
        assert policy.cost_of("dice", missed=missed, diagonal=5.0, volume=2.0) == 0.0


def test_evaluation_needs_no_torch():
    modules = "medseg.evaluation.evaluate, medseg.report.html, medseg.viz.figures"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
