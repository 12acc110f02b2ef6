"""Several datasets that train one network: their classes together, and each case annotates those of its own dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.labels import LabelClass, LabelTable
from medseg.sample import Channel, DataSpec


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

    Channels are matched by name, in the order of the first part. Where ``reading.absent`` allows it, parts may have
    other channels: the whole has those of all, and each part lacks the others. Classes are merged by name; label files
    of a part have its own values. Each case annotates the classes of its part, or those of them that the part says
    it does. Where two parts have a case or a group of one name, all names of cases or groups begin with that of their
    part.

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
        for (one, spec), (two, other) in combinations([(key, part.spec) for key, part in self.parts.items()], 2):
            _check_alike(one, spec, two, other, absent=reading.absent == "allow")
        self._schemes = self._normalisation_by_name()
        channels = {c.name: c for part in reversed(self.parts.values()) for c in part.spec.channels}
        labels = merged({key: part.spec.labels for key, part in self.parts.items()})
        spec = next(iter(self.parts.values())).spec
        self._spec = replace(spec, channels=tuple(channels[name] for name in self._schemes), labels=labels)
        self._readers = {key: replace(part.spec, labels=self._table_of(part)) for key, part in self.parts.items()}
        declared = [
            (key, {"reading": part.reading.to_dict(), "spec": self._readers[key].to_dict()})
            for key, part in self.parts.items()
        ]
        self.reading = JoinedOptions(**vars(reading), parts=tuple(declared))

    @property
    def spec(self) -> DataSpec:
        """Channels of the first part, then those that only others have, and the classes of all."""
        return self._spec

    @property
    def normalisation(self) -> tuple[str, ...]:
        """Those of the parts, which agree."""
        return tuple(self._schemes.values())

    def open(self, case: Case) -> CaseReader:
        """Open a case with the settings of its part."""
        spec = self._readers[case.part]
        return PartReader(case, spec, self.parts[case.part].reading, self.spec.channels)

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

    def _normalisation_by_name(self) -> dict[str, str]:
        """Normalisation of each channel of the whole, in their order.

        Raises:
            InputError: Parts that normalise a channel in different ways, or read their files by code of their own.
        """
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
        return {name: scheme for name, (_, scheme) in schemes.items()}


class PartReader(CaseReader):
    """A case of a part, whose channels are brought to those of the whole.

    Args:
        case: The case.
        spec: Channels of the part, and the classes of all parts with its values.
        reading: Options of the part.
        channels: Those of the whole; ones that the part does not have are absent.
    """

    def __init__(self, case: Case, spec: DataSpec, reading: ReadOptions, channels: tuple[Channel, ...]) -> None:
        own = [c.name for c in spec.channels]
        self._places = [own.index(c.name) if c.name in own else None for c in channels]
        super().__init__(case, spec, reading)
        self.spec = replace(spec, channels=channels)

    def without(self, names: Sequence[str]) -> CaseReader:
        """The case as if it lacked some channels; those that its part does not have are gone already."""
        own = {name for c in self._of_files.channels for name in (c.name, *c.groups)}
        elsewhere = {name for c in self.spec.channels for name in (c.name, *c.groups)} - own
        mine = [name for name in names if name not in elsewhere]
        return super().without(mine) if mine else self

    def _on_dates(self) -> Bool[np.ndarray, "n c"]:
        """Which channels of the whole each date has."""
        return self._placed(super()._on_dates(), axis=1, filling=False)

    def _read_image(self, window: Box) -> tuple[Float[np.ndarray, "*lead_s"], Bool[np.ndarray, " *s"]]:
        """The channels of the whole: 0 where the part does not have one, and NaN in a time series."""
        image, valid = super()._read_image(window)
        if self._places == [*range(len(self._of_files.channels))]:
            return image, valid
        return self._placed(image, axis=image.ndim - valid.ndim - 1, filling=np.nan if self.days else 0), valid

    def _placed(self, values: Shaped[np.ndarray, "..."], *, axis: int, filling: float) -> Shaped[np.ndarray, "..."]:
        """Values of the channels of the part, at the places of those of the whole."""
        nothing = np.full_like(values.take(0, axis=axis), filling)
        planes = [nothing if place is None else values.take(place, axis=axis) for place in self._places]
        return np.stack(planes, axis=axis)


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


def _check_alike(first: str, spec: DataSpec, key: str, other: DataSpec, *, absent: bool) -> None:
    """Raise on parts with other axes, dates or channels; with ``absent`` each may lack some of the channels."""
    for what, one, two in (("axes", spec.ndim, other.ndim), ("dates", spec.dates, other.dates)):
        if one != two:
            raise InputError(f"data.parts: {first} has {one} {what}, {key} has {two}; expected the same number")
    names = [sorted(c.name for c in one.channels) for one in (spec, other)]
    if names[0] != names[1] and not absent:
        raise InputError(
            f"data.parts: {first} has the channels {names[0]}, {key} has {names[1]}; expected the same names, in any "
            "order (data.parts.NAME.channels); data.absent=allow joins parts that lack some channels"
        )
    by_name = {c.name: c for c in spec.channels}
    for channel in other.channels:
        if channel.name in by_name:
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
