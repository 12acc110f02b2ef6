"""Metrics are found by name and by class path, with their settings; each quantity of a structure is computed once."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics import boundary, surface
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.boundary_iou import BoundaryIou
from medseg.metrics.dice import Dice
from medseg.metrics.metric import CaseMetric, ClassMetric, Metric, Pooled, Unit
from medseg.metrics.nsd import Nsd
from medseg.metrics.registry import builtin, class_paths, resolve, setting_keys
from tests.metric_lists import installed

TABLE = LabelTable.declare({"background": 0, "a": 1})
OWN = """
from dataclasses import dataclass
from medseg.metrics.metric import ClassMetric, CountMetric, Unit
from medseg.metrics.policy import DIAGONAL, WORST_0, EmptyPolicy

@dataclass(frozen=True)
class Kept(ClassMetric):
    name, title, description = "kept", "Kept", "share of the labelled cells that are predicted, to a power"
    empty = WORST_0
    power: float = 1.0
    def measure(self, measured):
        return float((measured.pred & measured.label).sum() / measured.label.sum()) ** self.power

@dataclass(frozen=True)
class Shift(ClassMetric):
    name, title, description = "shift", "largest shift", "largest distance of the surfaces"
    unit, larger_is_better = Unit.LENGTH, False
    empty = EmptyPolicy(DIAGONAL, DIAGONAL)
    def measure(self, measured):
        return float(measured.distances.to_label.max())

class Nameless(Kept):
    name = None

class Reserved(Kept):
    name = "class"

