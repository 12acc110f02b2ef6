"""Several datasets that train one network: their classes together, and each case annotates those of its own dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.labels import LabelClass, LabelTable
from medseg.sample import Channel, DataSpec, Sample


@dataclass(frozen=True)
class JoinedOptions(ReadOptions):
    """Options of new images, and what the parts are read by, which is part of the keys of caches.

    Attributes:
        parts: Name of each part, and its options and declarations, JSON-able.
    """

    parts: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**replace(self, parts=()).of_images(), "parts": dict(self.parts)}

    def of_images(self) -> dict[str, Any]:
        """JSON-able form of the options alone."""
        return {key: value for key, value in super().to_dict().items() if key != "parts"}


class JoinedDataset(Dataset):
    """The cases of several datasets.

    Channels are matched by name, in the order of the first part. Classes are merged by name; label files of a part
    have its own values. Each case annotates the classes of its part, or those of them that the part says it does.
    Where two parts have a case or a group of one name, all names of cases or groups begin with that of their part.

    Args:
        parts: Datasets by name.
        name: The dataset's name.
        reading: Options of reading new images, for prediction; the parts have their own.

    Raises:
        InputError: Fewer than two parts, or parts that do not go together; names both and what differs.
    """

    def __init__(self, parts: Mapping[str, Dataset], *, reading: ReadOptions, name: str = "joined") -> None:
        if len(parts) < 2:
            raise InputError(f"data.parts: got {list(parts)}, expected two datasets or more; take one by its option")
        self.name, self.parts = name, dict(parts)
        (first, spec), *others = [(key, part.spec) for key, part in self.parts.items()]
        for key, other in others:
            _check_alike(first, spec, key, other)
        self._check_normalisation()
        self._spec = replace(spec, labels=merged({key: part.spec.labels for key, part in self.parts.items()}))
        self._readers = {key: replace(part.spec, labels=self._table_of(part)) for key, part in self.parts.items()}
        declared = [
            (key, {"reading": part.reading.to_dict(), "spec": self._readers[key].to_dict()})
            for key, part in self.parts.items()
        ]
        self.reading = JoinedOptions(**vars(reading), parts=tuple(declared))

    @property
    def spec(self) -> DataSpec:
        """Channels of the first part, and the classes of all."""
        return self._spec

    @property
    def normalisation(self) -> tuple[str, ...]:
        """That of the first part."""
        return next(iter(self.parts.values())).normalisation

    def open(self, case: Case) -> CaseReader:
        """Open a case with the settings of its part."""
        spec = self._readers[case.part]
        order = tuple([c.name for c in spec.channels].index(c.name) for c in self.spec.channels)
        return PartReader(case, spec, self.parts[case.part].reading, order)

    def cases(self) -> list[Case]:
        """Cases of all parts, sorted by id."""
        return self._renamed(test=False)

    def test_cases(self) -> list[Case]:
        """Test cases of all parts, sorted by id."""
        return self._renamed(test=True)

    @cached_property
    def _listed(self) -> dict[str, tuple[list[Case], list[Case]]]:
        return {key: (part.cases(), part.test_cases()) for key, part in self.parts.items()}

    def _renamed(self, *, test: bool) -> list[Case]:
        every = {key: [*own, *tests] for key, (own, tests) in self._listed.items()}
        ids = _clash({key: {case.id for case in own} for key, own in every.items()})
        groups = ids or _clash({key: {case.group for case in own} for key, own in every.items()})
        listed = [self._of_part(key, case, ids, groups) for key, own in self._listed.items() for case in own[test]]
        return sorted(listed, key=lambda case: case.id)

    def _of_part(self, key: str, case: Case, ids: bool, groups: bool) -> Case:
        """A case of a part as one of the whole."""
        targets = frozenset(name for name, _ in self.spec.labels.targets)
        own = case.annotated or frozenset(name for name, _ in self.parts[key].spec.labels.targets)
        return replace(
            case,
            id=f"{key}_{case.id}" if ids else case.id,
            group=f"{key}_{case.group}" if groups else case.group,
            annotated=None if case.label is None or own == targets else own,
            part=key,
        )

    def _table_of(self, part: Dataset) -> LabelTable:
        """The classes of all parts, with the values that the files of one part have."""
        table, own = self._spec.labels, {c.name: c.values for c in part.spec.labels.classes}
        used = {v for values in own.values() for v in values} | set(part.spec.labels.ignore_values)
        free = (v for v in range(len(used) + table.n_classes) if v not in used)
        classes = tuple(replace(c, values=own[c.name] if c.name in own else (next(free),)) for c in table.classes)
        return replace(table, classes=classes, ignore_values=part.spec.labels.ignore_values)

    def _check_normalisation(self) -> None:
        """Raise on parts that normalise a channel in different ways, or read their files by code of their own."""
        schemes: dict[str, tuple[str, str]] = {}
        for key, part in self.parts.items():
            if type(part).open is not Dataset.open:
                raise InputError(
                    f"data.parts.{key}: {type(part).__name__} reads its files by itself, expected a layout of files, "
                    "such as nnunet, msd, volumes, rasters or images"
                )
            for channel, scheme in zip(part.spec.channels, part.normalisation, strict=True):
                other, known = schemes.setdefault(channel.name, (key, scheme))
                if known != scheme:
                    raise InputError(
                        f"data.parts.{key}: normalises {channel.name} by {scheme}, and {other} by {known}; "
                        f"set data.parts.{key}.normalisation={known}"
                    )


class PartReader(CaseReader):
    """A case of a part, whose channels are brought to the order of the whole.

    Args:
        case: The case.
        spec: Channels of the part, and the classes of all parts with its values.
        reading: Options of the part.
        order: Place among the channels of the part of each channel of the whole.
    """

    def __init__(self, case: Case, spec: DataSpec, reading: ReadOptions, order: Sequence[int]) -> None:
        self._order = list(order)
        super().__init__(case, spec, reading)
        self.spec = replace(spec, channels=tuple(spec.channels[i] for i in order))

    @property
    def present(self) -> Bool[np.ndarray, " c"]:
        """Which channels the case has, in the order of the whole."""
        return super().present[self._order]

    def read(self, box: Box | None = None) -> Sample:
        """The case or a window of it, with the channels in the order of the whole."""
        sample = super().read(box)
        if self._order == sorted(self._order):
            return sample
        axis = sample.image.ndim - sample.valid.ndim - 1
        present = sample.present
        if present is not None and sample.days is not None:
            present = present[:, self._order]
        return replace(sample, image=sample.image.take(self._order, axis=axis), present=present)


def merged(tables: Mapping[str, LabelTable]) -> LabelTable:
    """One table of the classes of several, by name; a class that two have is one.

    Values and saved values are the training indices. Pairs of left and right are found by the names of all.

    Args:
        tables: By the name of their part.

    Raises:
        InputError: A background in some of them only or of two names, or regions that are not the same in all.
    """
    (first, table), *others = tables.items()
    for key, other in others:
        _check_labels(first, table, key, other)
    if table.regions:
        return table
    classes: dict[str, LabelClass] = {}
    for one in tables.values():
        for own in one.classes:
            classes.setdefault(own.name, own)
    return LabelTable.declare(
        {name: index for index, name in enumerate(classes)},
        background=table.names[0] if table.background else None,
        colours={name: own.colour for name, own in classes.items()},
    )


def _check_labels(first: str, table: LabelTable, key: str, other: LabelTable) -> None:
    """Raise on label tables that can't be merged."""
    background = [one.names[0] if one.background else "none" for one in (table, other)]
    if background[0] != background[1]:
        raise InputError(
            f"data.parts: the background of {first} is {background[0]}, that of {key} is {background[1]}; expected one "
            "name, in data.parts.NAME.labels or data.parts.NAME.background"
        )
    regions = [[(r.name, r.members) for r in one.regions] for one in (table, other)]
    if regions[0] != regions[1] or (regions[0] and table.names != other.names):
        raise InputError(
            f"data.parts: {first} has regions {[n for n, _ in regions[0]]}, {key} has {[n for n, _ in regions[1]]}; "
            "expected the same regions of the same classes in every part, or classes"
        )


