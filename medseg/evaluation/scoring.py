"""All cases of an evaluation, by the workers of an engine; those that fail do not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medseg.engine.engine import Engine, Failure
from medseg.engine.failures import report_failures
from medseg.evaluation.pairs import EvaluationPair
from medseg.evaluation.score_case import CaseResult, ScoreCase, Work, values_of_case
from medseg.metrics.accumulate import CaseScores
from medseg.runtime.progress import Watch


class Scoring:
    """Cases in work.

    Attributes:
        failed: Reason of each case that failed.

    Args:
        cases: Files of each case.
        engine: Works on the cases.
        written: File of the scores, for messages.
    """

    def __init__(self, cases: Mapping[str, EvaluationPair], engine: Engine, written: Path) -> None:
        self.failed: dict[str, str] = {}
        self._cases, self._engine, self._written = cases, engine, written

    def report(self) -> None:
        """End the evaluation if cases failed.

        Raises:
            InputError: See ``report_failures``.
        """
        report_failures(self.failed, len(self._cases), what="scored", rest=f"are in {self._written}")

    def values(self) -> set[int]:
        """The raw values that stand in the files.

        Raises:
            InputError: Every case failed.
        """
        of_cases = [values for _, values in self._map(values_of_case)]
        self._check_any()
        return set().union(*of_cases)

    def scores(self, score: ScoreCase, scores: CaseScores) -> dict[str, CaseResult]:
        """Score every case into ``scores``; the results, in the order of the cases.

        Raises:
            InputError: Every case failed.
        """
        results: dict[str, CaseResult] = {}
        left = len(self._cases) - len(self.failed)
        with Watch("evaluating", left, so_far=scores.glance) as watch:
            for case, result in self._map(score, watch.advance):
                results[case] = result
                scores.add_stored(result.scores)
        self._check_any()
        scores.reset()
        ordered = {case: results[case] for case in self._cases if case in results}
        for result in ordered.values():
            scores.add_stored(result.scores)
        return ordered

    def _check_any(self) -> None:
        if len(self.failed) == len(self._cases):
            self.report()

    def _map(self, function: Callable[[Work], Any], done: Callable[[], object] = bool) -> Iterator[tuple[str, Any]]:
        """Results of the cases that have not failed yet."""
        cases = [work for work in self._cases.items() if work[0] not in self.failed]
        for (case, _), result in self._engine.map(function, cases):
            if isinstance(result, Failure):
                self.failed[case] = result.reason
            else:
                yield case, result
            done()
