import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.metrics.miou import MeanIou
from medseg.metrics.policy import DIAGONAL, VOLUME, WORST_0, EmptyPolicy
from medseg.metrics.structure import CaseCells, Structure

TABLE = LabelTable.declare({"background": 0, "a": 1})


def structure(pred: np.ndarray, label: np.ndarray) -> Structure:
    """The structure ``a`` of a case of 3 x 4 cells of 1 x 2 mm."""
    case = CaseCells.from_arrays("p", pred, label, label >= 0, spacing=(1.0, 2.0), unit="mm", labels=TABLE)
    return next(case.structures())


@pytest.mark.parametrize("missed", [True, False])
def test_costs_of_missed_and_false(missed: bool) -> None:
    some, none = np.zeros((2, 3, 4), np.int16)
    some[0, :3] = 1
    found = structure(none, some) if missed else structure(some, none)
    assert EmptyPolicy(DIAGONAL, DIAGONAL).cost(found) == pytest.approx(np.sqrt(9 + 64))
    assert EmptyPolicy(VOLUME, VOLUME).cost(found) == 6.0
    assert EmptyPolicy(missed=0.1, false=0.2).cost(found) == (0.1 if missed else 0.2)


def test_costs_are_stated() -> None:
    assert WORST_0.stated() == {"missed": 0.0, "false": 0.0, "both_empty": None}
    assert EmptyPolicy(VOLUME, 1.0).stated() == {"missed": "its own volume", "false": 1.0, "both_empty": None}


def test_mean_iou_says_what_it_is_a_mean_of() -> None:
    regions = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    cover = LabelTable.declare({"road": 0, "water": 1}, background=None)
    stated = [MeanIou().stated(table).partition(" that ")[0] for table in (TABLE, regions, cover)]
    assert stated == ["mean IoU over every " + what for what in ("class, with the background,", "region", "class")]


def test_evaluation_needs_no_torch():
    modules = "medseg.evaluation.evaluate, medseg.report.html, medseg.viz.figures"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
