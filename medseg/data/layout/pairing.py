"""Pair image and label files by case id; files without a partner are an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medseg import formats
from medseg.data.case import ABSENT_HINT, Case, refuse
from medseg.data.layout.folders import files_by_stem, files_of, renaming_hint

_Files = dict[int | None, list[Path]]
"""Image files of one case by channel number; None for a file without one, which holds every channel."""


def pair(
    image_dir: Path,
    label_dir: Path | None,
    n_channels: int,
    *,
    endings: Sequence[str] | None = None,
    folders: bool = False,
    absent: bool = False,
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
        absent: Whether a case may lack the files of some channels.

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
    _check_channels(images, n_channels, image_dir, absent=absent)
    complete = {name for name, files in images.items() if absent or _complete(files, n_channels)}
    if labels is None or label_dir is None:
        _check_second_channel(images, n_channels, image_dir)
        return [_case(name, images[name], None, n_channels) for name in sorted(complete)]
    _check_labels(images, labels, n_channels, image_dir, label_dir)
    return [_case(name, images[name], labels[name], n_channels) for name in sorted(complete & set(labels))]


def _case(name: str, files: _Files, label: Path | None, n_channels: int) -> Case:
    """A case of its image files in the order of their channels."""
    there = sorted(files, key=lambda c: c or 0)
    lacking = () if None in files else tuple(sorted({*range(n_channels)} - {*there}))
    return Case(name, tuple(files[c][0] for c in there), label, name, absent=lacking)


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


def _check_channels(images: dict[str, _Files], n_channels: int, folder: Path, *, absent: bool) -> None:
    """Report channels with more than one file, channels that are not declared, and channels without a file."""
    repeated, extra, missing = [], [], []
    declared = set(range(n_channels))
    for name, files in sorted(images.items()):
        numbers = {c for c in files if c is not None}
        repeated += _repeated_files(name, files)
        extra += _channels(name, numbers - declared)
        missing += [] if absent or None in files else _channels(name, declared - numbers)
    refuse(repeated, f"case(s) in {folder} with more than one file for a channel", "keep one of them")
    refuse(
        extra,
        f"image(s) in {folder} beyond the {n_channels} declared channel(s)",
        "declare the channel's name, or remove the files",
    )
    refuse(
        missing,
        f"missing image(s) in {folder} of {n_channels} declared channels",
        "add the files <case>_<channel, four digits>, remove the case" + ABSENT_HINT,
    )
