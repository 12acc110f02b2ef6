"""Scores of whole cases, gathered, and the files they are written to."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics import policy
from medseg.metrics.pooled import POOLED, pool
from medseg.metrics.score import ALL, METRICS, VOLUME_METRICS, Tally, score_case
from medseg.metrics.summary import summarise
from medseg.runtime.atomic import write_together

_MEAN = "mean over cases of each class, then over classes; cases where a value is null do not enter"


class CaseScores:
    """Rows of the cases scored so far, and the settings they are scored with.

    Attributes:
        labels: What is scored.
        metrics: Some of ``METRICS``.
        pooled: Whether the means of counted metrics are those of all cells of all cases together, as is
            usual for scenes, instead of means over cases. Rows stay those of single cases.
        nsd_tolerance: In the unit of the grids.
        boundary_width: Of the band that boundary IoU looks at; see ``boundary.cells_of``.
        auc: Whether ``add`` is given probabilities, for the area under the ROC curve of each target.
        resamples: Draws behind each confidence interval.
        seed: Of the draws.
        rows: What ``score_case`` gave, JSON-able but for NaN; rows of other processes may be added.
        tallies: Counts of each case; likewise.
    """

    def __init__(
        self,
        labels: LabelTable,
        *,
        metrics: Sequence[str] = VOLUME_METRICS,
        pooled: bool = False,
        nsd_tolerance: float = 1.0,
        boundary_width: float = 0.02,
        auc: bool = False,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        unknown = [m for m in metrics if m not in METRICS]
        if unknown or not metrics:
            hint = "; auc has a key of its own, metric.auc" if "auc" in unknown else ""
            raise InputError(
                f"metrics {list(metrics)}: got {unknown or 'none'}, expected some of {list(METRICS)}{hint}"
            )
        if not nsd_tolerance >= 0:
            raise InputError(f"metrics: nsd_tolerance must be a distance >= 0, got {nsd_tolerance}")
        if not boundary_width > 0:
            raise InputError(
                f"metrics: boundary_width must be cells, or a share of the diagonal > 0, got {boundary_width}"
            )
        if any(name == ALL for name, _ in labels.targets):
            raise InputError(f"label table: {ALL!r} stands for all classes together; rename the class")
        self.labels, self.metrics, self.pooled = labels, tuple(metrics), pooled
        self.nsd_tolerance, self.boundary_width, self.auc = nsd_tolerance, boundary_width, auc
        self.resamples, self.seed = resamples, seed
        self.reset()

    def reset(self) -> None:
        """Forget all cases."""
        self.rows: list[dict[str, Any]] = []
        self.tallies: dict[str, Tally] = {}

    def add(
        self,
        case: str,
        pred: Int[np.ndarray, " *s"],
        label: Int[np.ndarray, " *s"],
        valid: Bool[np.ndarray, " *s"],
        *,
        spacing: Sequence[float],
        unit: str,
        prob: Float[np.ndarray, "k *s"] | None = None,
    ) -> list[dict[str, Any]]:
        """Score one case (see ``score_case``), keep its rows, and give them.

        Raises:
            ValueError: Probabilities are needed and did not come.
        """
        if self.auc and prob is None:
            raise ValueError(f"{case}: auc needs probabilities, got none")
        rows, self.tallies[case] = score_case(
            case, pred, label, valid, spacing=spacing, unit=unit, labels=self.labels, metrics=self.metrics,
            nsd_tolerance=self.nsd_tolerance, boundary_width=self.boundary_width, prob=prob if self.auc else None,
        )  # fmt: skip
        self.rows += rows
        return rows

    def result(self) -> dict[str, Any]:
        """The content of ``metrics.json`` for the cases so far; see ``summarise`` and ``pool``.

        ``confusion`` has the cells of all cases: a row for each labelled, a column for each predicted
        class.
        """
        result = summarise(self.rows, stated=self._stated(), resamples=self.resamples, seed=self.seed)
        if self.pooled and self.tallies:
            counted = [m for m in self._names if m in POOLED]
            tallies = list(self.tallies.values())
            summary, classes = pool(tallies, counted, self.labels, resamples=self.resamples, seed=self.seed)
            result["summary"] |= summary
            for name, by in classes.items():
                result["classes"][name] |= by
        k = self.labels.n_classes
        matrix = sum((tally.table for tally in self.tallies.values()), np.zeros((k, k), dtype=np.int64))
        return result | {"confusion": {"classes": list(self.labels.titles), "matrix": matrix.tolist()}}

    def glance(self) -> str:
        """The first metric of the cases so far, averaged over their rows: cheap, for a progress bar; empty at first."""
        known = [
            row[self.metrics[0]] for row in self.rows if row["class"] != ALL and row.get(self.metrics[0]) is not None
        ]
        known = [value for value in known if not math.isnan(value)]
        return f"{self.metrics[0]} {sum(known) / len(known):.4f}" if known else ""

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.metrics, "auc") if self.auc else self.metrics

    def _stated(self) -> dict[str, Any]:
        stated = policy.describe(self._names, self.labels)
        if "nsd" in stated:
            stated["nsd"]["tolerance"] = self.nsd_tolerance
        if "boundary_iou" in stated:
            share = f"{100 * self.boundary_width:g} % of the diagonal"
            stated["boundary_iou"]["width"] = share if self.boundary_width < 1 else f"{self.boundary_width:g} cells"
        draws = f"{self.resamples} resamples, seed {self.seed}"
        if not self.pooled:
            return stated | {"mean": _MEAN, "ci95": f"bootstrap over cases, {draws}"}
        counted = ", ".join(m for m in self._names if m in POOLED)
        others = [m for m in self.metrics if m not in POOLED]
        mean = f"{counted}: of the cells of all cases together (pooled); a mean over classes leaves out absent ones"
        return stated | {
            "mean": mean + (f". {', '.join(others)}: {_MEAN}" if others else ""),
            "ci95": f"bootstrap over cases, pooled anew each time, {draws}",
        }


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Name and text of ``cases.csv`` (a null is an empty field) and ``metrics.json``.

    Spreadsheets take a field that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and names of cases come from
    file names. Such names have a ``'`` in front in ``cases.csv`` (one more, if they have some already), which a
    reader takes off again; ``metrics.json`` has them as they are.
    """
    names = list(dict.fromkeys(key for row in result["cases"] for key in row)) or ["case", "class"]
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _unformulated(value) for key, value in row.items()} for row in result["cases"])
    return {"cases.csv": text.getvalue(), "metrics.json": json.dumps(result, indent=1, allow_nan=False) + "\n"}


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the ``tables`` into ``folder``, both or none."""
    write_together({folder / name: text for name, text in tables(result).items()})


def _unformulated(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; numbers as they are."""
    return f"'{value}" if isinstance(value, str) and re.match(r"'*[=+\-@\t\r]", value) else value
