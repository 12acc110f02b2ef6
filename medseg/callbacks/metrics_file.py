"""MetricsFile: ``metrics.csv`` of a run, which a resumed training goes on with."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger


class MetricsFile(CSVLogger):
    """Lightning's CSV logger, but rows that are already there stay: Lightning deletes them.

    Steps that were logged after the checkpoint that a training resumes from stand twice, once from
    before the interruption and once from after.

    Args:
        run_dir: Folder of ``metrics.csv``.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, name="", version="")

    @property
    def experiment(self) -> Any:
        """The writer, made when first asked for."""
        if self._experiment is None:
            path = Path(self.log_dir) / "metrics.csv"
            kept = path.read_text() if path.is_file() else ""
            with warnings.catch_warnings():  # that the files of the run will be deleted
                warnings.simplefilter("ignore")
                writer = super().experiment
            if kept:
                path.write_text(kept)
                writer.metrics_keys = next(csv.reader(kept.splitlines()))
        return super().experiment
