"""The cases of a prediction as jobs: what each is to write, what may be kept, and one damaged case at a time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medseg import formats
from medseg.data.case import Case
from medseg.errors import InputError
from medseg.formats.polygons import polygons
from medseg.prediction.bands import BAND_KINDS, band_name
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.record import OTHER_CHECKPOINT, Finding, Record
from medseg.runtime.progress import Watch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Which files are to be written for each case.

    Attributes:
        bands: Kinds of bands, such as ``probabilities``, a file each.
        polygons: Of scenes, a file of polygons.
        min_area_m2: Area below which polygons are left out.
    """

    bands: tuple[str, ...] = ()
    polygons: bool = False
    min_area_m2: float = 0

    @property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings that decide single kinds of outputs."""
        return {"polygons": {"min_area_m2": float(self.min_area_m2)}}

    def outputs(self, label: str) -> dict[str, str]:
        """Path of each kind of output below the folder of the label files.

        Example:
            >>> Request(polygons=True).outputs("scene.tif")
            {'labels': 'scene.tif', 'polygons': 'polygons/scene.gpkg'}
        """
        found = {"labels": label}
        found |= {kind: band_name(kind, label) for kind in self.bands}
        if self.polygons:
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
    jobs: Sequence[Job], predictor: FilePredictor, record: Record, request: Request, *, overwrite: bool
) -> Written:
    """Write what is missing of each job, or everything.

    A case that can't be read does not stop the others.

    Args:
        jobs: Of ``find_jobs``, without conflicts unless ``overwrite``.
        predictor: Predicts labels and probabilities.
        record: Of the folder.
        request: What is to be written.
        overwrite: Write everything anew.

    Raises:
        InputError: Some cases could not be predicted; they are listed on stderr if there are several.
    """
    todo = [job for job in jobs if overwrite or set(request.outputs(job.label)) - job.finding.valid]
    failed: dict[str, str] = {}
    completed = 0
    with closing(record), Watch("predicting", len(todo)) as watch:
        for job in todo:
            valid = frozenset() if overwrite else job.finding.valid
            try:
                completed += not _run(job, valid, predictor, record, request, watch)
            except InputError as error:
                failed[job.case.id] = str(error)
                record.abandon(request.outputs(job.label))
            watch.advance()
    if failed:
        _raise_failed(failed, len(jobs), record.folder)
    return Written(len(todo) - completed, completed)


def _run(
    job: Job, valid: frozenset[str], predictor: FilePredictor, record: Record, request: Request, watch: Watch
) -> bool:
    """Write what is not valid yet; whether the label file was among it."""
    outputs, options = request.outputs(job.label), request.options
    labels = record.folder / outputs["labels"]
    every = Request(BAND_KINDS, polygons=True).outputs(job.label).values()
    record.begin(outputs, job.case.images, every=every)
    predicted = [kind for kind in outputs if kind != "polygons"]
    if anew := not valid.issuperset(predicted):
        predictor.file(job.case.images, labels, on_rows=watch.part)
    record.finish(outputs, predicted, options)
    if "polygons" in outputs:
        target = record.folder / outputs["polygons"]
        target.parent.mkdir(exist_ok=True)
        polygons(labels, target, predictor.spec.labels, min_area_m2=request.min_area_m2)
        record.finish(outputs, ["polygons"], options)
    return anew


def _raise_failed(failed: Mapping[str, str], total: int, folder: Path) -> None:
    done = f"the other {total - len(failed)} of {total} cases are in {folder}" if total > len(failed) else ""
    if len(failed) == 1:
        (message,) = failed.values()
        raise InputError(f"{message} ({done})" if done else message)
    for case, message in failed.items():
        _LOG.error("%s: %s", case, message)
    raise InputError(
        f"{len(failed)} of {total} cases could not be predicted and are listed above"
        + (f"; {done}" if done else f"; the first: {next(iter(failed.values()))}")
    )
