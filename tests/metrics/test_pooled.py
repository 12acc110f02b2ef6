import warnings

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.classification import MulticlassJaccardIndex as Jaccard

from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from tests.metric_lists import SCENE_METRICS

COVER = LabelTable.declare({"building": 0, "road": 1, "water": 2, "snow": 3}, background=None)
BURNED = LabelTable.declare({"background": 0, "burned": 1})
REGIONS = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


def scene(seed, shape=(11, 13), k=3):
    """Labels without the class k, half of them predicted right; some cells are ignored, some invalid."""
    rng = np.random.default_rng(seed)
    label, noise = rng.integers(0, k, (2, *shape)).astype(np.int16)
    pred = np.where(rng.random(shape) < 0.5, label, noise).astype(np.int16)
    label[rng.random(shape) < 0.1] = IGNORE
    return pred, label, rng.random(shape) < 0.9


def scored(scenes, table=COVER, **settings):
    scores = CaseScores(table, **{"metrics": SCENE_METRICS, "pooled": True, "resamples": 100} | settings)
    for i, arrays in enumerate(scenes):
        scores.add(f"s{i}", *arrays, spacing=(10.0, 10.0), unit="m")
    return scores


SCENES = [scene(0), scene(1, (5, 29)), scene(2, (17, 3))]


def test_as_torchmetrics_over_all_cells():
    result = scored(SCENES).result()
    pred = torch.cat([torch.from_numpy(np.where(v, p, 0).ravel()) for p, _, v in SCENES]).long()
    label = torch.cat([torch.from_numpy(np.where(v, t, IGNORE).ravel()) for _, t, v in SCENES]).long()

    def torchs(metric, **settings):
        with warnings.catch_warnings():  # it warns of the class that is nowhere
            warnings.simplefilter("ignore")
            return metric(num_classes=4, ignore_index=IGNORE, **settings)(pred, label)

    of_class = {"iou": Jaccard, "f1": MulticlassF1Score, "precision": MulticlassPrecision, "recall": MulticlassRecall}
    for name, metric in of_class.items():
        expected = torchs(metric, average="none")[:3].tolist()
        assert [result["classes"][c][name]["mean"] for c in COVER.names[:3]] == pytest.approx(expected, abs=1e-6)
    assert result["summary"]["miou"]["mean"] == pytest.approx(float(torchs(Jaccard, average="macro")), abs=1e-6)
    overall = float(torchs(MulticlassAccuracy, average="micro"))
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(overall, abs=1e-6)
    assert result["confusion"]["matrix"] == torchs(MulticlassConfusionMatrix).tolist()
    assert result["confusion"]["classes"] == list(COVER.names)


def test_a_class_that_is_nowhere_has_no_score_and_does_not_enter():
    result = scored(SCENES).result()
    assert result["classes"]["snow"]["iou"] == {"mean": None, "ci95": None, "cases": 0}
    for metric in ("miou", "iou", "boundary_iou"):
        assert (result["summary"][metric]["classes"], result["summary"][metric]["cases"]) == (3, 3)
    assert "classes" not in result["summary"]["accuracy"]
    assert result["summary"]["miou"] == result["summary"]["iou"], "without a background both are over all classes"


def test_pooled_scene_is_the_scene():
    (case,) = SCENES[:1]
    result = scored([case]).result()
    *rows, whole = result["cases"]
    for row in rows:
        for metric, entry in result["classes"][row["class"]].items():
            assert entry["mean"] == row[metric], (row["class"], metric)
            assert entry["ci95"] is None
    assert result["summary"]["miou"]["mean"] == whole["miou"]
    assert result["summary"]["accuracy"]["mean"] == whole["accuracy"]


