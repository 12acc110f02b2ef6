"""Pair image and label files by case id; files without a partner are an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from medseg import formats
from medseg.data.case import Case, refuse
from medseg.data.layout.dates import DateLayout, dated, shown
from medseg.data.layout.folders import files_by_stem, files_of, renaming_hint
from medseg.errors import InputError

_DATE_ALONE = re.compile(r"(\d{4}-\d{2}-\d{2}|\d{8}|\d{7})\.[^/]+")
_Files = dict[int | None, list[Path]]
"""Image files of one case by channel number; None for a file without one, which holds every channel."""


def pair(
    image_dir: Path,
    label_dir: Path | None,
    n_channels: int,
    *,
    endings: Sequence[str] | None = None,
    folders: bool = False,
) -> list[Case]:
    r"""Cases of two folders, matched by name.

    An image is named ``<id>_<channel, four digits><ending>``, or ``<id><ending>`` where the file holds
    every channel (so with one channel the suffix may be left out); its label ``<id><ending>``. Whether
    ``scan_0001`` is channel 1 of ``scan`` or a case of that name is decided by the labels that exist;
    without labels, only ``_0000`` counts as a suffix where there is one channel. Hidden files and
    files with other endings are ignored.

    Args:
        image_dir: Folder of images.
        label_dir: Folder of labels; None for cases without labels.
        n_channels: Number of channels of each case.
        endings: Suffixes of the files to take, in lower case; None for those of volumes.
        folders: Whether each folder in ``image_dir`` is one image (a DICOM series).

    Returns:
        Cases sorted by id, each its own group.

    Raises:
        InputError: A missing or empty folder, an id with files for the same channel twice, a channel that
            is missing or not declared, an image without label, or a label without image.
    """
    endings = formats.suffixes("volume") if endings is None else endings
    labels = None if label_dir is None else files_by_stem(label_dir, endings, "label")
    images: dict[str, _Files] = defaultdict(lambda: defaultdict(list))
    for path, stem in files_of(image_dir, endings, folders=folders):
        case_id, channel = _identify(stem, labels, n_channels)
        images[case_id][channel].append(path)
    _check_channels(images, n_channels, image_dir)
    complete = {name for name, files in images.items() if _complete(files, n_channels)}
    if labels is None or label_dir is None:
        _check_second_channel(images, n_channels, image_dir)
        return [_case(name, images[name], None) for name in sorted(complete)]
    _check_labels(images, labels, n_channels, image_dir, label_dir)
    return [_case(name, images[name], labels[name]) for name in sorted(complete & set(labels))]


def _case(name: str, files: _Files, label: Path | None) -> Case:
    """A case of its image files in the order of their channels."""
    return Case(name, tuple(files[c][0] for c in sorted(files, key=lambda c: c or 0)), label, name)


def _check_second_channel(images: Collection[str], n_channels: int, folder: Path) -> None:
    """Report images without labels that look like a second channel, where one is expected."""
    if n_channels == 1:
        second = [n for n in images if n.endswith("_0001") and n.removesuffix("_0001") in images]
        hint = "give images with the channels of the training, or rename the files that are cases of their own"
        refuse(second, f"image(s) in {folder} that look like a second channel, where one is expected", hint)


def _check_labels(
    images: Collection[str], labels: Mapping[str, Path], n_channels: int, image_dir: Path, label_dir: Path
) -> None:
    """Report images without a label and labels without an image."""
    hint = renaming_hint(images, labels, image_dir, label_dir) if n_channels == 1 else None
    refuse(
        sorted(set(images) - set(labels)),
        f"image(s) in {image_dir} without a label in {label_dir}",
        hint or "add the labels, or move the images out of the folder",
    )
    refuse(
        sorted(set(labels) - set(images)),
        f"label(s) in {label_dir} without an image in {image_dir}",
        "add the images, or move the labels out of the folder",
    )


def _repeated_files(name: str, files: _Files) -> list[str]:
    """A case that has several files for a channel, or others next to one with all channels; in words."""
    paths = [path for same in files.values() for path in same]
    if len(paths) <= (1 if None in files else len(files)):
        return []
    return [f"{name} ({', '.join(p.name for p in paths)})"]


def _channels(name: str, numbers: Collection[int]) -> list[str]:
    """Channels of a case, in words."""
    return [f"{name} (channel {number})" for number in sorted(numbers)]


def by_stem(
    images: Sequence[Path],
    labels: Path | None,
    *,
    endings: Sequence[str],
    label_endings: Sequence[str],
    valid: Path | None = None,
    dates: DateLayout | None = None,
    groups: Sequence[str] = (),
) -> list[Case]:
    """Cases of folders in which the files of a case have the same stem.

    Args:
        images: Folders of images; with several, each holds some of the bands of every case.
        labels: Folder of label files; or one file of vectors that covers every case; None for none.
        endings: Suffixes of images, in lower case; other files are ignored.
        label_endings: Suffixes of labels.
        valid: Folder of validity masks (fields of view), GeoTIFF, PNG or JPEG; None for none.
        dates: Layout of the dates of time series; with it a case has an image for each date, also in sub-folders
            of the folders of images.
        groups: Name of the image group of each folder of images; empty where they have none.

    Returns:
        Cases sorted by id, each its own group.

    Raises:
        InputError: A missing or empty folder, two files of one name (or of one date), a name that lacks one of its
            files, or an image without a date.
    """
    day_layout = _of_file_names(dates)
    by_folder = [_by_day(folder, endings, day_layout) for folder in images]
    siblings = _siblings(labels, label_endings, valid)
    folders = [*(_Folder(folder, files) for folder, files in zip(images, by_folder, strict=True)), *siblings.values()]
    _check_names(folders, siblings.get("label"))
    names = sorted(set(by_folder[0]).intersection(*(folder.files for folder in folders)))
    _check_days(names, images, by_folder)
    label_of = siblings["label"].files if "label" in siblings else dict.fromkeys(names, labels)
    valid_of = siblings["valid"].files if "valid" in siblings else {}
    cases = [_case_of_days(name, by_folder, label_of.get(name), valid_of.get(name)) for name in names]
    cases = [replace(case, image_groups=tuple(groups)) for case in cases]
    return cases if day_layout is not None else [_without_days(case, dates) for case in cases]


def _of_file_names(dates: DateLayout | None) -> DateLayout | None:
    """The layout of dates that stand in the names of files; None for those that lie in each file."""
    return dates if dates is not None and dates.in_file is None else None


def _without_days(case: Case, dates: DateLayout | None) -> Case:
    """The case without the days of file names; with those in each file, where each file holds all of them."""
    undated = replace(case, days=())
    return undated if dates is None else dated(undated, dates)


def _case_of_days(
    name: str, by_folder: Sequence[Mapping[str, Mapping[int, Path]]], label: Path | None, valid: Path | None
) -> Case:
    """A case of its files in several folders, day by day."""
    days = tuple(sorted(by_folder[0][name]))
    paths = tuple(files[name][day] for day in days for files in by_folder)
    return Case(name, paths, label, name, valid=valid, days=days)


class _Folder(NamedTuple):
    """A folder with its files by case."""

    path: Path
    files: Mapping[str, Any]


def _siblings(labels: Path | None, label_endings: Sequence[str], valid: Path | None) -> dict[str, _Folder]:
    """The folders of labels and of validity masks, with their files by stem; not a file of vectors for every case."""
    siblings = {}
    if valid is not None:
        siblings["valid"] = _Folder(valid, files_by_stem(valid, formats.suffixes("scene", "image"), "valid"))
    if labels is not None and not labels.is_file():
        siblings["label"] = _Folder(labels, files_by_stem(labels, label_endings, "label"))
    return siblings


def _check_names(folders: Sequence[_Folder], labels: _Folder | None) -> None:
    """Report files of the first folder without one of the same name in another, and the reverse."""
    first, *others = folders
    for other in others:
        hint = renaming_hint(first.files, other.files, first.path, other.path) if other is labels else None
        for having, lacking in ((first, other), (other, first)):
            refuse(
                sorted(set(having.files) - set(lacking.files)),
                f"file(s) of {having.path} without one of the same name in {lacking.path}",
                hint or "add the files, or move the others out of the folder",
            )


def _check_days(
    names: Sequence[str], images: Sequence[Path], by_folder: Sequence[Mapping[str, Mapping[int, Path]]]
) -> None:
    """Raise on a case whose folders of images have files of different days."""
    for name in names:
        first = by_folder[0][name]
        other = next((i for i, files in enumerate(by_folder) if set(files[name]) != set(first)), None)
        if other is not None:
            day = shown(min(set(first) ^ set(by_folder[other][name])))
            raise InputError(
                f"case {name}: only one of {images[0]} and {images[other]} has a file of {day}; add the other"
            )


def _by_day(folder: Path, endings: Sequence[str], dates: DateLayout | None) -> dict[str, dict[int, Path]]:
    """Image files of each case by day; of one day, 0, where names have no dates."""
    if dates is None:
        return {name: {0: path} for name, path in files_by_stem(folder, endings, "image").items()}
    by_day: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    undated = []
    for path, _ in files_of(folder, endings, deep=True):
        below = path.relative_to(folder).as_posix()
        match = dates.find(below)
        if match is None:
            undated.append(below)
        else:
            case_id, day = match
            by_day[case_id][day].append(path)
    _report_undated(folder, undated, dates)
    refuse(_repeated_days(by_day), f"case(s) in {folder} with more than one image of a date", "keep one file a date")
    return {name: {day: paths[0] for day, paths in files.items()} for name, files in by_day.items()}


def _repeated_days(by_day: Mapping[str, Mapping[int, Sequence[Path]]]) -> list[str]:
    """Cases with several files of one day, in words."""
    return [
        f"{name} on {shown(day)} ({' and '.join(p.name for p in paths)})"
        for name, files in by_day.items()
        for day, paths in files.items()
        if len(paths) > 1
    ]


def _report_undated(folder: Path, names: Sequence[str], dates: DateLayout) -> None:
    """Report images without a date in their names, or with nothing else in them."""
    alone = [name for name in names if dates.pattern is None and _DATE_ALONE.fullmatch(name)]
    refuse(
        alone,
        f"image(s) in {folder} whose whole name is a date, so that it does not say the case",
        f"put the dates of a place into a folder of its own, such as {folder.name}/place/{alone[0] if alone else ''}, "
        "with the mask place.tif",
    )
    refuse(names, f"image(s) in {folder} without a date in their names", dates.expected)


def _identify(stem: str, labels: Collection[str] | None, n_channels: int) -> tuple[str, int | None]:
    """Case id and channel number of an image file's stem."""
    names = labels or ()
    suffix = re.fullmatch(r"(.+)_(\d{4})", stem)
    if suffix is None or stem in names:
        return stem, None
    if suffix[1] in names or n_channels > 1 or suffix[2] == "0000":
        return suffix[1], int(suffix[2])
    return stem, None


def _complete(files: _Files, n_channels: int) -> bool:
    """Whether a case has one file for each of its channels, or one that holds them all."""
    return None in files or {*range(n_channels)} == {*files}


def _check_channels(images: dict[str, _Files], n_channels: int, folder: Path) -> None:
    """Report channels with more than one file, channels that are not declared, and channels without a file."""
    repeated, extra, missing = [], [], []
    declared = set(range(n_channels))
    for name, files in sorted(images.items()):
        numbers = {c for c in files if c is not None}
        repeated += _repeated_files(name, files)
        extra += _channels(name, numbers - declared)
        missing += [] if None in files else _channels(name, declared - numbers)
    refuse(repeated, f"case(s) in {folder} with more than one file for a channel", "keep one of them")
    refuse(
        extra,
        f"image(s) in {folder} beyond the {n_channels} declared channel(s)",
        "declare the channel's name, or remove the files",
    )
    refuse(
        missing,
        f"missing image(s) in {folder} of {n_channels} declared channels",
        "add the files <case>_<channel, four digits>, or remove the case",
    )
