"""Sweep: a search by Optuna, one trial at a time, that continues after a kill.

Hydra's own plug-in (hydra-optuna-sweeper 1.3) needs Optuna below version 3, and its study continues with new
trials only; here the trial that was killed is resumed from its last checkpoint.
"""

from __future__ import annotations

import csv
import fcntl
import io
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show
from medseg.sweeps.space import SearchDimension

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

_LOG = logging.getLogger(__name__)

Train = Callable[[Sequence[str], Callable[[int, float], None]], float]
"""(overrides, function that is called with step and score of each validation) -> score of the run."""


class Sweep:
    """Settings of a sweep.

    Args:
        folder: Folder of the study; trial n is the run folder ``<folder>/<n>``.
        trials: How many, of all invocations together.
        startup: Of these, drawn at random before proposals begin, and before any is ended early.
        prune: End a trial whose score is below the median of earlier ones at the same step.
        space: Name to what ``SearchDimension.parse`` reads; null drops one.

    Raises:
        InputError: An empty space, or settings out of range.
    """

    def __init__(
        self, folder: str, *, trials: int, startup: int, prune: bool, space: Mapping[str, Mapping[str, object] | None]
    ) -> None:
        if trials < 1 or startup < 1:
            raise InputError(f"sweep.trials={trials} sweep.startup={startup}: expected 1 or more of each")
        self.folder, self.trials, self.startup, self.prune = Path(folder), trials, startup, prune
        self.space = [SearchDimension.parse(name, stated) for name, stated in space.items() if stated is not None]
        if not self.space:
            raise InputError("sweep.space is empty; give an entry such as {key: optimizer.lr, low: 1e-4, high: 1e-2}")

    def search(self, overrides: Sequence[str], train: Train, *, key: str, mode: str, seed: int = 0) -> Path:
        """Run the trials that are missing in the study.

        The n-th proposal is a function of seed, n and the scores so far, with or without interruptions.

        Args:
            overrides: Overrides that all trials share.
            train: Runs one.
            key: Logged key of the score.
            mode: ``max`` or ``min``, which is best.
            seed: Random seed of the proposals.

        Returns:
            ``best.yaml`` of the study.

        Raises:
            InputError: Optuna is not installed, another process runs the study, the study is of another command, or
                no trial was completed.
        """
        optuna = _optuna()
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder):
            study = self._study(overrides, mode)
            for number in range(self.trials):
                frozen = study.trials[number] if number < len(study.trials) else None
                if frozen is not None and frozen.state.is_finished():
                    continue
                study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.startup, seed=seed * 100_003 + number)
                trial = study.ask() if frozen is None else optuna.trial.Trial(study, frozen._trial_id)
                self._run(study, trial, overrides, train)
                self._write(study, overrides)
            return self._end(study, overrides, key)

    def check(self, overrides: Sequence[str]) -> None:
        """Raise, before the first trial, if a key can't be swept.

        Raises:
            InputError: Optuna is not installed, a key is also set on the command line, or does not exist.
        """
        _optuna()
        overridden = {word.partition("=")[0].lstrip("+") for word in overrides}
        for dimension in self.space:
            if dimension.key in overridden:
                raise InputError(
                    f"{dimension.key} is swept, and set on the command line as well; leave out one of them"
                )
            for example in dimension.examples():
                compose("train", [*overrides, example])

    def _study(self, overrides: Sequence[str], mode: str) -> Study:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study: Study = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name="sweep",
            load_if_exists=True,
            direction=f"{mode}imize",
            pruner=optuna.pruners.MedianPruner(self.startup) if self.prune else optuna.pruners.NopPruner(),
        )
        asked = {"overrides": list(overrides), "space": [repr(dimension) for dimension in self.space]}
        before = study.user_attrs.get("asked", asked)
        if before != asked:
            changed = next(k for k in asked if asked[k] != before[k])
            raise InputError(
                f"sweep.folder={self.folder} holds a study with other {changed} ({before[changed]}); go on with those, "
                "or give another folder"
            )
        study.set_user_attr("asked", asked)
        return study

    def _run(self, study: Study, trial: Trial, overrides: Sequence[str], train: Train) -> None:
        """Train one trial and store its result in the study; an interrupted one stays open."""
        optuna = _optuna()
        from torch import OutOfMemoryError

        proposal = [dimension.propose(trial) for dimension in self.space]
        run_dir = self.folder / str(trial.number)
        resumes = (run_dir / "checkpoints" / "last.ckpt").is_file()
        own = [*proposal, f"run_dir={run_dir}", *(["ckpt_path=last"] if resumes else [])]
        show(_LOG, f"Trial {trial.number} of {self.trials}{', resumed' if resumes else ''}: {' '.join(proposal)}")
        reported = set(study.trials[trial.number].intermediate_values)
        began = time.monotonic()

        def on_score(step: int, score: float) -> None:
            if step not in reported:
                trial.report(score, step)
            if self.prune and trial.should_prune():
                raise optuna.TrialPruned

        state, score = optuna.trial.TrialState, None
        try:
            score, ended = train([*overrides, *own], on_score), state.COMPLETE
        except optuna.TrialPruned:
            ended = state.PRUNED
        except (InputError, OutOfMemoryError) as error:  # of these settings; others may do
            ended = state.FAIL
            show(_LOG, f"Trial {trial.number} failed: {' '.join(str(error).split())}")
        except Exception:  # a defect, or the machine's; not tried again when the sweep is continued
            study.tell(trial, state=state.FAIL)
            raise
        trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
        study.tell(trial, score, state=ended)

    def _write(self, study: Study, overrides: Sequence[str]) -> None:
        """``trials.csv`` of all trials so far, and ``best.yaml``."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["trial", "state", "score", "seconds", *(d.key for d in self.space)])
        for t in study.trials:
            values = [t.params.get(d.key) for d in self.space]
            rows.writerow([t.number, t.state.name.lower(), t.value, t.user_attrs.get("seconds"), *values])
        write_whole(self.folder / "trials.csv", text.getvalue())
        ranked = self._ranked(study)
        if ranked:
            best = ranked[0]
            content = {
                "trial": best.number,
                "score": best.value,
                "run": str(self.folder / str(best.number)),
                "overrides": [f"{d.key}={best.params[d.key]}" for d in self.space],
                "command": _typed([*overrides, *(f"{d.key}={best.params[d.key]}" for d in self.space)]),
            }
            write_whole(self.folder / "best.yaml", yaml.safe_dump(content, sort_keys=False, width=1000))

    def _ranked(self, study: Study) -> list[FrozenTrial]:
        sign = -1 if study.direction.name == "MAXIMIZE" else 1
        done = [t for t in study.trials if t.state.name == "COMPLETE" and t.value is not None]
        return sorted(done, key=lambda t: (sign * (t.value or 0.0), t.number))

    def _end(self, study: Study, overrides: Sequence[str], key: str) -> Path:
        from rich.table import Table

        ranked = self._ranked(study)
        if not ranked:
            raise InputError(
                f"no trial of {self.folder} was completed; see the reasons above, and choose another sweep.folder"
            )
        table = Table("trial", key, *(d.key for d in self.space), box=None, padding=(0, 2, 0, 0))
        for t in ranked[:5]:
            shown = [t.params[d.key] for d in self.space]
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in (t.number, t.value, *shown)))
        show(_LOG, table)
        counts = {s: sum(t.state.name == s for t in study.trials) for s in ("COMPLETE", "PRUNED", "FAIL")}
        show(
            _LOG,
            f"{counts['COMPLETE']} trials complete, {counts['PRUNED']} ended early, {counts['FAIL']} failed. "
            f"Everything is in {self.folder} (best.yaml, trials.csv).",
        )
        best = yaml.safe_load((self.folder / "best.yaml").read_text(encoding="utf-8"))
        show(_LOG, f"Next: {best['command']}")
        return self.folder / "best.yaml"


def _typed(overrides: Sequence[str]) -> str:
    return " ".join(["medseg-train", *(shlex.quote(word) for word in overrides)])


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("sweep= needs Optuna, which is not installed; pip install 'medseg[optuna]'") from None
    return optuna


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time works on a study, as trials that are open are taken for interrupted ones."""
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"sweep.folder={folder}: another process runs this study; wait, or choose another folder"
            ) from None
        yield