def test_one_large_scene_counts_by_its_cells():
    label = np.zeros((2, 2), np.int16)
    label[0, 0] = 1
    large = np.ones((10, 10), np.int16)
    result = scored([(label * 0, label, label == label), (large, large, large == 1)], BURNED).result()
    assert result["classes"]["burned"]["iou"]["mean"] == pytest.approx(100 / 101)
    assert result["classes"]["burned"]["precision"]["mean"] == 1
    assert result["summary"]["iou"]["mean"] == pytest.approx(100 / 101), "the background is not scored"
    assert result["summary"]["miou"]["mean"] == pytest.approx((100 / 101 + 3 / 4) / 2), "but counts here"
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(103 / 104)
    assert [row["iou"] for row in result["cases"] if "iou" in row] == [0, 1]
    by_case = scored([(label * 0, label, label == label), (large, large, large == 1)], BURNED, pooled=False).result()
    assert by_case["classes"]["burned"]["iou"]["mean"] == 0.5
    assert by_case["confusion"] == result["confusion"]


def test_boundaries_are_pooled_before_the_ratio():
    label = np.zeros((9, 9), np.int16)
    label[2:7, 2:7] = 1
    moved = np.roll(label, 1, axis=1)  # 8 of 24 cells of both rings; see test_boundary
    far = np.zeros_like(label)
    far[0, 0] = 1
    scenes = [(moved, label, label >= 0), (far * 0, far, label >= 0)]
    result = scored(scenes, BURNED, boundary_width=1).result()
    assert result["classes"]["burned"]["boundary_iou"]["mean"] == pytest.approx(8 / 25)


@pytest.mark.parametrize("missed", [True, False])
def test_structure_that_is_never_met_scores_0(missed):
    some, none = np.ones((3, 3), np.int16), np.zeros((3, 3), np.int16)
    pred, label = (none, some) if missed else (some, none)
    of_class = scored([(pred, label, some == 1)], BURNED).result()["classes"]["burned"]
    assert {entry["mean"] for entry in of_class.values()} == {0}


def test_regions_overlap():
    label, pred = np.array([[1, 1, 2, 2, 0]], np.int16), np.array([[1, 2, 2, 2, 1]], np.int16)
    result = scored([(pred, label, label >= 0)], REGIONS).result()
    assert result["classes"]["whole"]["iou"]["mean"] == pytest.approx(4 / 5)
    assert result["classes"]["core"]["iou"]["mean"] == pytest.approx(2 / 3)
    assert result["summary"]["miou"]["mean"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert result["confusion"]["matrix"] == [[0, 1, 0], [0, 1, 1], [0, 0, 2]]


def test_interval_redraws_scenes_and_pools_again():
    # Two scenes: a draw has both (their pooled accuracy), or one of them twice (its own).
    good, bad = np.ones((10, 10), np.int16), np.zeros((5, 10), np.int16)
    label = np.ones((5, 10), np.int16)
    scenes = [(good, good, good == 1), (bad, label, label == 1)]
    entry = scored(scenes, BURNED, resamples=2000).result()["summary"]["accuracy"]
    assert entry == {"mean": pytest.approx(100 / 150), "ci95": [0.0, 1.0], "cases": 2}
    assert scored(scenes, BURNED, seed=1).result() == scored(scenes, BURNED, seed=1).result()


def test_distances_stay_means_over_cases():
    result = scored(SCENES, metrics=("iou", "hd95")).result()
    means = [row["hd95_m"] for row in result["cases"] if row["class"] == "road"]
    assert result["classes"]["road"]["hd95_m"]["mean"] == pytest.approx(np.mean(means))
    assert result["classes"]["snow"]["hd95_m"]["mean"] is None


def test_a_case_that_comes_twice_counts_once():
    once, twice = scored(SCENES), scored(SCENES)
    twice.add("s1", *SCENES[1], spacing=(10.0, 10.0), unit="m")
    assert twice.result() == once.result()


def test_nothing_scored_yet():
    result = scored([]).result()
    assert (result["summary"], result["classes"], result["cases"]) == ({}, {}, [])
    assert np.sum(result["confusion"]["matrix"]) == 0