class Abstract(CountMetric):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user with metrics of their own."""
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_metrics", raising=False)
    return "own_metrics"


def scored(metrics: Any, **settings: Any) -> dict[str, Any]:
    scores = CaseScores(TABLE, metrics=metrics, resamples=10, **settings)
    pred, label = np.zeros((2, 5, 8), np.int16)
    label[1:3, 1:5] = pred[1:3, 3:7] = 1
    (row, *_) = scores.add("p", pred, label, label >= 0, spacing=(1.0, 2.0), unit="mm")
    return row


def test_every_metric_is_one_documented_object_in_a_file_of_its_own() -> None:
    modules = {cls.__module__ for cls in builtin().values()}
    assert len(modules) == len(builtin())
    for name, cls in builtin().items():
        metric = cls()
        assert isinstance(metric, (ClassMetric, CaseMetric)), name
        if installed(name):
            assert metric == resolve([name], {})[0] == resolve([metric], {})[0]
        assert cls.__doc__
        assert cls.title
        assert cls.description
        assert "\n" not in cls.description
        assert cls.range[0] < cls.range[1]
        assert hash(metric) == hash(cls())
        with pytest.raises(AttributeError):
            metric.name = "other"  # type: ignore[misc]


def test_the_metrics_are_all_there() -> None:
    assert {"dice", "hd95", "nsd", "miou", "accuracy", "boundary_iou", "auc"} < set(builtin())
    assert not {cls for cls in (Metric, ClassMetric, CaseMetric, Pooled) if cls in builtin().values()}


def test_settings_reach_their_metric_by_key() -> None:
    assert {"nsd_tolerance": "nsd", "boundary_width": "boundary_iou"}.items() < setting_keys().items()
    settings = {"nsd_tolerance": 2.5, "boundary_width": 3}
    assert resolve(["nsd", "dice", "boundary_iou"], settings) == (Nsd(2.5), Dice(), BoundaryIou(3))


def test_a_name_as_a_key_adds_the_metric_once() -> None:
    assert resolve(["dice"], {"nsd": True, "auc": False, "hd95": None}) == (Dice(), Nsd())
    assert resolve(["nsd", "dice"], {"nsd": True}) == (Nsd(), Dice())


def test_own_metrics_by_class_path_and_with_settings(own: str) -> None:
    assert scored([f"{own}.Kept"])["kept"] == 0.5
    row = scored(["dice", {"_target_": f"{own}.Kept", "power": 2}, f"{own}.Shift"])
    assert {key: row[key] for key in ("dice", "kept", "shift_mm")} == {"dice": 0.5, "kept": 0.25, "shift_mm": 4.0}


def test_hydra_builds_own_metrics_of_a_configuration(own: str) -> None:
    cfg = {"_target_": "medseg.metrics.accumulate.CaseScores", "_partial_": True, "_convert_": "all"}
    listed = ["dice", {"_target_": f"{own}.Kept", "power": 2}]
    scores = instantiate(OmegaConf.create(cfg | {"metrics": listed}))(labels=TABLE)
    assert [metric.name for metric in scores.metrics] == ["dice", "kept"]
    assert scores.result()["policy"]["kept"] == {"missed": 0.0, "false": 0.0, "both_empty": None, "power": 2}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["dice", "dise"], r"got dise, expected the name of a metric \(the nearest are dice, .*; all: accuracy, .*own"),
        ([], "got none, expected some of accuracy, "),
        ("dice", "got dice, expected a list of names"),
        ({"dice": 1}, "expected a list of names"),
        ([["dice"]], "expected a name, a class path, or _target_"),
        ([{"name": "dice"}], "expected a name, a class path, or _target_"),
        (["nowhere.at.all.Mine"], r"nowhere\.at\.all\.Mine can't be imported"),
        (["own_metrics.Other"], r"own_metrics\.Other can't be imported \(.*no attribute"),
        (["own_metrics.Abstract"], r"own_metrics\.Abstract is no metric; expected a subclass of medseg\.Metric"),
        (["pathlib.Path"], r"pathlib\.Path is no metric"),
        (["own_metrics.Nameless"], r"own_metrics\.Nameless has no name"),
        (["own_metrics.Reserved"], r"is named 'class'; expected a name of .* other than case and class"),
        (
            [{"_target_": "own_metrics.Kept", "powr": 2}],
            r"Kept can't be built: .*powr.*; check its settings",
        ),
        (
            ["nsd", {"_target_": "medseg.metrics.nsd.Nsd", "tolerance": 2}],
            "nsd is listed twice",
        ),
    ],
)
def test_what_is_no_metric_is_refused_in_one_line(own: str, unchecked: None, metrics: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        resolve(metrics, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nsd_tolerence": 2}, r"metric\.nsd_tolerence: is neither .*; the nearest are nsd_tolerance"),
        ({"nsd_tolerance": -1.0}, "nsd_tolerance must be a distance >= 0, got -1.0"),
        ({"boundary_width": 0}, "boundary_width must be cells, or a share of the diagonal > 0, got 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(["dice"], settings)


def test_class_paths_are_what_would_be_imported() -> None:
    listed = ["dice", "a.B", {"_target_": "c.D"}, ["e.F"], 1, None]
    assert list(class_paths(listed)) == ["a.B"]
    assert list(class_paths("a.B")) == ["a.B"]
    assert list(class_paths({"a.B": 1})) == ["a.B"]
    assert list(class_paths(None)) == list(class_paths(3)) == []


def test_quantities_that_several_metrics_need_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: (calls.append(name), function(*args))[1])

    count(surface, "surface_distances")
    count(boundary, "boundary_counts")
    row = scored(["hd95", "nsd", "assd", "boundary_iou"], pooled=True)
    assert sorted(calls) == ["boundary_counts", "surface_distances"]
    assert row["hd95_mm"] == 4.0
    calls.clear()
    scored(["dice", "volume_error", "miou"])
    assert calls == [], "nothing is measured that no metric asks for"


def test_units_are_in_the_key() -> None:
    assert [builtin()[name].unit for name in ("dice", "hd95", "volume_error")] == [Unit.NONE, Unit.LENGTH, Unit.VOLUME]
    keys = [resolve([name], {})[0].key("mm", 3) for name in ("dice", "hd95", "assd", "volume_error")]
    assert keys == ["dice", "hd95_mm", "assd_mm", "volume_error_mm3"]
