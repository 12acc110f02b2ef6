"""The decisions of a selection, one after the other: configuration, ensemble, mirrors, post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from medseg.inference.postprocess import PostProcess
from medseg.runtime.progress import watched
from medseg.selection.decisions import Decision, best_single, decide
from medseg.selection.members import Member
from medseg.selection.predictions import CaseData, Predictions, Scorer, predict_sets
from medseg.selection.steps import others, steps_to_try, title
from medseg.selection.unseen import Unseen

_SINGLE, _ENSEMBLE, _MIRRORS, _POST = "single configuration", "ensemble", "mirrors", "post-processing"
_AS_TRAINED, _NONE = "as in training", "none"


class Stages:
    """All decisions about some members.

    Attributes:
        metric: What decides.
        chosen: The members that were chosen.
        flips: Mirrors that were chosen; None: as each training says.
        steps: Post-processing that was chosen, as plain data.
        decisions: What was decided so far.

    Args:
        cfg: ``conf/select.yaml``, composed.
        members: Candidates.
        folder: For label maps, temporary.

    Raises:
        InputError: A metric that can't decide, or cases that are not where the first run read them.
    """

    def __init__(self, cfg: DictConfig, members: Sequence[Member], folder: Path) -> None:
        self.cfg, self.members = cfg, list(members)
        first = members[0].networks[0].metadata
        pooled = bool(first.config["metric"].get("pooled", False))
        self.metric = str(cfg.criterion or ("iou" if pooled else "dice"))
        self._scorer = Scorer(self.metric, first.spec.labels)
        self._unseen = Unseen(members, root=cfg.data.root, device=cfg.device, trust=cfg.trust)
        self._predictions = Predictions(folder)
        self.chosen: list[Member] = []
        self.flips: bool | None = None
        self.steps: list[dict[str, Any]] = []
        self.decisions: list[Decision] = []
        self._base = (_SINGLE, "")  # decision and candidate of the predictions that are chosen so far

    def decide(self) -> Iterator[Decision]:
        """Each decision as soon as it is made."""
        for stage in (self._single, self._ensembles, self._mirrors, self._postprocessing):
            for decision in stage():
                self.decisions.append(decision)
                yield decision

    def rows(self) -> list[dict[str, Any]]:
        """Scores of each candidate and case."""
        return self._predictions.rows(self.metric)

    def _sets(self) -> dict[str, tuple[int, ...]]:
        """Single members, pairs, and all together, by name."""
        n = len(self.members)
        sizes = dict.fromkeys((1, 2, n) if self.cfg.ensembles and n > 1 else (1,))
        sets = [places for size in sizes for places in combinations(range(n), size)]
        return {" + ".join(self.members[place].name for place in places): places for places in sets}

    def _single(self) -> Iterator[Decision]:
        sets = self._sets()
        self._predict("predicting", sets, {name: _SINGLE if len(p) == 1 else _ENSEMBLE for name, p in sets.items()})
        decision = best_single(self._predictions.scores(_SINGLE), larger=self._scorer.larger, alpha=self.cfg.alpha)
        self._base = (_SINGLE, decision.choice)
        self.chosen = [self.members[place] for place in sets[decision.choice]]
        yield decision

    def _ensembles(self) -> Iterator[Decision]:
        if ensembles := self._predictions.scores(_ENSEMBLE):
            decision = self._decided(_ENSEMBLE, self._base[1], ensembles | {self._base[1]: self._base_scores()})
            if decision.choice != decision.null:
                self._base = (_ENSEMBLE, decision.choice)
                self.chosen = [self.members[place] for place in self._sets()[decision.choice]]
            yield decision

    def _mirrors(self) -> Iterator[Decision]:
        trained = {bool(n.metadata.config["inference"]["flips"]) for member in self.chosen for n in member.networks}
        values = {f"{'with' if flips else 'without'} mirrors": flips for flips in (True, False) if trained != {flips}}
        if not self.cfg.mirrors:
            return
        places = [self.members.index(member) for member in self.chosen]
        for name, flips in values.items():
            self._predict(f"predicting {name}", {name: places}, {name: _MIRRORS}, flips)
        candidates = {_AS_TRAINED: self._base_scores()} | self._predictions.scores(_MIRRORS)
        decision = self._decided(_MIRRORS, _AS_TRAINED, candidates)
        if decision.choice != decision.null:
            self._base, self.flips = (_MIRRORS, decision.choice), values[decision.choice]
        yield decision

    def _postprocessing(self) -> Iterator[Decision]:
        """Rounds: the best significant step is added to those before it, until there is none."""
        grids = [self._unseen.source.open(case).grid for case in self._unseen.cases.values()]
        keys = {key: self.cfg[key] for key in ("steps", "sizes", "unit")}
        waiting = {title(step): step for step in steps_to_try(self._scorer.labels, grids, **keys)}
        source, base = self._base, self._predictions.values[self._base]
        while waiting:
            name = f"{_POST} {len(self.steps) + 1}"
            self._score_steps(name, waiting, source[1], base)
            decision = self._decided(name, _NONE, self._predictions.scores(name))
            if decision.choice == _NONE:
                waiting = {}
            else:
                self.steps.append(waiting[decision.choice])
                base = self._predictions.values[name, decision.choice]
                waiting = others(waiting, waiting[decision.choice])
            yield decision

    def _score_steps(
        self,
        name: str,
        waiting: Mapping[str, Mapping[str, Any]],
        source: str,
        base: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Score the chosen prediction of each case without a further step, and with each that is tried."""
        labels = self._scorer.labels
        before = PostProcess.from_list(self.steps, labels)
        tried = {one: PostProcess.from_list([*self.steps, step], labels) for one, step in waiting.items()}
        for case in watched(self._unseen.cases, name):
            sample = self._unseen.read(case)
            data, index = CaseData.of(sample), self._predictions.index(source, case)
            current = before(index, sample.grid, labels, sample.valid)
            self._predictions.add(name, _NONE, case, base[case])
            for one, steps in tried.items():
                changed = steps(index, sample.grid, labels, sample.valid)
                values = base[case] if np.array_equal(changed, current) else self._scorer(changed, data)
                self._predictions.add(name, one, case, values)

    def _decided(self, name: str, null: str, candidates: Mapping[str, Mapping[str, float]]) -> Decision:
        return decide(name, null, candidates, larger=self._scorer.larger, alpha=self.cfg.alpha)

    def _base_scores(self) -> dict[str, float]:
        return self._predictions.scores(self._base[0])[self._base[1]]

    def _predict(
        self,
        what: str,
        sets: Mapping[str, Sequence[int]],
        decisions: Mapping[str, str],
        flips: bool | None = None,
    ) -> None:
        samples = map(self._unseen.read, watched(self._unseen.in_order_of_networks(), what))
        predict_sets(
            samples,
            sets,
            lambda place, sample: self._unseen.probability(place, sample, flips),
            self._predictions,
            self._scorer,
            decisions=decisions,
        )
