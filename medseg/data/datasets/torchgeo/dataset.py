"""Any dataset of torchgeo by its class: the files that it lists, or the samples that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from medseg import formats
from medseg.data.annotated import Annotated, with_annotated
from medseg.data.case import Case
from medseg.data.dataset import Dataset
from medseg.data.datasets.channels import declared_channels
from medseg.data.datasets.rasters import declared_labels
from medseg.data.datasets.torchgeo.attributes import band_names, class_values, colour_by_value
from medseg.data.datasets.torchgeo.listed_files import Pair, completed, listed_pairs
from medseg.data.datasets.torchgeo.recipe import Recipe
from medseg.data.datasets.torchgeo.sample_index import named, sample_cases, sample_sources
from medseg.data.datasets.torchgeo.samples import Cells, Samples
from medseg.data.layout.dates import DateLayout
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.data.splits.groups import grouped
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.sample import DataSpec

_PARTS = ("train", "val", "test")


class TorchgeoDataset(Dataset):
    """Cases of a torchgeo dataset.

    With ``read=files`` they are the files that it lists (the image and mask of each entry of ``files``, the
    scenes of a geo dataset's index), read by our own readers: windows, nodata, alignment and raw label values
    as for any raster. With ``read=samples`` they are what it gives: a sample of a dataset of chips, or a row
    of a geo dataset's index, queried window by window. Images ``[dates, channels, rows, columns]`` are time series.

    Cases of a dataset with splits are named after theirs, ``train_...`` and ``val_...``, so that
    ``split.val_cases=[val_*]`` keeps its own validation set; ``test`` is the test set.

    Args:
        root: Folder of the dataset, given to the class as ``root`` or ``paths``.
        class_path: The class; ``torchgeo.datasets`` may be left out.
        reading: Options of reading.
        cache: Folder of the index of samples.
        arguments: Further arguments of the class.
        mask_class_path: A second geo dataset that holds the masks of the first.
        mask_arguments: Its arguments, such as ``paths``.
        read: ``files`` or ``samples``.
        split_argument: Argument of the class that chooses a split.
        splits: Value of that argument for each of ``train``, ``val`` and ``test``; empty without splits.
        image_key: Entry of samples (or of listed files) that is the image, or several in order.
        mask_key: Entry that is the label.
        mask_channel: Channel of the mask that is the label, with ``read=samples``.
        mask_path: Text in the path of an image and its replacement in the path of the mask, with ``read=files``,
            ``{images: masks}``, where the dataset lists no masks.
        more_images: Replacements, like ``mask_path``, for further files with bands of the case.
        channels: Channels as for ``RastersDataset``; None takes all bands.
        labels: Labels as for ``RastersDataset``; None takes the dataset's classes, from the value 0.
        sensor: Sensor as for ``RastersDataset``.
        wavelengths_nm: Wavelengths as for ``RastersDataset``.
        background: Background as for ``RastersDataset``.
        pairs: Left and right classes as for ``RastersDataset``.
        colours: Colours as for ``RastersDataset``, in addition to those of the dataset.
        normalisation: Scheme as for ``RastersDataset``.
        name: The dataset's name.
        groups: Groups that splits keep together, see ``splits.groups.grouped``.
        annotated: Classes that cases annotate, where not all annotate every class; see ``data.annotated``.

    Raises:
        InputError: The dataset is missing or takes no such arguments, or its bands or classes are unknown.
    """

    def __init__(
        self,
        root: Path | str,
        class_path: str,
        *,
        reading: ReadOptions,
        cache: Path | str,
        arguments: Mapping[str, object] | None = None,
        mask_class_path: str | None = None,
        mask_arguments: Mapping[str, object] | None = None,
        read: str = "samples",
        split_argument: str = "split",
        splits: Mapping[str, object] | None = None,
        image_key: str | Sequence[str] = "image",
        mask_key: str = "mask",
        mask_channel: int | None = None,
        mask_path: Mapping[str, str] | None = None,
        more_images: Sequence[Mapping[str, str]] = (),
        channels: Sequence[str | Mapping[str, str]] | None = None,
        labels: Mapping[str, int | Sequence[int]] | None = None,
        sensor: str | None = None,
        wavelengths_nm: Mapping[str, float] | None = None,
        background: str | bool | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        normalisation: str = "standard",
        name: str = "torchgeo",
        groups: str | None = None,
        annotated: Annotated = None,
    ) -> None:
        _check_settings(read, splits, reading)
        self.root, self.name, self.groups, self.annotated = Path(root), name, groups, annotated
        self._cache = Path(cache)
        self._from_files = read == "files"
        self._beside = (mask_path, tuple(more_images))
        self.reading = reading
        masks = Recipe.of(mask_class_path, self.root, mask_arguments) if mask_class_path else None
        keys = (image_key,) if isinstance(image_key, str) else tuple(image_key)
        self._samples = {
            part: Samples(Recipe.of(class_path, self.root, own, masks), keys, mask_key, mask_channel)
            for part, own in _arguments_of_parts(arguments, split_argument, splits).items()
        }
        for samples in self._samples.values():
            samples.forget()  # files may have changed since this process read the same dataset
        names = reading.bands or self._band_names()
        if not channels and not names:
            raise InputError(f"{self._shown}: its bands have no names; give them, in order, as data.bands")
        self.reading = replace(reading, bands=names)
        values, colours = self._meaning(labels, colours)
        declared = declared_channels(channels or names, sensor, wavelengths_nm or {}, self.reading)
        self._spec = DataSpec(declared, declared_labels(values, background, colours, pairs), ndim=2)
        self._normalisation = normalisation

    @cached_property
    def spec(self) -> DataSpec:
        """Channels and labels of configuration or dataset; for time series also the most dates of any case."""
        if self._from_files or not self._corner.dates:
            return self._spec
        slots = self.reading.dates.slots if self.reading.dates else None
        every = [case for part in self._samples for case in self._cases_of(part)]
        return replace(self._spec, dates=slots or max(len(case.days) for case in every))

    @property
    def normalisation(self) -> tuple[str, ...]:
        """The scheme of the configuration, for every channel."""
        return (self._normalisation,) * len(self.spec.channels)

    def cases(self) -> list[Case]:
        """Cases of ``train`` and ``val``, or all where there are no splits.

        Raises:
            InputError: None of them has a mask.
        """
        every = [case for part in self._samples if part != "test" for case in self._cases_of(part)]
        labelled = [case for case in every if case.label is not None]
        if not labelled:
            raise InputError(
                f"{self._shown}: none of its {len(every)} cases has a mask; name the entry of its samples by "
                "data.mask_key, or with data.read=files where masks lie by data.mask_path, or give the geo dataset "
                "that holds them as data.mask_class_path"
            )
        cases = grouped(sorted(labelled, key=lambda case: case.id), self.groups)
        return with_annotated(cases, self.annotated, self._spec.labels, further=self._tests)

    def test_cases(self) -> list[Case]:
        """Cases of ``test``, with or without masks."""
        return with_annotated(self._tests(), self.annotated, self._spec.labels)

    def _tests(self) -> list[Case]:
        return sorted(self._cases_of("test"), key=lambda case: case.id) if "test" in self._samples else []

    def open(self, case: Case) -> CaseReader:
        """Open a case: its files, or its sample."""
        if self._from_files:
            return super().open(case)
        part = next((p for p in self._samples if p and case.id.startswith(f"{p}_")), "")
        image, label = sample_sources(self._samples[part], case)
        return CaseReader(case, self.spec, self.reading, sources=[image], label=label)

    def _cases_of(self, part: str) -> list[Case]:
        samples, prefix = self._samples[part], f"{part}_" if part else ""
        if not self._from_files:
            return sample_cases(samples, self._cache, prefix)
        pairs = self._pairs(part)
        names = [f"{prefix}{name}" for name, _ in named([images[0] for images, _ in pairs])]
        return [Case(name, images, mask, name) for name, (images, mask) in zip(names, pairs, strict=True)]

    def _pairs(self, part: str) -> list[Pair]:
        samples = self._samples[part]
        listed = listed_pairs(samples.dataset, samples.image_keys, samples.mask_key)
        mask_path, more_images = self._beside
        return completed(listed, self.root, mask_path, more_images)

    @property
    def _first(self) -> Samples:
        return next(iter(self._samples.values()))

    @cached_property
    def _corner(self) -> Cells:
        """A cell in the middle of the first sample."""
        return self._first.read(0, Box.at([n // 2 for n in self._first.grid(0).shape], (1, 1)))

    @property
    def _shown(self) -> str:
        return self._first.recipe.class_path

    def _band_names(self) -> tuple[str, ...]:
        """As the files name their bands, or else the dataset."""
        if not self._from_files:
            return band_names(self._first.dataset, len(self._corner.image) // max(1, self._corner.dates))
        sources = [formats.open(path) for path in self._pairs(next(iter(self._samples)))[0][0]]
        n_channels = sum(source.n_channels for source in sources)
        own = tuple(name for source in sources for name in source.names)
        return own if len(own) == n_channels else band_names(self._first.dataset, n_channels)

    def _meaning(
        self, labels: Mapping[str, int | Sequence[int]] | None, colours: Mapping[str, Sequence[int]] | None
    ) -> tuple[Mapping[str, int | Sequence[int]], Mapping[str, Sequence[int]]]:
        """Values and colours by class name: those of the configuration, or else of the dataset."""
        if labels:
            return labels, colours or {}
        values = class_values(self._first.dataset)
        if not values:
            raise InputError(
                f"{self._shown}: it does not say what its classes are; give data.labels={{name: value, ...}}"
            )
        palette = colour_by_value(self._first.dataset)
        return values, {n: palette[v] for n, v in values.items() if v in palette} | dict(colours or {})


def _arguments_of_parts(
    arguments: Mapping[str, object] | None, split_argument: str, splits: Mapping[str, object] | None
) -> dict[str, dict[str, object]]:
    """Arguments of torchgeo's class for each part; without splits, for one part without a name."""
    shared = dict(arguments or {})
    if not splits:
        return {"": shared}
    return {part: {**shared, split_argument: value} for part, value in splits.items()}


def _check_settings(read: str, splits: Mapping[str, object] | None, reading: ReadOptions) -> None:
    """Raise on settings that are unknown or do not fit each other."""
    if read not in ("files", "samples"):
        raise InputError(f"data.read={read}: choose files or samples")
    if splits and (set(splits) - set(_PARTS) or "train" not in splits):
        raise InputError(f"data.splits={dict(splits)}: expected train, and val and test if there are such")
    if reading.dates and (read == "files" or reading.dates != DateLayout(slots=reading.dates.slots)):
        raise InputError(
            "data.dates: of torchgeo, samples with dates are time series by themselves, and only slots can be set, "
            "with data.read=samples; take series of files by data=rasters"
        )
