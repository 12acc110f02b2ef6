import csv
from pathlib import Path

from medseg.callbacks.metrics_file import MetricsFile


def test_rows_of_an_earlier_training_stay(tmp_path: Path) -> None:
    for step, metrics in enumerate(({"train/loss": 1.0}, {"train/loss": 0.5, "val/dice": 0.8})):
        log = MetricsFile(tmp_path)
        log.log_metrics(metrics, step=step)
        log.save()
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["train/loss"] for row in rows] == ["1.0", "0.5"]
    assert [row["val/dice"] for row in rows] == ["", "0.8"]
