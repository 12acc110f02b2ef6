"""What travels: Channel, DataSpec, Sample and Batch. Downstream of reading, nothing knows the domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.facts import WORD, CaseFacts, Fact
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.runtime.values import listed, mapped, number, text, truth, whole

_MOST_DATES = 100_000
"""Slots of a time series; daily ones of more than two hundred years."""


@dataclass(frozen=True)
class Channel:
    """One image channel.

    Attributes:
        name: Unique in its DataSpec, such as ``T1``, ``CT`` or ``B08``. Decides the normalisation.
        unit: Physical unit of the raw values, such as ``HU``; empty if arbitrary.
        wavelength_nm: Centre wavelength in nanometres where there is one.
        formula: How the channel is computed from bands of the file, such as ``(B8 - B12) / (B8 + B12)``;
            empty if it is a band itself.
        classes: Names of the classes 1, 2 and so on of a channel that holds class numbers, 0 for none of them; empty
            for a quantity. Such a channel is resampled and turned as a label, no intensity change touches it, and the
            network sees an indicator of each class.
        groups: Image groups that it is read from, one or, of a formula, several; empty where images have no groups.
    """

    name: str
    unit: str = ""
    wavelength_nm: float | None = None
    formula: str = ""
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def band(self) -> str:
        """Name within its image group, by which sensors, radar and weights know it.

        Example:
            >>> Channel("pre.B4", groups=("pre",)).band, Channel("B4").band
            ('B4', 'B4')
        """
        return self.name.removeprefix(f"{self.groups[0]}.") if len(self.groups) == 1 else self.name

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """What a network sees of it: itself, or an indicator of each class."""
        return tuple(Channel(f"{self.name}: {name}") for name in self.classes) or (self,)

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        stored = {**vars(self), "classes": list(self.classes), "groups": list(self.groups)}
        return {key: value for key, value in stored.items() if value != []}


@dataclass(frozen=True)
class DataSpec:
    """What every case of a dataset agrees on.

    Attributes:
        channels: In array order.
        labels: Meaning of the label values.
        ndim: Number of spatial axes, 2 or 3.
        dates: Slots of a time series, t: the dates that a case has at most. 0 where there is no time axis.
        facts: Facts of each case, such as age and sex, with values and statistics of the training cases.
        case_label: What the class of a case means, where cases have classes; else None.
        presence: Whether a network also sees which of the channels each image has.
    """

    channels: tuple[Channel, ...]
    labels: LabelTable
    ndim: int
    dates: int = 0
    facts: tuple[Fact, ...] = ()
    case_label: Fact | None = None
    presence: bool = False

    @property
    def inputs(self) -> tuple[Channel, ...]:
        """What a network sees: channels, with an indicator of each class of those of class numbers, then presence."""
        seen = tuple(shown for channel in self.channels for shown in channel.inputs)
        return seen + (tuple(map(_presence_of, self.of_files.channels)) if self.presence else ())

    @property
    def of_files(self) -> DataSpec:
        """The same without channels of class numbers and presence, which no image file holds."""
        own = tuple(channel for channel in self.channels if not channel.classes)
        return replace(self, channels=own, presence=False)

    @property
    def every_fact(self) -> tuple[Fact, ...]:
        """The facts, and last the class of a case where it has one."""
        return (*self.facts, *([self.case_label] if self.case_label else []))

    @property
    def of_cells(self) -> DataSpec:
        """The same without facts of cases, on which no prepared cell depends."""
        return replace(self, facts=(), case_label=None)

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; ``from_dict`` is its inverse. What is absent has no key, so that earlier keys stay valid."""
        stored = {"channels": [c.to_dict() for c in self.channels], "labels": self.labels.to_dict(), "ndim": self.ndim}
        stored |= {"dates": self.dates} if self.dates else {}
        stored |= {"facts": [fact.to_dict() for fact in self.facts]} if self.facts else {}
        stored |= {"presence": True} if self.presence else {}
        return stored | ({"case_label": self.case_label.to_dict()} if self.case_label else {})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DataSpec:
        """Rebuild what ``to_dict`` gave.

        Raises:
            InputError: Something that ``to_dict`` does not give; names the key.
        """
        held = mapped(stored, "spec", ["channels", "labels", "ndim"])
        channels = tuple(_channel_of(c) for c in listed(held["channels"], "spec.channels"))
        if not channels:
            raise InputError("spec.channels=[]: expected one channel or more")
        return cls(
            channels=channels,
            labels=LabelTable.from_dict(mapped(held["labels"], "spec.labels")),
            ndim=whole(held["ndim"], "spec.ndim", 2, 3),
            dates=whole(held.get("dates", 0), "spec.dates", 0, _MOST_DATES),
            facts=tuple(Fact.from_dict(one, "spec.facts") for one in listed(held.get("facts", []), "spec.facts")),
            case_label=_case_label_of(held.get("case_label")),
            presence=truth(held.get("presence", False), "spec.presence"),
        )