def _check_alike(first: str, spec: DataSpec, key: str, other: DataSpec) -> None:
    """Raise on parts with other axes, dates or channels."""
    for what, one, two in (("axes", spec.ndim, other.ndim), ("dates", spec.dates, other.dates)):
        if one != two:
            raise InputError(f"data.parts: {first} has {one} {what}, {key} has {two}; expected the same number")
    names = [sorted(c.name for c in one.channels) for one in (spec, other)]
    if names[0] != names[1]:
        raise InputError(
            f"data.parts: {first} has the channels {names[0]}, {key} has {names[1]}; expected the same names, in any "
            "order (data.parts.NAME.channels)"
        )
    by_name = {c.name: c for c in spec.channels}
    for channel in other.channels:
        _check_channel(first, by_name[channel.name], key, channel)


def _check_channel(first: str, one: Channel, key: str, two: Channel) -> None:
    """Raise on a channel with another unit, wavelength or formula."""
    for what in ("unit", "wavelength_nm", "formula"):
        if getattr(one, what) != getattr(two, what):
            raise InputError(
                f"data.parts: {what} of channel {one.name} is {getattr(one, what) or 'none'} in {first}, "
                f"{getattr(two, what) or 'none'} in {key}; expected one, or channels of two names"
            )


def _clash(names: Mapping[str, set[str]]) -> bool:
    """Whether two parts have a name in common."""
    return any(n > 1 for n in Counter(name for own in names.values() for name in own).values())
