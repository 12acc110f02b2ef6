"""Any images with masks, in two dimensions: GeoTIFF scenes, photographs, micrographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medseg import formats
from medseg.data.annotated import Annotated, with_annotated
from medseg.data.case import Case
from medseg.data.dataset import Dataset, unlabelled_table
from medseg.data.datasets.channels import Sensor, declared_channels
from medseg.data.layout.dates import DateLayout
from medseg.data.layout.image_groups import Folders, folders_of, group_names
from medseg.data.layout.patterns import FilePatterns
from medseg.data.layout.same_names import by_stem
from medseg.data.reading.options import ReadOptions, check_groups, with_scales
from medseg.data.splits.groups import grouped
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.labels.declared import by_name
from medseg.sample import DataSpec


class RastersDataset(Dataset):
    """Images and masks of the same name in two folders: ``images/scene.tif`` with ``masks/scene.png``.

    Masks may be rasters (palette PNG as indices) or vectors, a file a scene or one for all of them
    (``masks: labels.gpkg``). Bands may be spread over several folders (``images: [s1, s2]``), also with names, which
    stand in front of the names of their bands (``images: {pre: before, post: after}``, ``pre.B4``). With
    ``reading.dates`` cases are time series: an image for each date, and one mask.

    Args:
        root: Folder of the sub-folders.
        channels: Channels of the network: names of bands, or ``name: formula`` such as
            ``NBR: (B8 - B12) / (B8 + B12)``; a name that no band has may be a known index (``NDVI``).
        labels: Class name to raw value or values, as ``LabelTable.declare`` takes it; None for images alone, whose
            masks are then not read.
        reading: Options of reading.
        kind: ``rasters`` (GeoTIFF) or ``images`` (PNG, JPEG, TIFF).
        images: Sub-folder of the images, or several, also by names of image groups.
        masks: Sub-folder of the masks, or one file of vectors; None for images to pretrain on.
        valid: Sub-folder of validity masks (fields of view), 0 where cells do not count.
        reference: Image group whose grid is that of a case; None for the first.
        test_images: Sub-folder of images for the test set, or several, as ``images``.
        test_masks: Sub-folder of their masks.
        test_valid: Sub-folder of their validity masks.
        names: Patterns for the files instead of the sub-folders, see ``FilePatterns``; several for images whose
            bands lie in several files.
        sensor: Whose bands the channels are, for wavelengths: ``sentinel2`` and so on; or by image group.
        wavelengths_nm: By name of channel or band, where the table of sensors does not know it.
        background: Name of the class that is not scored. None: the class named ``background``, or else
            every class is scored. False: every class is scored.
        pairs: (left, right) class names that a mirror across the body exchanges, see ``LabelTable.declare``.
        colours: RGB by class name.
        normalisation: Scheme of every channel, see ``Normalisation``.
        name: The dataset's name; the folder's name by default.
        groups: Groups that splits keep together, see ``splits.groups.grouped``.
        annotated: Classes that cases annotate, where not all annotate every class; see ``data.annotated``.

    Raises:
        InputError: No channel, a formula that can't be read, or an unsound label table.
    """

    def __init__(
        self,
        root: Path | str,
        channels: Sequence[str | Mapping[str, str]],
        labels: Mapping[object, object] | Sequence[str] | None,
        *,
        reading: ReadOptions,
        kind: str = "rasters",
        images: Folders = "images",
        reference: str | None = None,
        masks: str | None = "masks",
        valid: str | None = None,
        test_images: Folders | None = None,
        test_masks: str | None = None,
        test_valid: str | None = None,
        names: Mapping[str, str | Sequence[str] | None] | None = None,
        sensor: Sensor = None,
        wavelengths_nm: Mapping[str, float] | None = None,
        background: str | bool | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        normalisation: str = "standard",
        name: str | None = None,
        groups: str | None = None,
        annotated: Annotated = None,
    ) -> None:
        self._endings = _endings_of(kind)
        self.root = Path(root)
        self.name = name or self.root.name
        groups_of_images = group_names(images, reference)
        self.reading = reading = replace(reading, image_groups=groups_of_images)
        check_groups(reading)
        self.groups, self.annotated = groups, annotated
        self.names = FilePatterns.from_config(names) if names else None
        if self.names and reading.dates:
            raise InputError("got both data.names and data.dates; names find one image a case, dates several; drop one")
        if self.names and groups_of_images:
            raise InputError("got both data.names and image groups in data.images; drop one")
        if labels is None:
            masks = test_masks = None
            self.names = self.names and replace(self.names, label=None, test_label=None)
        self._check_valid(valid)
        self._folders = {
            "train": (folders_of(images, groups_of_images, "images"), masks, valid),
            "test": (folders_of(test_images, groups_of_images, "test_images"), test_masks, test_valid),
        }
        self._normalisation = normalisation
        table = unlabelled_table() if labels is None else declared_labels(labels, background, colours, pairs)
        self._spec = DataSpec(declared_channels(channels, sensor, wavelengths_nm or {}, reading), table, ndim=2)

    def _check_valid(self, valid: str | None) -> None:
        """Raise on validity masks of single dates, which are not read."""
        dates = self.reading.dates
        if not valid or dates is None or dates.in_file is not None:
            return
        folder = self.root / valid
        masks = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
        dated = [p for p in masks if dates.find(p.relative_to(folder).as_posix())]
        if dated:
            raise InputError(
                f"data.valid={valid}: {dated[0].name} is a validity mask of one date, expected one mask for all "
                "dates of a case, named after the case; clouds of a date can be nodata in the image of that date"
            )

    @cached_property
    def spec(self) -> DataSpec:
        """Channels and labels of the configuration; for time series also the most dates of any case."""
        return self._spec if self.reading.dates is None else replace(self._spec, dates=self._slots(self.reading.dates))

    def _slots(self, dates: DateLayout) -> int:
        """Number of dates that a case has at most."""
        if dates.slots or dates.in_file:
            return dates.slots or dates.in_file or 0
        return max(len(case.days) for case in [*self._pair("train"), *self._tests()])

    @property
    def normalisation(self) -> tuple[str, ...]:
        """The scheme of the configuration, for every channel."""
        return (self._normalisation,) * len(self.spec.channels)

    def cases(self) -> list[Case]:
        """Images with their masks."""
        cases = grouped(self._pair("train"), self.groups)
        return with_annotated(cases, self.annotated, self._spec.labels, further=self._tests)

    def test_cases(self) -> list[Case]:
        """Images of the test folder, with masks where there are some; empty where no folder is named."""
        return with_annotated(self._tests(), self.annotated, self._spec.labels)

    def _tests(self) -> list[Case]:
        return self._pair("test") if self.names or self._folders["test"][0] else []

    def _pair(self, part: str) -> list[Case]:
        """Cases of the training or of the test set, without groups."""
        if self.names:
            return self.names.cases(self.root, test=part == "test", absent=self.reading.absent == "allow")
        images, masks, valid = self._folders[part]
        if masks:
            self._check_masks(masks, "test_masks" if part == "test" else "masks")
        cases = by_stem(
            [self.root / folder for folder in images],
            self.root / masks if masks else None,
            endings=self._endings,
            label_endings=(*formats.suffixes("scene", "image"), *formats.VECTORS),
            valid=self.root / valid if valid else None,
            dates=self.reading.dates,
            groups=self.reading.image_groups,
            absent=self.reading.absent == "allow",
            without=self.reading.no_images,
        )
        return [with_scales(case, self.reading) for case in cases]

    def _check_masks(self, masks: str, key: str) -> None:
        """Raise on masks that do not exist, with a file of vectors as a hint."""
        if (self.root / masks).exists() or not self.root.is_dir():
            return
        vectors = sorted(p.name for p in self.root.iterdir() if p.name.lower().endswith(formats.VECTORS))
        hint = f", such as data.{key}={vectors[0]}" if vectors else ""
        raise InputError(f"{self.root / masks}: no such folder or file of masks; name it by data.masks{hint}")


def _endings_of(kind: str) -> tuple[str, ...]:
    """Suffixes of the images of a kind: ``rasters`` or ``images``."""
    endings = {"rasters": formats.suffixes("scene"), "images": formats.suffixes("image", "scene")}
    if kind not in endings:
        raise InputError(f"data.kind={kind}: choose {' or '.join(endings)}")
    return endings[kind]


def declared_labels(
    labels: Mapping[Any, Any] | Sequence[str],
    background: str | bool | None,
    colours: Mapping[str, Sequence[int]] | None,
    pairs: Sequence[Sequence[str]] | None = None,
) -> LabelTable:
    """Label table of the configuration; the arguments are those of ``RastersDataset``.

    Raises:
        InputError: The background is no class, or the table is invalid.
    """
    labels = by_name(labels)
    if background is None and "background" in labels:
        background = "background"
    if background and background not in labels:
        raise InputError(f"data.background={background} is no class, classes are {list(labels)}")
    return LabelTable.declare(
        labels, merge=True, pairs=pairs, colours=colours, background=str(background) if background else None
    )
