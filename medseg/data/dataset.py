"""Datasets: where cases are, and what they agree on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from medseg.data.case import Case as Case
from medseg.data.case import first_five as first_five
from medseg.data.case import refuse as refuse
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec, Sample

_SCHEMES = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "unit_range", "rgb_to_0_1": "rgb"}


class Dataset(ABC):
    """Where cases are and what they agree on. One subclass for each layout of files.

    Attributes:
        name: For run folders and reports.
        reading: Options of reading; the same for new images.
    """

    name: str
    reading: ReadOptions = ReadOptions()

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """Channels, label table and number of axes of every case."""

    @abstractmethod
    def cases(self) -> list[Case]:
        """Labelled cases for training and validation, sorted by id."""

    def test_cases(self) -> list[Case]:
        """Cases that no fold contains, sorted by id, with or without labels; may be empty."""
        return []

    @property
    def normalisation(self) -> tuple[str, ...]:
        """Normalisation scheme of each channel."""
        return tuple(normalisation_scheme(c.band) for c in self.spec.channels)

    def open(self, case: Case) -> CaseReader:
        """Open one case with the settings of this dataset, to read it whole or in windows."""
        return CaseReader(case, self.spec, self.reading)

    def read(self, case: Case) -> Sample:
        """Read one whole case."""
        return self.open(case).read()


def unlabelled_table() -> LabelTable:
    """Stands for the label table of images without labels, which are only pretrained on."""
    return LabelTable.declare({"background": 0, "unlabelled": 1})


def normalisation_scheme(channel_name: str) -> str:
    """Normalisation that a channel's name asks for, by nnU-Net's rules (letter case is ignored).

    Returns:
        ``ct`` (clip to pooled foreground percentiles, then pooled mean and deviation), ``none``,
        ``unit_range`` (minimum and maximum of the image), ``rgb`` (divide by 255), or for every other
        name ``zscore`` (mean and deviation of the image).

    Example:
        >>> [normalisation_scheme(n) for n in ("CT", "T1", "noNorm", "rgb_to_0_1#2")]
        ['ct', 'zscore', 'none', 'rgb']
    """
    return _SCHEMES.get(channel_name.split("#")[0].lower(), "zscore")


def check_names(names: Sequence[object]) -> None:
    """Refuse channels that are numbered instead of named.

    Raises:
        InputError: A number among them.
    """
    if any(isinstance(name, (int, float)) for name in names):
        raise InputError(
            f"data.channels={list(names)}: got numbers, expected names, such as [CT] or [B4, B3, B2]; bands are found "
            "by the names in the file, and where it has none, data.bands names all of its bands in their order"
        )


def named_channels(names: Sequence[str]) -> tuple[Channel, ...]:
    """Channels of these names; a name that comes again gets ``#2``, ``#3``, as names must be unique.

    Example:
        >>> [c.name for c in named_channels(["CT", "rgb_to_0_1", "rgb_to_0_1"])]
        ['CT', 'rgb_to_0_1', 'rgb_to_0_1#2']
    """
    count = [names[: i + 1].count(name) for i, name in enumerate(names)]
    unit = {"ct": "HU"}
    return tuple(
        Channel(name if n == 1 else f"{name}#{n}", unit=unit.get(normalisation_scheme(name), ""))
        for name, n in zip(names, count, strict=True)
    )
