import csv
from pathlib import Path

from medseg.loggers.csv_file import MetricsFile


def test_rows_of_an_earlier_training_stay(tmp_path: Path) -> None:
    for step, metrics in enumerate(({"train/loss": 1.0}, {"train/loss": 0.5, "val/dice": 0.8})):
        log = MetricsFile(tmp_path)
        log.log_metrics(metrics, step=step)
        log.save()
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["train/loss"] for row in rows] == ["1.0", "0.5"]
    assert [row["val/dice"] for row in rows] == ["", "0.8"]


def test_what_kills_left_of_the_file_stays(tmp_path: Path) -> None:
    """One while the file was set aside, one within a row."""
    (tmp_path / ".metrics.csv.kept").write_text("step,train/loss\n0,1.0\n1,0.")
    log = MetricsFile(tmp_path)
    log.log_metrics({"train/loss": 0.5}, step=1)
    log.save()
    assert (tmp_path / "metrics.csv").read_bytes().split() == [b"step,train/loss", b"0,1.0", b"1,0.5"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
