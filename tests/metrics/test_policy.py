import json
import subprocess
import sys
from pathlib import Path

from medseg.metrics import policy
from medseg.metrics.accumulate import METRICS


def test_every_metric_has_a_cost():
    assert set(policy.COSTS) == set(METRICS)


def test_description_is_json():
    assert json.loads(json.dumps(policy.describe(["iou"]), allow_nan=False)) == {
        "iou": {"missed": 0.0, "false": 0.0, "both_empty": None}
    }


def test_costs_of_missed_and_false():
    for missed in (True, False):
        assert policy.cost_of("hd95", missed=missed, diagonal=5.0, volume=2.0) == 5.0
        assert policy.cost_of("volume_error", missed=missed, diagonal=5.0, volume=2.0) == 2.0
        assert policy.cost_of("dice", missed=missed, diagonal=5.0, volume=2.0) == 0.0


def test_evaluation_needs_no_torch():
    code = "import sys, medseg.evaluate, medseg.report.html, medseg.report.figures; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
