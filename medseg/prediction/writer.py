"""What a worker does of a prediction: the files of one case, and what the record needs to know about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.conversion.preparation import digest_of
from medseg.facts import CaseFacts
from medseg.formats.polygons import DEFAULT_POLYGONS, PolygonOptions, polygons
from medseg.labels import LabelTable
from medseg.prediction.bands import band_name
from medseg.prediction.file_predictor import FilePredictor
from medseg.prediction.record import identities


@dataclass(frozen=True)
class Task:
    """Files that are to be written for a case.

    Attributes:
        images: Its files.
        label: Its label file.
        outputs: Path of each kind that is to be written: ``labels`` with what is written together with them, or
            ``polygons`` of a label file that is there.
        groups: Image groups of the files; empty where they have none.
        facts: Of the case, for networks that take them.
        absent: Numbers of the files that the case lacks, see ``Case.absent``.
    """

    images: tuple[Path, ...]
    label: Path
    outputs: Mapping[str, Path]
    groups: tuple[str, ...] = ()
    facts: CaseFacts | None = None
    absent: tuple[int, ...] = ()


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        images: Identity of each image that it was made from.
        digests: SHA-256 of each kind of output.
    """

    images: tuple[Mapping[str, Any], ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Writer:
    """Writes the files of cases.

    Attributes:
        load: Gives the predictor of this process.
        labels: Meaning of the values of label files.
        polygon_options: Which polygons are written.
        mean_probability: Whether they have the mean probability of their class, of the file next to the label file.
        on_rows: Called with the rows that are done of a case and all its rows.
    """

    load: Callable[[], FilePredictor]
    labels: LabelTable
    polygon_options: PolygonOptions = DEFAULT_POLYGONS
    mean_probability: bool = False
    on_rows: Callable[[int, int], None] | None = None

    def __call__(self, task: Task) -> Made:
        """Write the files of a case.

        Raises:
            InputError: An image can't be read.
        """
        images = identities(task.images)
        if "polygons" in task.outputs:
            task.outputs["polygons"].parent.mkdir(exist_ok=True)
            prob = task.label.parent / band_name("probabilities", task.label.name) if self.mean_probability else None
            polygons(task.label, task.outputs["polygons"], self.labels, self.polygon_options, probabilities=prob)
        else:
            settings: Any = {"groups": task.groups, "facts": task.facts, "absent": task.absent}
            self.load().case(task.images, task.label, **settings, on_rows=self.on_rows)
        return Made(tuple(images), {kind: digest_of(path) for kind, path in task.outputs.items()})
