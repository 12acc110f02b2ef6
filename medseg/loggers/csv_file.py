"""MetricsFile: ``metrics.csv`` of a run; a resumed training continues it."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

from medseg.runtime.atomic import write_whole


class MetricsFile(CSVLogger):
    """Lightning's CSV logger, but rows that are already there stay: Lightning deletes them.

    Steps after the checkpoint that a training resumes from are logged twice, once from
    before the interruption and once from after.

    Args:
        run_dir: Folder of ``metrics.csv``.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, name="", version="")

    @property
    def experiment(self) -> object:
        """The writer, created at first use."""
        if self._experiment is None:
            path = Path(self.log_dir) / "metrics.csv"
            aside = path.with_name(f".{path.name}.kept")  # a copy that survives a kill, too
            if path.is_file():
                os.replace(path, aside)
            with warnings.catch_warnings():  # that the files of the run will be deleted
                warnings.simplefilter("ignore")
                writer = super().experiment
            if aside.is_file():
                rows = aside.read_text(encoding="utf-8").rpartition("\n")[0]  # a kill may have cut the last row short
                if rows:
                    write_whole(path, f"{rows}\n")
                    writer.metrics_keys = next(csv.reader(rows.splitlines()))
                aside.unlink()
            writer._rewrite_with_new_header = partial(_rewrite, path)
        return super().experiment


def _rewrite(path: Path, columns: Sequence[str]) -> None:
    """Give the rows that are there further columns, in one rename."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue())
