"""SeveralObservers: a dataset whose cases several observers have labelled, with one label made of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer

from medseg import formats
from medseg.data.case import DRAW, SOFT, Case, Observers
from medseg.data.dataset import Dataset
from medseg.data.reading.open_case import CaseReader
from medseg.data.store.content_hash import Digests, content_key
from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.labels.majority import majority
from medseg.runtime.progress import watched
from medseg.sample import DataSpec

MAJORITY, STAPLE = "majority", "staple"
RULES = (MAJORITY, STAPLE, DRAW, SOFT)


def staple(votes: Int[np.ndarray, "r *s"], n_classes: int) -> Int[np.ndarray, " *s"]:
    """The class by STAPLE, which weighs each observer by how well it agrees with the result; else as ``majority``.

    That is where an observer ignores a cell, or classes are equally probable.

    References:
        Warfield et al., STAPLE, IEEE TMI 2004; Rohlfing et al., several labels, IEEE TMI 2004.
    """
    import SimpleITK as sitk

    counted = (votes != IGNORE).all(axis=0)
    result = majority(votes, n_classes)
    images = [sitk.GetImageFromArray(np.maximum(own, 0).astype(np.uint16)) for own in votes]
    joined = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(images, n_classes)).astype(np.int64)
    return np.where(counted & (joined < n_classes), joined, result)


class SeveralObservers(Dataset):
    """The cases of one dataset whose labels lie in a folder for each observer.

    The labels of a case are joined once, by a rule, into a file in the cache, which every later step reads as the
    label; scores compare with it.

    Args:
        observers: The dataset with the labels of each observer, by name; images are read of the first.
        rule: ``majority`` or ``staple``; or ``draw`` or ``soft``, by which training patches take the label of one
            observer, or the shares of all, and everything else that of the majority.
        folder: Of the joined labels.

    Raises:
        InputError: No such rule, a single observer, or labels that are colours.
    """

    def __init__(self, observers: Mapping[str, Dataset], rule: str, folder: Path) -> None:
        if rule not in RULES:
            raise InputError(f"data.annotations={rule}: expected one of {', '.join(RULES)}")
        if len(observers) < 2:
            raise InputError(
                f"data.annotations={rule}: got labels of {len(observers)} observer(s), expected two or more"
            )
        self.observers, self.rule, self.folder = dict(observers), rule, folder
        self.source = next(iter(observers.values()))
        self.name, self.reading = self.source.name, self.source.reading
        if self.reading.mask_colours:
            raise InputError("data.annotations: joins labels that hold values, not colours (data.mask_colours)")

    @property
    def spec(self) -> DataSpec:
        """That of the dataset."""
        return self.source.spec

    @property
    def normalisation(self) -> tuple[str, ...]:
        """That of the dataset."""
        return self.source.normalisation

    def open(self, case: Case) -> CaseReader:
        """Open one case as the dataset does."""
        return self.source.open(case)

    def test_cases(self) -> list[Case]:
        """The test cases of the dataset."""
        return self.source.test_cases()

    def cases(self) -> list[Case]:
        """The cases, each with the joined label.

        Raises:
            InputError: A case that some observer has not labelled, or soft labels of partial ones.
        """
        return list(self._cases)

    @cached_property
    def _cases(self) -> list[Case]:
        by_observer = [{case.id: case for case in own.cases()} for own in self.observers.values()]
        first = by_observer[0]
        if any(case.label is None for case in first.values()):  # labels are not read
            return list(first.values())
        works = [[own[case] for own in by_observer] for case in first]
        self._check_soft(list(first.values()))
        joined = zip(works, self._joined(works), strict=True)
        return [replace(work[0], label=target, observers=self._observers(work)) for work, target in joined]

    def _check_soft(self, cases: Sequence[Case]) -> None:
        """Raise on soft labels of cases that do not annotate every class."""
        partial = [case.id for case in cases if case.annotated is not None]
        if self.rule == SOFT and partial:
            raise InputError(
                f"data.annotations=soft: case {partial[0]} does not annotate every class (data.annotated), of which "
                "soft labels can't be; take data.annotations=draw, majority or staple"
            )

    def _observers(self, work: Sequence[Case]) -> Observers:
        """The label files of a case."""
        files = tuple((name, case.label) for name, case in zip(self.observers, work, strict=True) if case.label)
        return Observers(files, self.rule if self.rule in (DRAW, SOFT) else "")

    def _joined(self, works: Sequence[Sequence[Case]]) -> list[Path]:
        """Files of the joined labels of cases, each as all observers have it; those that are missing are written."""
        digests = Digests(self.folder / "digests.json")
        targets = [self._target(work, digests) for work in works]
        missing = [pair for pair in zip(works, targets, strict=True) if not pair[1].is_file()]
        for work, target in watched(missing, "joining labels of observers") if missing else ():
            self._write(work, target)
        digests.save()
        return targets

    def _target(self, work: Sequence[Case], digests: Digests) -> Path:
        """The file of the joined label of a case."""
        grid = self.source.open(replace(work[0], label=None)).grid
        settings = {
            "rule": STAPLE if self.rule == STAPLE else MAJORITY,
            "labels": self.spec.labels.to_dict(),
            "grid": grid.to_dict(),
        }
        labels = [case.label for case in work if case.label is not None]
        key = content_key(labels, settings, memory=digests.memory)
        return self.folder / f"{work[0].id}-{key[:16]}{'.nii.gz' if self.spec.ndim == 3 else '.tif'}"

    def _write(self, work: Sequence[Case], target: Path) -> None:
        readers = [self.source.open(case) for case in work]
        votes = np.stack([reader.read_label() for reader in readers])
        join = staple if self.rule == STAPLE else majority
        target.parent.mkdir(parents=True, exist_ok=True)
        formats.write(target, _raw(join(votes, self.spec.labels.n_classes), self.spec.labels), readers[0].grid)


def _raw(index: Int[np.ndarray, " *s"], labels: LabelTable) -> Integer[np.ndarray, " *s"]:
    """Values in label files, the first one of each class."""
    values = np.array([c.values[0] for c in labels.classes] + [labels.ignore_values[0] if labels.ignore_values else 0])
    small = np.min_scalar_type(values.max()) if values.min() >= 0 else np.dtype(np.int32)
    return values[index].astype(small)  # IGNORE is -1, the last