def _case_label_of(stored: object) -> Fact | None:
    if stored is None:
        return None
    label = Fact.from_dict(stored, "spec.case_label")
    if label.kind != WORD or len(label.values) < 2:
        raise InputError(f"spec.case_label={label.summary()}: expected two classes or more")
    return label


def _presence_of(channel: Channel) -> Channel:
    """What says whether a channel is present, as a channel that a network sees."""
    return Channel(f"{channel.name}: present", groups=channel.groups)


def _channel_of(stored: object) -> Channel:
    key = "spec.channels"
    held = mapped(stored, key, ["name"], [f.name for f in fields(Channel)])
    wave = held.get("wavelength_nm")
    return Channel(
        name=text(held["name"], f"{key}.name"),
        unit=text(held.get("unit", ""), f"{key}.unit"),
        wavelength_nm=None if wave is None else number(wave, f"{key}.wavelength_nm", above=0, most=1e12),
        formula=text(held.get("formula", ""), f"{key}.formula"),
        classes=_texts(held.get("classes", []), f"{key}.classes"),
        groups=_texts(held.get("groups", []), f"{key}.groups"),
    )


def _texts(stored: object, key: str) -> tuple[str, ...]:
    return tuple(text(name, key) for name in listed(stored, key))


@dataclass
class Sample:
    """One case, or a window of one, on its grid.

    A time series has slots for dates. Cells without data on some date, and slots without a date, are NaN
    in a raw image and 0 in a prepared one; a cell is valid where any date has data.

    Attributes:
        image: Channels ``[c, *s]``; of a time series ``[t, c, *s]``; float32.
        label: Training index of each cell or ``IGNORE``; None where there is none (prediction).
        valid: False on nodata, outside the field of view or the scan.
        grid: Geometry of the three arrays.
        case: Case identifier.
        group: What splits may not tear apart (patient, site, scene).
        days: Of a time series, the date of each slot in days since 1970-01-01, 0 where there is none; else None.
        present: Of a time series ``[t, c]``, False for channels of slots that the case lacks; of an image ``[c]``,
            False for channels that it lacks, whose cells are all 0, and None where it lacks none.
        annotated: Which outputs of the network (classes, or regions where the table has some) the label annotates, see
            ``labels.annotated``; None for all.
        facts: Facts of the case; None where cases have none.
        votes: Labels of those observers of the case that were asked for, as ``label``; else None.
        soft: Share of the observers that give each class to a cell, which sum to 1, and to 0 where ``label`` is
            ``IGNORE``; None unless patches take it.
    """

    image: Float[np.ndarray, "..."]
    label: Int[np.ndarray, " *s"] | None
    valid: Bool[np.ndarray, " *s"]
    grid: Grid
    case: str
    group: str
    days: Int[np.ndarray, " t"] | None = None
    present: Bool[np.ndarray, "*lead"] | None = None
    annotated: Bool[np.ndarray, " k"] | None = None
    facts: CaseFacts | None = None
    votes: Int[np.ndarray, "r *s"] | None = None
    soft: Float[np.ndarray, "n *s"] | None = None

    def __post_init__(self) -> None:
        lead = self.image.shape[:1] if self.present is None else self.present.shape
        if self.image.shape != (*lead, *self.valid.shape):
            raise ValueError(f"got an image of shape {self.image.shape} with cells of {self.valid.shape}")

    @property
    def planes(self) -> Float[np.ndarray, "n *s"]:
        """Every channel, of a time series date after date: one stack of finite images, 0 where there are no data."""
        if self.days is None:
            return self.image
        planes = self.image.reshape(-1, *self.valid.shape)
        return np.where(np.isfinite(planes), planes, np.float32(0))

    @property
    def picture(self) -> Float[np.ndarray, "c *s"]:
        """What is shown of the image: of a time series one of its dates."""
        return self.image if self.days is None else fullest_date(self.image)

    @property
    def has(self) -> Bool[np.ndarray, " c"]:
        """Which channels the case has; of a time series on any date."""
        if self.present is None:
            return np.ones(len(self.image), dtype=bool)
        return self.present if self.days is None else np.logical_or.reduce(self.present)


