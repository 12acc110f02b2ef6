"""Any paired volumes: a folder of images and a folder of labels, declared in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from medseg import formats
from medseg.data.annotated import Annotated, with_annotated
from medseg.data.dataset import Case, Dataset, named_channels, unlabelled_table
from medseg.data.layout.image_groups import folders_of, group_names, group_of
from medseg.data.layout.pairing import pair
from medseg.data.layout.patterns import FilePatterns
from medseg.data.layout.same_names import by_stem
from medseg.data.reading.options import Nonfinite, ReadOptions, check_groups
from medseg.data.splits.groups import grouped
from medseg.errors import InputError
from medseg.geometry.tolerance import GRID_TOLERANCE
from medseg.labels import LabelTable
from medseg.sample import Channel, DataSpec


class VolumesDataset(Dataset):
    """Images and labels in two folders, in NIfTI, NRRD or MHA; an image may be a DICOM series' folder.

    Names pair up as ``pairing.pair`` describes: ``images/case.nrrd`` (or ``case_0000.nii.gz``,
    ``case_0001.nii.gz`` for two channels, or a folder ``images/case``) with ``labels/case.nii.gz``. ``names``
    describes any other layout. Several folders of images have names (``images: {t1: T1w, t2: T2w}``), and hold a file
    of each case, ``T1w/case.nii.gz``; a channel is called after its folder, or ``t1.NAME``.

    Args:
        root: Folder of the sub-folders.
        channels: Name of each channel; ``CT`` decides its normalisation, see ``normalisation_scheme``.
        labels: Class name to raw value or values, as ``LabelTable.declare`` takes it; None for images alone, whose
            labels are then not read.
        images: Sub-folder of the images; or one for each image group, by name.
        label_folder: Sub-folder of the labels; None for images to pretrain on.
        reference: Image group whose grid is that of a case; None for the first.
        test_images: Sub-folder of images without labels, for prediction after training; as ``images``.
        names: Patterns for the files instead of the sub-folders, see ``FilePatterns``; an image pattern a channel.
        regions_class_order: Raw value painted by each region, where ``labels`` declares regions.
        merge: Take several raw values of a name as one class, not as a region.
        pairs: (left, right) class names that a mirror across the body exchanges, see ``LabelTable.declare``.
        codes: Codes of classes in a terminology, for DICOM segmentations, see ``codes.codes_of``; None for none.
        name: The dataset's name; the folder's name by default.
        groups: Groups that splits keep together, see ``splits.groups.grouped``.
        annotated: Classes that cases annotate, where not all annotate every class; see ``data.annotated``.
        absent: What to do with a case that lacks the files of some channels, see ``ReadOptions``.
        nonfinite: What to do with NaN voxels, see ``ReadOptions``.
        grid_tolerance: In voxels, see ``ReadOptions``.

    Raises:
        InputError: No channel or no label is declared, or the label table is not sound.
    """

    def __init__(
        self,
        root: Path | str,
        channels: Sequence[str],
        labels: Mapping[object, object] | Sequence[str] | None,
        *,
        images: str | Mapping[str, object] = "images",
        reference: str | None = None,
        label_folder: str | None = "labels",
        test_images: str | Mapping[str, object] | None = None,
        names: Mapping[str, str | Sequence[str] | None] | None = None,
        regions_class_order: Sequence[int] | None = None,
        merge: bool = False,
        pairs: Sequence[Sequence[str]] | None = None,
        codes: Mapping[str, Mapping[str, Sequence[str | int]]] | None = None,
        name: str | None = None,
        groups: str | None = None,
        annotated: Annotated = None,
        absent: Literal["error", "allow"] = "error",
        nonfinite: Nonfinite = "error",
        grid_tolerance: float = GRID_TOLERANCE,
    ) -> None:
        if not channels:
            raise InputError("data.channels is empty; name each channel, such as data.channels=[CT]")
        self.root = Path(root)
        self.name = name or self.root.name
        self.label_folder = label_folder
        image_groups = group_names(images, reference)
        self._images = folders_of(images, image_groups, "images")
        self._test_images = folders_of(test_images, image_groups, "test_images")
        self.names = FilePatterns.from_config(names) if names else None
        if self.names and image_groups:
            raise InputError("got both data.names and image groups in data.images; drop one")
        if labels is None:
            self.label_folder = None
            self.names = self.names and replace(self.names, label=None, test_label=None)
        self.groups, self.annotated = groups, annotated
        self.reading = ReadOptions.from_config(
            nonfinite=nonfinite, grid_tolerance=grid_tolerance, images=images, reference=reference, absent=absent
        )
        check_groups(self.reading)
        table = (
            unlabelled_table()
            if labels is None
            else LabelTable.declare(labels, regions_class_order=regions_class_order, merge=merge, pairs=pairs)
        ).with_codes(codes)
        self._spec = DataSpec(channels=_in_groups(named_channels(list(channels)), image_groups), labels=table, ndim=3)

    @property
    def spec(self) -> DataSpec:
        """What the configuration declares."""
        return self._spec

    def cases(self) -> list[Case]:
        """Pairs of the image folder and the label folder, or what the names tell."""
        cases = grouped(self._labelled(), self.groups)
        return with_annotated(cases, self.annotated, self.spec.labels, further=self._tests)

    def _labelled(self) -> list[Case]:
        if self.names:
            return self.names.cases(self.root, absent=self._absent)
        return self._pair(self._images, self.root / self.label_folder if self.label_folder else None)

    def test_cases(self) -> list[Case]:
        """Images of the test folder, without labels; empty where none is named. Or what the names tell."""
        return with_annotated(self._tests(), self.annotated, self.spec.labels)

    def _tests(self) -> list[Case]:
        if self.names:
            return self.names.cases(self.root, test=True, absent=self._absent)
        return self._pair(self._test_images, None) if self._test_images else []

    def _pair(self, images: Sequence[str], labels: Path | None) -> list[Case]:
        folders, groups = [self.root / folder for folder in images], self.reading.image_groups
        if not groups:
            return pair(folders[0], labels, len(self.spec.channels), folders=True, absent=self._absent)
        endings = formats.suffixes("volume")
        return by_stem(folders, labels, endings=endings, label_endings=endings, groups=groups, absent=self._absent)

    @property
    def _absent(self) -> bool:
        """Whether a case may lack the files of some channels."""
        return self.reading.absent == "allow"


def _in_groups(channels: Sequence[Channel], groups: Sequence[str]) -> tuple[Channel, ...]:
    """The channels with their image groups.

    Raises:
        InputError: A channel of none of the groups.
    """
    without = [channel.name for channel in channels if groups and not group_of(channel.name, groups)]
    if without:
        raise InputError(
            f"data.channels: {', '.join(without)} without an image group, expected the name of one, {', '.join(groups)}"
        )
    return tuple(
        replace(channel, groups=(group_of(channel.name, groups),)) if groups else channel for channel in channels
    )
