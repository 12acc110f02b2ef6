"""The cases of a prediction as jobs: what each is to write, what may be kept, and one damaged case at a time."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from medseg import formats
from medseg.data.case import Case
from medseg.engine.engine import Engine, Failure
from medseg.engine.failures import report_failures
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from medseg.formats.polygons import PolygonOptions
from medseg.prediction.bands import BAND_KINDS, band_name
from medseg.prediction.case_labels import KIND as CASE_LABELS_KIND
from medseg.prediction.case_labels import case_label_name
from medseg.prediction.record import OTHER_CHECKPOINT, Finding, Record
from medseg.prediction.writer import Task, Writer
from medseg.runtime.progress import Watch

_LOG = logging.getLogger(__name__)
_FROM_LABELS = ("polygons",)
"""Kinds of outputs that are made from the label file."""


@dataclass(frozen=True)
class Request:
    """Which files are to be written for each case.

    Attributes:
        bands: Kinds of bands, such as ``probabilities``, a file each.
        polygons: Which polygons a file of them holds, of scenes; None for no such file.
        case_labels: Whether a file holds the class of the case.
    """

    bands: tuple[str, ...] = ()
    polygons: PolygonOptions | None = None
    case_labels: bool = False

    @property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings that decide single kinds of outputs."""
        if self.polygons is None:
            return {}
        settings = {name: float(value) for name, value in vars(self.polygons).items()}
        return {"polygons": {**settings, "mean_probability": self.mean_probability}}

    @property
    def mean_probability(self) -> bool:
        """Whether polygons have the mean probability of their class."""
        return self.polygons is not None and "probabilities" in self.bands

    def outputs(self, label: str) -> dict[str, str]:
        """Path of each kind of output below the folder of the label files.

        Example:
            >>> Request(polygons=PolygonOptions()).outputs("scene.tif")
            {'labels': 'scene.tif', 'polygons': 'polygons/scene.gpkg'}
        """
        found = {"labels": label}
        found |= {kind: band_name(kind, label) for kind in self.bands}
        if self.case_labels:
            found[CASE_LABELS_KIND] = case_label_name(label)
        if self.polygons is not None:
            found["polygons"] = f"polygons/{formats.stem(label)}.gpkg"
        return found


@dataclass(frozen=True)
class Job:
    """One case and the files that it is written to.

    Attributes:
        case: The case.
        label: Name of its label file.
        finding: What the folder holds of it.
    """

    case: Case
    label: str
    finding: Finding


class Written(NamedTuple):
    """What a prediction wrote.

    Attributes:
        labels: Number of label files.
        completed: Number of kept label files that got further outputs, such as polygons.
    """

    labels: int
    completed: int


def find_jobs(cases: Sequence[Case], labels: Sequence[str], record: Record, request: Request) -> list[Job]:
    """A job for each case, with what the folder already holds of it.

    Args:
        cases: The cases.
        labels: Name of the label file of each.
        record: Of the folder.
        request: What is to be written.
    """
    return [
        Job(case, label, record.find(request.outputs(label), case.images, request.options))
        for case, label in zip(cases, labels, strict=True)
    ]


def check_conflicts(jobs: Sequence[Job], output: Path) -> None:
    """Refuse files that are there and are not what this command would write.

    Raises:
        InputError: Says how many, and why.
    """
    counts = Counter(job.finding.conflict for job in jobs if job.finding.conflict)
    if counts:
        reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
        first = next(job.label for job in jobs if job.finding.conflict)
        raise InputError(
            f"output={output}: {sum(counts.values())} of {len(jobs)} label files are there already and can't be kept: "
            f"{reasons} (such as {first}); overwrite=true replaces them, or choose another output"
        )


def warn_of_others(jobs: Sequence[Job], record: Record, request: Request) -> None:
    """Warn of label files of other cases that another checkpoint or other settings made."""
    others = record.others([request.outputs(job.label) for job in jobs])
    if others:
        _LOG.warning(
            "%s also holds %d label file(s) of other cases, %s or settings; medseg-evaluate would score them together "
            "with these",
            record.folder,
            others,
            OTHER_CHECKPOINT,
        )