@dataclass
class Batch:
    """Patches stacked for a training or validation step.

    Attributes:
        image: Float patches ``[b, c, *s]``; of time series ``[b, t, c, *s]``.
        label: Training index or ``IGNORE``.
        valid: False where a cell does not count.
        present: ``[b, c]``, of time series ``[b, t, c]``: False for channels that are missing in the case (their
            image is zero), and for all channels of a missing date.
        key: ``[b, 3]`` int64 on the CPU: (seed, step, sample) of each patch. Everything random about
            the patch is a function of its key.
        cases: Case identifier of each patch.
        days: Of time series, the date of each slot in days since 1970-01-01, 0 where it is missing; else None.
        annotated: Which outputs of the network the label of each patch annotates; None where every case of the
            dataset annotates all of them.
        facts: Encoded facts of each case (``Fact.encode``); None where cases have none.
        case_label: Class of each case, ``facts.NO_CLASS`` where it is not known; None where cases have no classes.
        soft: Share of the observers that give each class of the table to a cell: they sum to 1, and to 0 where
            ``label`` is ``IGNORE``. None unless the patches have soft labels (``data.annotations=soft``).
        stream: Name of the stream that the patches are drawn from; empty where a training has only one.
        labelled: Whether the labels of this stream are read; if not, every label is ``IGNORE``.
        strong: A second view of the same patches, more strongly augmented; None where there is none.
    """

    image: Float[Tensor, "b *more"]
    label: Int[Tensor, "b *s"]
    valid: Bool[Tensor, "b *s"]
    present: Bool[Tensor, "b *lead"]
    key: Int[Tensor, "b 3"]
    cases: tuple[str, ...]
    days: Int[Tensor, "b t"] | None = None
    annotated: Bool[Tensor, "b k"] | None = None
    facts: Float[Tensor, "b f"] | None = None
    case_label: Int[Tensor, " b"] | None = None
    soft: Float[Tensor, "b n *s"] | None = None
    stream: str = ""
    labelled: bool = True
    strong: StrongView | None = None

    def __post_init__(self) -> None:
        shape, axes = (*self.present.shape, *self.valid.shape[1:]), 2 if self.days is None else 3
        if self.image.shape != shape or self.present.ndim != axes:
            raise ValueError(f"got an image of shape {tuple(self.image.shape)}, cells and presence are of {shape}")

    @property
    def dates(self) -> int:
        """Slots of a time series, t; 0 where there is no time axis."""
        return 0 if self.days is None else self.days.shape[1]

    @property
    def context(self) -> dict[str, Tensor]:
        """Further arguments of a network, ``network(image, **context)``: present and days of time series."""
        return {} if self.days is None else {"present": self.present, "days": self.days}

    def context_for(self, network: object) -> dict[str, Tensor]:
        """Further arguments of this network: ``context``, with facts of the cases if it declares that it takes them."""
        if self.facts is None or not getattr(network, "takes_facts", False):
            return self.context
        return {**self.context, "facts": self.facts}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy with all but the key on ``device``, which stays on the CPU."""
        return replace(self, **{k: t.to(device, non_blocking=non_blocking) for k, t in self._tensors() if k != "key"})

    def pin_memory(self) -> Batch:
        """Copy in page-locked memory, for faster transfers to a GPU."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self._tensors()})

    def _tensors(self) -> list[tuple[str, Any]]:
        pairs = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return [(name, value) for name, value in pairs if isinstance(value, Tensor)]


