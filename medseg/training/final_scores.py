"""Scores of the predictor of a run on whole labelled cases, on the grid of their own files, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from omegaconf import DictConfig, OmegaConf

from medseg.checkpoint import RunMetadata
from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.open_case import CaseReader
from medseg.evaluation.grouping import Grouping
from medseg.factory import split
from medseg.factory.instantiate import instantiate
from medseg.inference.predictor import CasePredictor
from medseg.metrics.accumulate import CaseScores, tables
from medseg.metrics.availability import with_availability
from medseg.metrics.case_labels import CaseLabelScores
from medseg.metrics.observers import ObserverScores
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.labelled import Open, predict_labelled
from medseg.report.availability import availability_table
from medseg.report.html import write_run_report
from medseg.report.observers import HEADING, observers_table
from medseg.report.subgroups import subgroup_tables
from medseg.report.titles import title
from medseg.runtime.atomic import write_whole
from medseg.runtime.progress import watched
from medseg.training.drawings import CaseDrawing, ReducedImage, draw
from medseg.training.run_directory import VALIDATION

_DRAWN = 4  # cases


@dataclass(frozen=True)
class Scored:
    """A run whose checkpoint is scored.

    Attributes:
        predictor: Of the checkpoint.
        metadata: That the checkpoint holds.
        checkpoint: ``best`` or ``last``.
        dataset: Of the training.
        val: Its validation cases.
        fold: Whether the scores of the validation fold are written too, of which cross-validation is made.
        without: Channels, or image groups, that are taken away from every case, as if it lacked them.
        groups: What scores are split by; None for nothing.
    """

    predictor: FilePredictor
    metadata: RunMetadata
    checkpoint: str
    dataset: Dataset
    val: Sequence[Case]
    fold: bool
    without: tuple[str, ...] = ()
    groups: Grouping | None = None

    def write(self, cfg: DictConfig, folder: Path, name: str) -> tuple[dict[str, Any], list[CaseDrawing]]:
        """Score the test set, else the validation fold; write ``metrics.json``, ``cases.csv`` and the report.

        Args:
            cfg: Configuration of the run, of which ``split`` and ``metric`` are read.
            folder: Where files are written.
            name: Of the run, for the heading.

        Returns:
            The content of ``metrics.json``, and drawings of some cases.
        """
        test = split.judged(cfg.split, self.dataset)
        fold = f"validation fold {cfg.split.fold}"
        cases, which = (test, split.TEST_SET) if test else (self.val, fold)
        scores, result, drawings = self._scored(cfg, cases, which, _DRAWN)
        if self.metadata.calibration is not None:
            result["calibration"] = dict(self.metadata.calibration)
        if self.fold:
            held, of_fold, _ = self._scored(cfg, self.val, fold, 0) if test else (scores, result, [])
            settings = {"fold": cfg.split.fold, "metric": OmegaConf.to_container(cfg.metric, resolve=True)}
            stored = of_fold | held.stored() | {"labels": self.dataset.spec.labels.to_dict()}
            text = json.dumps({"format": 1, **settings, **stored}, allow_nan=False)
            write_whole(folder / VALIDATION, text + "\n")
        titles = partial(title, metrics=scores.metrics)
        write_run_report(
            folder / "report.html",
            result,
            [(drawn.case, drawn.png) for drawn in drawings],
            self.metadata.to_dict(),
            name=name,
            tables=tables(result),
            sections=[
                ("Scores by available channels", availability_table(result, titles)),
                (HEADING, observers_table(result, titles)),
                ("Scores of groups", subgroup_tables(result, titles)),
            ],
            metrics=scores.metrics,
        )
        return result, drawings

    def _scored(
        self, cfg: DictConfig, cases: Sequence[Case], which: str, shown: int
    ) -> tuple[CaseScores, dict[str, Any], list[CaseDrawing]]:
        scores: CaseScores = instantiate(cfg.metric)(labels=self.dataset.spec.labels)
        label = self.metadata.spec.case_label
        classes = None if label is None else CaseLabelScores(label.name, label.values)
        observers = ObserverScores(scores)
        drawings = evaluate_predictor(
            self.predictor.arrays,
            cases,
            self._open,
            scores,
            shown=shown,
            watch=lambda every: watched(every, f"evaluating {which}", so_far=scores.glance),
            classes=classes,
            observers=observers,
        )
        result = scores.result() | ({} if classes is None else {"case_label": classes.result()}) | observers.result()
        result["policy"] |= {"cases": which, "checkpoint": self.checkpoint, "step": str(self.predictor.step)}
        result["policy"] |= {"without": ", ".join(self.without)} if self.without else {}
        result |= {} if self.groups is None else self.groups.scores(scores)
        return scores, self._by_availability(result, scores, cases), drawings

    def _open(self, case: Case) -> CaseReader:
        """A case, without the channels that are taken away."""
        opened = self.dataset.open(case)
        return opened.without(self.without) if self.without else opened

    def _by_availability(self, result: dict[str, Any], scores: CaseScores, cases: Sequence[Case]) -> dict[str, Any]:
        """The result with means by the channels that cases have, if some may lack some."""
        if self.dataset.reading.absent != "allow" and not self.without:
            return result
        channels = [channel.name for channel in self.dataset.spec.channels]
        present = {case.id: self._open(case).present for case in cases}
        lacks = {case: [n for n, there in zip(channels, own) if not there] for case, own in present.items()}
        return with_availability(result, scores, channels, lacks)


def evaluate_predictor(
    predictor: CasePredictor[Preprocess],
    cases: Sequence[Case],
    open_case: Open,
    scores: CaseScores,
    *,
    shown: int = _DRAWN,
    watch: Callable[[Sequence[Case]], Iterable[Case]] = iter,
    classes: CaseLabelScores | None = None,
    observers: ObserverScores | None = None,
) -> list[CaseDrawing]:
    """Predict and score every case; the scores go into ``scores``.

    What is scored is what ``medseg-predict`` would write, read as it reads: scenes window by window.

    Args:
        predictor: One or several trained networks with their preprocessing and decision.
        cases: Labelled cases.
        open_case: Opens one case.
        scores: Collects the rows.
        shown: Number of cases that are drawn, spread over all.
        watch: Wraps the iteration, for a progress bar.
        classes: Collects the classes of the cases; None where the networks give none.
        observers: Collects scores against each observer, of cases that several have labelled.

    Returns:
        Drawings of the shown cases.
    """
    drawn = {cases[i].id for i in np.linspace(0, len(cases) - 1, min(shown, len(cases))).astype(int)}
    drawings = []
    for case in watch(cases):
        shows = case.id in drawn
        reduced = ReducedImage(open_case(case).shape) if shows and predictor.spec.ndim == 2 else None
        predicted = predict_labelled(
            predictor,
            case,
            open_case,
            prob=scores.needs_prob,
            on_window=None if reduced is None else reduced.add,
        )
        if classes is not None and predicted.case_prob is not None and case.facts is not None:
            classes.add(predicted.case_prob, case.facts[classes.name])
        grid = predicted.grid
        place: Any = {"spacing": grid.spacing, "unit": grid.unit, "annotated": predicted.annotated}
        scores.add(case.id, predicted.index, predicted.label, predicted.valid, prob=predicted.prob, **place)
        if observers is not None and case.observers is not None:
            observers.add(case.id, predicted.index, _votes(case, open_case), predicted.valid, **place)
        if shows:
            drawings.append(draw(case, predicted, reduced, open_case, predictor.spec))
    return drawings


def _votes(case: Case, open_case: Open) -> dict[str, Int[np.ndarray, " *s"]]:
    """The label of each observer of a case, on its own cells."""
    files = () if case.observers is None else case.observers.files
    return {name: open_case(replace(case, label=path, observers=None)).read_label() for name, path in files}