def run_jobs(
    jobs: Sequence[Job], writer: Writer, record: Record, request: Request, *, overwrite: bool, engine: Engine
) -> Written:
    """Write what is missing of each job, or everything.

    A case that can't be read does not stop the others. This process alone writes the record.

    Args:
        jobs: Of ``find_jobs``, without conflicts unless ``overwrite``.
        writer: Writes the files of a case, here or in a worker.
        record: Of the folder.
        request: What is to be written.
        overwrite: Write everything anew.
        engine: Calls the writer.

    Raises:
        InputError: Some cases could not be predicted; they are listed on stderr if there are several.
    """
    todo = [job for job in jobs if overwrite or set(request.outputs(job.label)) - job.finding.valid]
    if len(todo) == 1 and not engine.elsewhere:
        engine = LocalEngine()  # which says how far a large scene is
    with closing(record), Watch("predicting", len(todo)) as watch:
        if engine.in_process:
            writer = replace(writer, on_rows=watch.part)
        batch = _Batch(record, request, overwrite=overwrite, watch=watch)
        batch.run(todo, engine, writer)
    report_failures(batch.failed, len(jobs), what="predicted", rest=f"are in {record.folder}")
    return Written(len(todo) - batch.completed, batch.completed)


class _Batch:
    """Jobs in work, with the record of what they have written.

    Args:
        record: Of the folder.
        request: What is to be written.
        overwrite: Write everything anew.
        watch: Shows what is done.
    """

    def __init__(self, record: Record, request: Request, *, overwrite: bool, watch: Watch) -> None:
        self.failed: dict[str, str] = {}
        self.completed = 0
        self._record, self._request, self._overwrite, self._watch = record, request, overwrite, watch
        self._waiting: deque[tuple[Job, Sequence[str]]] = deque()
        self._jobs: dict[Path, Job] = {}

    def run(self, jobs: Sequence[Job], engine: Engine, writer: Writer) -> None:
        """Work on all jobs; a kind that is made from the label file is a task of its own, once that is there."""
        predicted = [kind for kind in self._request.outputs("") if kind not in _FROM_LABELS]
        self._waiting.extend((job, predicted) for job in jobs)
        while self._waiting:
            for task, made in engine.map(writer, self._tasks()):
                job = self._jobs.pop(task.label)
                if isinstance(made, Failure):
                    self._fail(job, made.reason)
                else:
                    outputs, options = self._request.outputs(job.label), self._request.options
                    self._record.finish(outputs, made.digests, made.images, options)
                    self._go_on(job, tuple(task.outputs))

    def _tasks(self) -> Iterator[Task]:
        """Tasks of the waiting jobs, each entered into the record when a worker takes it."""
        while self._waiting:
            job, kinds = self._waiting.popleft()
            try:
                to_write = self._begin(job, kinds)
            except InputError as error:
                self._fail(job, str(error))
                continue
            if to_write:
                folder, outputs = self._record.folder, self._request.outputs(job.label)
                paths = {kind: folder / outputs[kind] for kind in kinds}
                case = job.case
                task = Task(case.images, folder / job.label, paths, case.image_groups, case.facts, case.absent)
                self._jobs[task.label] = job
                yield task

    def _begin(self, job: Job, kinds: Sequence[str]) -> bool:
        """Enter a job into the record; False if the files of these kinds are kept."""
        if "labels" not in kinds:  # it was entered with its label file
            return True
        kept = not self._overwrite and job.finding.valid.issuperset(kinds)
        every = Request(BAND_KINDS, PolygonOptions(), case_labels=True).outputs(job.label).values()
        outputs = self._request.outputs(job.label)
        self._record.begin(outputs, job.case.images, every=every, kept=kinds if kept else ())
        if kept:
            self.completed += 1
            self._go_on(job, kinds)
        return not kept

    def _go_on(self, job: Job, done: Sequence[str]) -> None:
        """Put what follows from the label file in front, or count the case as done."""
        further = [kind for kind in self._request.outputs(job.label) if kind in _FROM_LABELS]
        if further and "labels" in done:
            self._waiting.appendleft((job, further))
        else:
            self._watch.advance()

    def _fail(self, job: Job, reason: str) -> None:
        self.failed[job.case.id] = reason
        self._record.abandon(self._request.outputs(job.label))
        self._watch.advance()