@dataclass(frozen=True)
class StrongView:
    """A second view of the patches of a batch, cut from the same windows.

    Attributes:
        batch: The patches of this view.
        carry: Brings values of the first view ``[b, k, *s]``, such as probabilities of a teacher, onto the cells of
            this one: (values, mask), where the mask ``[b, *s]`` is False for cells that the first view does not show.
    """

    batch: Batch
    carry: Callable[[Float[Tensor, "b k *s"]], tuple[Float[Tensor, "b k *s"], Bool[Tensor, "b *s"]]]


def fullest_date(image: Float[np.ndarray, "t c *s"]) -> Float[np.ndarray, "c *s"]:
    """The date of a time series that has most data (neither NaN nor 0), the last of equals; 0 where it has none."""
    data = np.isfinite(image) & (image != 0)
    cells = data.reshape(len(image), -1).sum(axis=1)
    fullest = len(image) - 1 - int(np.argmax(cells[::-1]))
    return np.where(data[fullest], image[fullest], np.float32(0))


def evenly_spaced(dates: int, slots: int) -> list[int]:
    """Which dates of a case stand in the slots, from the first on: all, or where they are more, evenly spaced ones.

    Example:
        >>> evenly_spaced(3, 4), evenly_spaced(9, 4)
        ([0, 1, 2], [0, 3, 5, 8])
    """
    return list(range(dates)) if dates <= slots else np.linspace(0, dates - 1, slots).round().astype(int).tolist()


def in_slots(
    image: Float[np.ndarray, "n c *s"],
    days: Sequence[int],
    slots: int,
    there: Bool[np.ndarray, "n c"] | None = None,
) -> tuple[Float[np.ndarray, "t c *s"], Int[np.ndarray, " t"], Bool[np.ndarray, "t c"]]:
    """Dates of a case in the slots of a time series: image, days and presence as a ``Sample`` has them.

    Args:
        image: Of at most ``slots`` dates, NaN where a date has no data.
        days: Of these dates, since 1970-01-01.
        slots: Dates that the result has; those at the end are missing.
        there: Which channels each date has; None for all.
    """
    n, channels = image.shape[:2]
    present = np.zeros((slots, channels), dtype=bool)
    present[:n] = True if there is None else there
    slot_days = np.zeros(slots, dtype=np.int64)
    slot_days[:n] = days
    if n == slots:
        return image, slot_days, present
    filled: npt.NDArray[np.float32] = np.full((slots, *image.shape[1:]), np.nan, dtype=np.float32)
    filled[:n] = image
    return filled, slot_days, present


def with_class_channel(image: Float[np.ndarray, "c *s"], index: Int[np.ndarray, " *s"]) -> Float[np.ndarray, "d *s"]:
    """The image with class numbers as a further, last channel; ``IGNORE`` counts as none of the classes."""
    larger = np.empty((len(image) + 1, *image.shape[1:]), dtype=np.float32)
    larger[:-1], larger[-1] = image, np.maximum(index, 0)
    return larger
