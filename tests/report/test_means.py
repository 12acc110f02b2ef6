import io

import numpy as np
import pytest
from rich.console import Console

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.report.html import show
from medseg.report.means import means_table
from tests.metric_lists import METRICS, SCENE_METRICS, VOLUME_METRICS

COVER = LabelTable.declare({"building": 0, "land (unpaved)": 1, "water": 2, "snow": 3}, background=None)


def printed(metrics, n=3, **settings):
    scores = CaseScores(COVER, metrics=metrics, resamples=50, **settings)
    for seed in range(n):
        pred, label = np.random.default_rng(seed).integers(0, 3, (2, 9, 9)).astype(np.int16)
        scores.add(f"c{seed}", pred, label, label >= 0, spacing=(1.0, 1.0), unit="px")
    page = io.StringIO()
    Console(file=page, width=80).print(means_table(scores.result()))
    return page.getvalue(), scores.result()


def test_scene_metrics_fit_80_columns():
    text, result = printed(SCENE_METRICS, pooled=True)
    lines = text.splitlines()
    (water,) = [line.split() for line in lines if line.strip().startswith("water")]
    assert water == ["water", "3", *(show(entry["mean"]) for entry in result["classes"]["water"].values())]
    (mean,) = [line.split() for line in lines if line.strip().startswith("mean ")]
    assert mean[2] == show(result["summary"]["iou"]["mean"])
    miou, accuracy = (result["summary"][m] for m in ("miou", "accuracy"))
    low, high = map(show, miou["ci95"])
    assert f"miou {show(miou['mean'])} ({low} to {high}), mean of 3 classes" in text
    assert lines[-1].strip().startswith(f"accuracy {show(accuracy['mean'])} (")
    assert "…" not in text


def test_volume_metrics_stand_in_the_table_alone():
    text, result = printed(VOLUME_METRICS)
    assert "miou" not in text
    assert show(result["summary"]["dice"]["mean"]) in text


@pytest.mark.parametrize("metrics", [("miou", "accuracy"), METRICS])
def test_one_case_and_none(metrics):
    assert "miou" in printed(metrics, n=1)[0]
    printed(metrics, n=0)
