"""Scores of whole cases, accumulated, and the files they are written to."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics.metric import ClassMetric, Metric, Pooled
from medseg.metrics.pooled import details, pool
from medseg.metrics.registry import Entry, resolve
from medseg.metrics.score import WHOLE_CASE, CaseRecord, score_case
from medseg.metrics.structure import CaseCells
from medseg.metrics.summary import Result, aggregate, none_if_nan
from medseg.runtime.atomic import write_together

_MEAN = "mean over cases of each class, then over classes; cases where a value is null do not enter"

_PARTIAL = (
    "{} of {} cases do not annotate every class: a class is scored for cases that annotate it, and for the others its "
    "predicted cells count as background"
)


class CaseScores:
    """Rows of the cases scored so far, and the settings they are scored with.

    Attributes:
        labels: Names what is scored.
        metrics: What is scored, in the order of the rows.
        pooled: Whether the means of the metrics that pool are those of all cells of all cases together, as is
            usual for scenes, instead of means over cases. Rows stay those of single cases.
        resamples: Draws behind each confidence interval.
        seed: Random seed of the draws.
        rows: Result of ``score_case``, JSON-able but for NaN; rows of other processes may be added.
        records: Numbers of each case that add up over cases; those of other processes may be added.
    """

    def __init__(
        self,
        labels: LabelTable,
        *,
        metrics: Sequence[Entry],
        pooled: bool = False,
        resamples: int = 2000,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        """Find the metrics; see ``registry.resolve``.

        Args:
            labels: See the attributes.
            metrics: Metrics, or names of those of the package, or class paths of one's own.
            pooled: See the attributes.
            resamples: See the attributes.
            seed: See the attributes.
            settings: Settings of metrics of the package by their keys, such as ``nsd_tolerance=2``, and further such
                metrics by their names, such as ``auc=True``.
        """
        self.metrics: tuple[Metric, ...] = resolve(metrics, settings)
        if any(name == WHOLE_CASE for name, _ in labels.targets):
            raise InputError(f"label table: {WHOLE_CASE!r} stands for all classes together; rename the class")
        self.labels, self.pooled, self.resamples, self.seed = labels, pooled, resamples, seed
        self.reset()

    @property
    def needs_prob(self) -> bool:
        """Whether a metric needs the probabilities of each case."""
        return any(metric.needs_prob for metric in self.metrics)

    def reset(self) -> None:
        """Forget all cases."""
        self.rows: list[dict[str, Any]] = []
        self.records: dict[str, CaseRecord] = {}
        self._keys: dict[str, str] = {}

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
        annotated: Bool[np.ndarray, " k"] | None = None,
    ) -> list[dict[str, Any]]:
        """Score one case, keep its rows and return them; for the arguments see ``CaseCells.from_arrays``.

        Raises:
            ValueError: A metric needs probabilities, and there are none.
        """
        if prob is None and self.needs_prob:
            names = ", ".join(metric.name for metric in self.metrics if metric.needs_prob)
            raise ValueError(f"{case}: {names} needs probabilities, got none")
        cells = CaseCells.from_arrays(
            case, pred, label, valid, spacing=spacing, unit=unit, labels=self.labels, prob=prob, annotated=annotated
        )
        rows, self.records[case] = score_case(cells, self.metrics, pooled=self.pooled)
        self._keys = {metric.name: metric.key(unit, cells.ndim) for metric in self.metrics}
        self.rows += rows
        return rows

    def result(self) -> dict[str, Any]:
        """The content of ``metrics.json`` for the cases so far; see ``aggregate`` and ``pool``.

        ``confusion`` has the cells of all cases: a row for each labelled, a column for each predicted
        class. ``details`` is there if a metric has a table of its own, such as sensitivity by size.
        """
        result = aggregate(self.rows, policy=self._policy(), resamples=self.resamples, seed=self.seed)
        result["classes"] = self._every_class(result["classes"]) if self.rows else {}
        result["policy"] |= self._partial()
        records = list(self.records.values())
        for metric in self._pooling if records else ():
            summary, groups = pool(records, metric, resamples=self.resamples, seed=self.seed)
            result["summary"][self._keys[metric.name]] = summary
            if isinstance(metric, ClassMetric):
                for (name, _), of_class in zip(self.labels.targets, groups, strict=True):
                    result["classes"][name][self._keys[metric.name]] = of_class
        k = self.labels.n_classes
        matrix = sum((record.confusion for record in records), np.zeros((k, k), dtype=np.int64))
        tables = self._details(records) if records else {}
        return result | tables | {"confusion": {"classes": list(self.labels.titles), "matrix": matrix.tolist()}}

    def _details(self, records: Sequence[CaseRecord]) -> dict[str, Any]:
        """``details`` of the metrics that have a table; nothing if none has one."""
        names = [name for name, _ in self.labels.targets]
        having = [metric for metric in self.metrics if isinstance(metric, Pooled) and metric.has_detail]
        return {"details": {metric.name: details(records, metric, names) for metric in having}} if having else {}

    def _every_class(self, means: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The means of each class in the order of the table; of one that no case annotates, none."""
        keys = dict.fromkeys(key for by_metric in means.values() for key in by_metric)
        none = {key: {"mean": None, "ci95": None, "cases": 0} for key in keys}
        return {name: means.get(name, dict(none)) for name, _ in self.labels.targets}

    def _partial(self) -> dict[str, str]:
        """What ``policy`` says where cases do not annotate every class; nothing where all do."""
        rows = Counter(case for case, name in {(r["case"], r["class"]) for r in self.rows} if name != WHOLE_CASE)
        partial = sum(n < len(self.labels.targets) for n in rows.values())
        return {"annotated": _PARTIAL.format(partial, len(rows))} if partial else {}

    def glance(self) -> str:
        """The first metric of the cases so far, averaged over their rows: cheap, for a progress bar; empty at first."""
        first, key = self.metrics[0].name, self.key_of(self.metrics[0])
        values = [row[key] for row in self.rows if row["class"] != WHOLE_CASE and row.get(key) is not None]
        values = [value for value in values if not math.isnan(value)]
        return f"{first} {sum(values) / len(values):.4f}" if values else ""

    def stored(self) -> dict[str, Any]:
        """All that is known of the cases so far, JSON-able; ``add_stored`` is its inverse."""
        return {
            "cases": [{key: none_if_nan(value) for key, value in row.items()} for row in self.rows],
            "records": {
                case: {
                    "confusion": record.confusion.tolist(),
                    "parts": {name: part.tolist() for name, part in record.parts.items()},
                }
                for case, record in self.records.items()
            },
            "keys": dict(self._keys),
        }

    def add_stored(self, stored: Mapping[str, Any]) -> None:
        """Add the cases of other scores with the same settings, as ``stored`` gave them."""
        self.rows += [
            {key: math.nan if value is None else value for key, value in row.items()} for row in stored["cases"]
        ]
        for case, record in stored["records"].items():
            parts = {name: np.array(part) for name, part in record["parts"].items()}
            self.records[case] = CaseRecord(np.array(record["confusion"], dtype=np.int64), parts)
        self._keys |= stored["keys"]

    def only(self, cases: Collection[str]) -> CaseScores:
        """The scores of some of the cases, with the same settings."""
        part = copy(self)
        part.rows = [row for row in self.rows if row["case"] in cases]
        part.records = {case: record for case, record in self.records.items() if case in cases}
        return part

    @property
    def cases(self) -> list[str]:
        """Names of the cases so far, in order."""
        return list(dict.fromkeys(row["case"] for row in self.rows))

    def key_of(self, metric: Metric) -> str:
        """Key of a metric in the rows of the cases so far, with its unit."""
        return self._keys.get(metric.name, metric.name)

    def sort(self) -> None:
        """Put the cases in the order of their names, so that results do not depend on the order of adding them."""
        self.rows.sort(key=lambda row: row["case"])
        self.records = dict(sorted(self.records.items()))

    @property
    def _pooling(self) -> list[Pooled]:
        return [metric for metric in self.metrics if self.pooled and isinstance(metric, Pooled)]

    def _policy(self) -> dict[str, object]:
        """Costs of each metric, and how means and intervals are formed."""
        stated: dict[str, object] = {metric.name: metric.stated(self.labels) for metric in self.metrics}
        draws = f"{self.resamples} resamples, seed {self.seed}"
        if not self.pooled:
            return stated | {"mean": _MEAN, "ci95": f"bootstrap over cases, {draws}"}
        counted = ", ".join(metric.name for metric in self._pooling)
        others = ", ".join(metric.name for metric in self.metrics if not isinstance(metric, Pooled))
        mean = f"{counted}: of the cells of all cases together (pooled); a mean over classes leaves out absent ones"
        return stated | {
            "mean": mean + (f". {others}: {_MEAN}" if others else ""),
            "ci95": f"bootstrap over cases, pooled anew each time, {draws}",
        }


def tables(result: Result) -> dict[str, str]:
    """Name and text of ``cases.csv`` (see ``csv_text``) and ``metrics.json``, which has names of cases as they are."""
    return {
        "cases.csv": csv_text(result["cases"], ("case", "class")),
        "metrics.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
    }


def csv_text(rows: Sequence[Mapping[str, Any]], empty: Sequence[str] = ()) -> str:
    """A table of rows, with a column for each key; a null is an empty field.

    Spreadsheets take a field that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and names of cases come from
    file names. Such names have a ``'`` in front (one more, if they have some already), which a reader takes off again.

    Args:
        rows: The rows.
        empty: Columns where there is no row.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)) or empty, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _escape_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def write(folder: Path, result: Result) -> None:
    """Write the ``tables`` into ``folder``, both or none."""
    write_together({folder / name: text for name, text in tables(result).items()})


def _escape_formula(value: object) -> object:
    """A text that no spreadsheet takes for a formula; numbers as they are."""
    return f"'{value}" if isinstance(value, str) and re.match(r"'*[=+\-@\t\r]", value) else value
