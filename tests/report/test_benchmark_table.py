"""Rows in the columns of torchgeo-bench."""

import csv
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.report.benchmark_table import COLUMNS, append, row

CASES = {"train": ["a", "b"], "val": ["c"]}


def config(**changed: Any) -> dict[str, Any]:
    return {
        "data": {"name": "fires", "channels": ["B4", {"NBR": "(B8-B12)/(B8+B12)"}], "normalisation": "standard"},
        "model": {
            "_target_": "medseg.models.encoder_decoder.EncoderDecoder",
            "encoder": {"_target_": "medseg.models.timm.encoder.Timm", "name": "resnet18"},
            "decoder": {"_target_": "medseg.models.decoders.linear.Linear"},
        },
        "finetuning": {"_target_": "medseg.finetuning.frozen.LinearProbe"},
        "optimizer": {"lr": 0.001}, "plan": {"batch_size": 4, "patch": [128, 128]}, "seed": 3,
        "split": {"n_labelled": None},
    } | changed  # fmt: skip


def result(**summary: Any) -> dict[str, Any]:
    scores = {"miou": {"mean": 0.5, "ci95": [0.4, 0.6]}, "f1": {"mean": 0.7, "ci95": None}} | summary
    return {
        "summary": scores, "cases": [{"case": "d"}, {"case": "d"}, {"case": "e"}],
        "policy": {"cases": "the test set", "ci95": "bootstrap over cases, 2000 resamples, seed 0"},
        "calibration": {"temperature": 1.5, "ece": {"before": 0.1, "after": 0.05}},
    }  # fmt: skip


def test_a_row_is_read_back_from_the_table(tmp_path: Path) -> None:
    append(tmp_path / "results.csv", row(config(), result(), CASES))
    append(tmp_path / "results.csv", row(config(seed=4, finetuning=None), result(), CASES))
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    expected = {
        "dataset": "fires", "method": "seg-linear", "metric_name": "mIoU", "metric_value": "0.5", "ci_lower": "0.4",
        "ci_upper": "0.6", "n_train": "2", "n_val": "1", "n_test": "2", "name": "resnet18", "bands": "B4,NBR",
        "f1": "0.7", "recall": "", "bootstrap": "2000", "ece": "0.1", "ece_ts": "0.05", "temperature": "1.5",
        "image_size": "128", "partition": "default", "best_c": "",
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert (second["seed"], second["method"]) == ("4", "seg-linear-finetuned")


def test_few_labels_are_a_partition_of_their_own() -> None:
    assert row(config(split={"n_labelled": 4}), result(), CASES)["partition"] == "4_cases"


def test_a_run_without_mean_iou_is_refused() -> None:
    with pytest.raises(InputError, match="no mean IoU, which the table has; train with metric=scene"):
        row(config(), result(miou=None), CASES)


def test_a_table_of_other_columns_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("name,score\nx,1\n")
    with pytest.raises(InputError, match="its columns lack dataset; expected those of torchgeo-bench"):
        append(tmp_path / "other.csv", row(config(), result(), CASES))
    assert (tmp_path / "other.csv").read_text() == "name,score\nx,1\n"


def test_an_older_table_with_a_line_that_does_not_end_goes_on(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(",".join([*COLUMNS, "mine"]) + "\nx")
    append(tmp_path / "old.csv", row(config(), result(), CASES))
    lines = (tmp_path / "old.csv").read_text().splitlines()
    assert lines[1] == "x"
    assert lines[2].startswith("fires,seg-linear,mIoU,0.5,")
