import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.report.html import show, write_report, write_run_report
from medseg.report.strip import strip_plot
from tests.metric_lists import SCENE_METRICS, VOLUME_METRICS

TABLE = LabelTable.declare({"background": 0, "<b>liver</b>": 1, "tumour": 2})
EVIL = "<script>alert('&')</script>"
VOID = {"meta", "img", "br", "line", "rect", "circle"}


class Page(HTMLParser):
    """Tags that are open, those that ever were, and the text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.seen, self.text, self.sources = [], [], "", []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def result(n=12):
    scores = CaseScores(TABLE, metrics=VOLUME_METRICS)
    rng = np.random.default_rng(0)
    for i in range(n):
        label = rng.integers(0, 2 + (i > 0), (6, 7)).astype(np.int16)
        pred = np.where(rng.random((6, 7)) < i / n, label, 0).astype(np.int16)
        scores.add(f"{EVIL}{i}", pred, label, label == label, spacing=(1.0, 1.0), unit="px")
    return scores.result()


def written(tmp_path, *args, **settings):
    write_report(tmp_path / "report.html", *args, **settings)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.open == []
    return source, page


def test_report_says_what_the_result_says(tmp_path):
    scored = result()
    _, page = written(tmp_path, scored, [("worst", b"png")], {"path": EVIL, "n": 3}, heading=EVIL)
    for entry in scored["summary"].values():
        assert show(entry["mean"]) in page.text
        assert " to ".join(map(show, entry["ci95"])) in page.text
    for word in (
        "not counted",
        "diagonal of the case's grid",
        "tolerance 1.0 px",
        "HD95, px",
        "bootstrap over cases",
        "tumour",
    ):
        assert word in page.text
    worst = min((r for r in scored["cases"] if r["dice"] is not None), key=lambda r: r["dice"])
    assert worst["case"] in page.text.split("Worst cases")[1]
    assert page.seen.count("circle") == sum(r["dice"] is not None for r in scored["cases"])


def test_report_is_self_contained_and_escaped(tmp_path):
    source, page = written(tmp_path, result(), [(EVIL, b"png")], {EVIL: EVIL, "long": {"k": [EVIL] * 99}}, heading=EVIL)
    assert "script" not in page.seen
    assert "b" not in page.seen
    assert "details" in page.seen
    assert page.sources == ["data:image/png;base64," + base64.b64encode(b"png").decode()]
    assert not re.search(r"https?://|nan|NaN", source)


def test_the_name_of_a_case_stands_above_its_picture(tmp_path):
    _, page = written(tmp_path, result(), [("a", b"1"), ("b", b"2")])
    assert [tag for tag in page.seen if tag in ("figure", "figcaption", "img")] == ["figure", "figcaption", "img"] * 2


def test_a_report_says_what_was_scored_and_where_its_worst_cases_are(tmp_path):
    scored = result()
    worst = min((r for r in scored["cases"] if r["dice"] is not None), key=lambda r: r["dice"])["case"]
    files = {worst: {"prediction": "maps/worst.tif", "label": "<i>"}, "unseen": {"prediction": "maps/unseen.tif"}}
    _, page = written(tmp_path, scored, lead="12 cases of maps", files=files)
    assert page.text.index("12 cases of maps") < page.text.index("Summary")
    listed = page.text.split("Files of the worst cases")[1]
    assert "maps/worst.tif" in listed
    assert "unseen" not in listed
    assert "i" not in page.seen


def test_wide_tables_say_that_they_scroll(tmp_path):
    source, _ = written(tmp_path, result())
    assert "animation-timeline: scroll(self inline)" in source
    assert source.count('<div class="wide many"') == source.count("<table"), "each has more than three columns"


def test_volume_errors_are_said_to_be_absolute(tmp_path):
    _, page = written(tmp_path, result())
    assert "absolute volume error, px²" in page.text


def test_report_of_one_case_or_none(tmp_path):
    _, page = written(tmp_path, result(1))
    assert "–" in page.text  # no interval
    _, page = written(tmp_path, CaseScores(TABLE, metrics=VOLUME_METRICS).result())
    assert "Miss policy" in page.text


def test_report_of_a_scene_leads_with_its_iou(tmp_path):
    scores = CaseScores(TABLE, metrics=SCENE_METRICS, pooled=True)
    label = np.array([[0, 1, 2], [0, 1, 1]], dtype=np.int16)
    for case, shown in (("good", label), ("bad", label * 0)):
        scores.add(case, shown, label, label >= 0, spacing=(1.0, 1.0), unit="px")
    _, page = written(tmp_path, scores.result())
    assert "IoU of every case" in page.text
    assert "Worst cases (10 lowest IoU)" in page.text
    worst = page.text.split("Worst cases")[1]
    assert worst.index("bad") < worst.index("good")
    assert "mean IoU" in page.text.split("Classes")[0]
    assert "mean IoU" not in page.text.split("Classes")[1], "no class has it"


def test_report_of_distances_alone(tmp_path):
    scores = CaseScores(TABLE, metrics=("hd95",))
    label = np.ones((3, 3), dtype=np.int16)
    scores.add("a", label, label, label == 1, spacing=(1.0, 1.0), unit="px")
    _, page = written(tmp_path, scores.result())
    assert "Worst" not in page.text
    assert "every case" not in page.text


def test_run_report(tmp_path):
    stored = {"provenance": {"command": ["medseg-train", "seed=1"], "git": None}, "plan": {"patch": [4]}, "config": {}}
    scored = result()
    scored["policy"] |= {"checkpoint": "best", "step": "1234", "cases": "validation fold 0"}
    write_run_report(tmp_path / "report.html", scored, [("c1", b"png")], stored, name="first")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Run first: validation fold 0" in page.text
    assert "medseg-train seed=1" in page.text
    assert "Checkpoint best, step 1234, on validation fold 0" in page.text
    assert page.seen.count("img") == 1


def test_classes_say_how_many_cases_entered_and_where_they_were_fewer(tmp_path):
    def entry(n):
        return {"mean": 0.5, "ci95": [0.25, 0.75], "cases": n}

    by_class = {"liver": {"dice": entry(4), "hd95_mm": entry(4)}, "tumour": {"dice": entry(4), "hd95_mm": entry(3)}}
    scored = {"summary": {}, "classes": by_class, "cases": [], "policy": {}}
    _, page = written(tmp_path, scored)
    liver, tumour = page.text.split("liver")[1].split("tumour")
    assert "n " not in liver
    assert tumour.count("n 3") == 1
    assert [row.split()[0] for row in (liver, tumour)] == ["4", "4"]


def test_facts_are_read_without_brackets(tmp_path):
    _, page = written(
        tmp_path, result(), (), {"git": None, "packages": {"torch": "2.6", "numpy": "2.0"}, "ids": [1, 2]}
    )
    told = page.text.split("Facts")[1].split()
    assert " ".join(told) == "git – packages torch 2.6, numpy 2.0 ids [1, 2]"


def test_a_calibration_is_said_with_what_it_was_measured_on(tmp_path):
    found = {"temperature": 1.25, "nll": {"before": 0.5, "after": 0.25}, "ece": {"before": 0.2, "after": 0.1}}
    found |= {"cases": 4, "cells": 900, "after": "by halves"}
    write_report(tmp_path / "report.html", result() | {"calibration": found})
    text = " ".join(Page((tmp_path / "report.html").read_text()).text.split())
    assert "negative log-likelihood 0.500 0.250 expected calibration error 0.200 0.100" in text
    assert "Of 900 cells of 4 validation cases. Probabilities are written at the temperature 1.250" in text
    write_report(tmp_path / "report.html", result())
    assert "Calibration" not in (tmp_path / "report.html").read_text()


def test_strip_places_dots_worked_by_hand():
    svg = strip_plot({"a": [("c0", 0.0), ("c1", 0.5), ("c2", 1.0)]}, label="dice")
    assert re.findall(r'cx="([\d.]+)"', svg) == ["12.0", "209.0", "406.0"]
    assert 'class="median" x1="209.0"' in svg
    assert 'x="110.5" y' in svg  # the lower quartile, 0.25
    assert "<title>c1: 0.500</title>" in svg


@pytest.mark.parametrize(
    "value,text", [(0.0, "0.000"), (-0.5, "-0.500"), (12.345, "12.35"), (12345.6, "12346"), (7, "7"), (None, "–")]
)
def test_numbers_are_shown(value, text):
    assert show(value) == text
