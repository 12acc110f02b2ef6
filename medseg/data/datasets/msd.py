"""Medical Segmentation Decathlon: a dataset.json that lists the files; channels on the last axis."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medseg import formats
from medseg.data.annotated import Annotated, with_annotated
from medseg.data.dataset import Case, Dataset, refuse
from medseg.data.datasets.nnunet import annotated_by, declared_spec, read_declaration
from medseg.data.reading.options import Nonfinite, ReadOptions
from medseg.data.splits.groups import grouped
from medseg.errors import InputError
from medseg.geometry.tolerance import GRID_TOLERANCE
from medseg.sample import DataSpec


class MsdDataset(Dataset):
    """One task of the decathlon, as its archive unpacks (``Task01_BrainTumour`` and so on).

    ``dataset.json`` lists ``training`` pairs and ``test`` images. The archives also hold files that
    start with ``._``, which are no images and are passed over. An image may be a list of files instead, one for each
    channel in order, with null for one that the case lacks.

    Args:
        root: The task's folder.
        name: The dataset's name; the folder's name by default.
        pairs: (left, right) class names that a mirror across the body exchanges, see ``LabelTable.declare``.
        groups: Groups that splits keep together, see ``splits.groups.grouped``.
        annotated: Classes that cases annotate, where not all annotate every class; see ``data.annotated``.
            None takes ``annotated_classes`` of ``dataset.json``, if it has that key.
        absent: What to do with a case that lacks the files of some channels, see ``ReadOptions``.
        nonfinite: What to do with NaN voxels, see ``ReadOptions``.
        grid_tolerance: In voxels, see ``ReadOptions``.

    Raises:
        InputError: ``dataset.json`` is missing, malformed or incomplete.

    References:
        Antonelli et al., The Medical Segmentation Decathlon, Nature Communications, 2022.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        name: str | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        groups: str | None = None,
        annotated: Annotated = None,
        absent: Literal["error", "allow"] = "error",
        nonfinite: Nonfinite = "error",
        grid_tolerance: float = GRID_TOLERANCE,
    ) -> None:
        self.root = Path(root)
        self.name = name or self.root.name
        self.groups = groups
        self.reading = ReadOptions.from_config(nonfinite=nonfinite, grid_tolerance=grid_tolerance, absent=absent)
        self._path = self.root / "dataset.json"
        self._declared = read_declaration(self._path, ["modality", "labels", "training"])
        self._spec = declared_spec(self._declared, self._path, pairs)
        self._annotated = annotated_by(annotated, self._declared, self._path)

    @property
    def spec(self) -> DataSpec:
        """What ``dataset.json`` declares."""
        return self._spec

    def cases(self) -> list[Case]:
        """The ``training`` list."""
        entries = self._declared["training"]
        if not isinstance(entries, list) or not all(
            isinstance(e, Mapping) and {"image", "label"} <= set(e) for e in entries
        ):
            raise InputError(f'{self._path}: "training" must list {{"image": file, "label": file}}; fix the file')
        if not entries:
            raise InputError(f'{self._path}: "training" is an empty list; there is nothing to train on')
        cases = grouped(self._cases(entries), self.groups)
        return with_annotated(cases, **self._annotated, labels=self.spec.labels, further=self.test_cases)

    def test_cases(self) -> list[Case]:
        """The ``test`` list, without labels; may be empty."""
        entries = self._declared.get("test", [])
        if not isinstance(entries, list) or any(isinstance(e, Mapping) and "image" not in e for e in entries):
            raise InputError(f'{self._path}: "test" must list files, or {{"image": file}}; fix the file')
        return self._cases([e if isinstance(e, Mapping) else {"image": e} for e in entries])

    def _cases(self, entries: Sequence[Mapping[str, object]]) -> list[Case]:
        """Cases of a list, sorted by id; files of macOS (``._name``) are ignored."""
        cases = [case for case in map(self._case, entries) if not case.images[0].name.startswith("._")]
        self._check(cases)
        complete = {case.id: case for case in cases if all(path.is_file() for path in case.files)}
        return [complete[case_id] for case_id in sorted(complete)]

    def _check(self, cases: Sequence[Case]) -> None:
        """Report files that do not exist, and cases that are listed twice."""
        files = [path for case in cases for path in case.files]
        refuse(
            [str(p.relative_to(self.root))[:300] for p in files if not os.path.isfile(p)],
            f"file(s) listed in {self._path} that do not exist",
            "unpack the complete archive, or take them off the list",
        )
        counts = Counter(case.id for case in cases)
        refuse(sorted(n for n in counts if counts[n] > 1), f"case(s) listed twice in {self._path}", "list each once")

    def _case(self, entry: Mapping[str, object]) -> Case:
        """The case of an entry of a list."""
        label = self._file(entry["label"]) if "label" in entry else None
        if isinstance(entry["image"], list):
            return self._case_of_files(entry["image"], label)
        image = self._file(entry["image"])
        return Case(formats.stem(image), (image,), label, formats.stem(image))

    def _case_of_files(self, listed: Sequence[object], label: Path | None) -> Case:
        """The case of a list of files, one for each channel."""
        there = tuple(self._file(name) for name in listed if name is not None)
        absent = tuple(number for number, name in enumerate(listed) if name is None)
        if len(listed) != len(self.spec.channels) or len(absent) > self._most_absent:
            raise InputError(
                f"{self._path}: lists {str(listed)[:200]} as an image, expected one file, or a file for each "
                f"of the channels {[c.name for c in self.spec.channels]} (null for one that is missing, by "
                "data.absent=allow)"
            )
        name = formats.stem(label) if label else re.sub(r"_\d{4}$", "", formats.stem(there[0]))
        return Case(name, there, label, name, absent=absent)

    @property
    def _most_absent(self) -> int:
        """Number of channels that a case may lack."""
        return len(self.spec.channels) - 1 if self.reading.absent == "allow" else 0

    def _file(self, name: Any) -> Path:
        """Path of a listed file, which has to lie in the task's folder."""
        parts = Path(name).parts if isinstance(name, str) and "\0" not in name else ()
        if not parts or Path(*parts).is_absolute() or ".." in parts:
            raise InputError(
                f"{self._path}: lists {str(name)[:200]!r}, expected the path of a file below {self.root}, such as "
                "./imagesTr/case.nii.gz; change the list, or link the file into the folder"
            )
        return self.root / name
