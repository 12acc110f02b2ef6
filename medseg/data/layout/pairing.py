"""Pair image and label files by case id; whatever is left over is an error."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medseg import formats
from medseg.data.case import Case, refuse
from medseg.data.layout.dates import DateLayout, dated, shown
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
    files with other endings are passed over.

    Args:
        image_dir: Folder of images.
        label_dir: Folder of labels; None for cases without any.
        n_channels: Channels of each case.
        endings: Suffixes of the files to take, in lower case; None for those of volumes.
        folders: Take each folder in ``image_dir`` as one image file (a DICOM series).

    Returns:
        Cases sorted by id, each its own group.

    Raises:
        InputError: A missing or empty folder, an id with files for the same channel twice, a channel that
            is missing or not declared, an image without label, or a label without image.
    """
    endings = formats.suffixes("volume") if endings is None else endings
    labels = None if label_dir is None else _unique(label_dir, endings, "label")
    images: dict[str, _Files] = defaultdict(lambda: defaultdict(list))
    for path, stem in _files(image_dir, endings, folders=folders):
        case_id, channel = _identify(stem, labels, n_channels)
        images[case_id][channel].append(path)
    _check_channels(images, n_channels, image_dir)
    if labels is None and n_channels == 1:
        second = [n for n in images if n.endswith("_0001") and n.removesuffix("_0001") in images]
        way_out = "give images with the channels of the training, or rename the files that are cases of their own"
        refuse(second, f"image(s) in {image_dir} that look like a second channel, where one is expected", way_out)
    if labels is not None and label_dir is not None:
        named = named_otherwise(images, labels, image_dir, label_dir) if n_channels == 1 else None
        refuse(
            sorted(set(images) - set(labels)),
            f"image(s) in {image_dir} without a label in {label_dir}",
            named or "add the labels, or move the images out of the folder",
        )
        refuse(
            sorted(set(labels) - set(images)),
            f"label(s) in {label_dir} without an image in {image_dir}",
            "add the images, or move the labels out of the folder",
        )
    incomplete = set() if labels is None else set(images) - set(labels)
    incomplete |= {name for name, files in images.items() if not _complete(files, n_channels)}
    return [
        Case(
            name,
            tuple(files[c][0] for c in sorted(files, key=lambda c: c or 0)),
            labels[name] if labels else None,
            name,
        )
        for name, files in sorted(images.items())
        if name not in incomplete
    ]


def by_stem(
    images: Sequence[Path],
    labels: Path | None,
    *,
    endings: Sequence[str],
    label_endings: Sequence[str],
    valid: Path | None = None,
    dates: DateLayout | None = None,
) -> list[Case]:
    """Cases of folders in which the files of a case have one name, whatever its ending.

    Args:
        images: Folders of images; with several, each holds some of the bands of every case.
        labels: Folder of label files; or one file of vectors that covers every case; None for none.
        endings: Suffixes of images, in lower case; other files are passed over.
        label_endings: Suffixes of labels.
        valid: Folder of validity masks (fields of view), GeoTIFF, PNG or JPEG; None for none.
        dates: Of time series, how dates lie in files; then a case has an image for each date, in folders of
            images also in sub-folders.

    Returns:
        Cases sorted by id, each its own group.

    Raises:
        InputError: A missing or empty folder, two files of one name (or of one date), a name that lacks one of its
            files, or an image without a date.
    """
    by_date = dates is not None and dates.in_file is None
    found = [_by_day(folder, endings, dates if by_date else None) for folder in images]
    shared = labels is not None and labels.is_file()
    others: dict[str, tuple[Path | None, Sequence[str]]] = {"valid": (valid, formats.suffixes("scene", "image"))}
    if not shared:
        others["label"] = (labels, label_endings)
    beside = {what: _unique(folder, ends, what) for what, (folder, ends) in others.items() if folder is not None}
    named: list[tuple[Path | None, Collection[str]]] = [
        (folder, f.keys()) for folder, f in zip(images, found, strict=True)
    ]
    named += [(others[what][0], files.keys()) for what, files in beside.items()]
    for folder, files in named[1:]:
        for lacking, having, these in ((folder, images[0], found[0]), (images[0], folder, files)):
            named_so = (
                labels is not None
                and folder == labels
                and named_otherwise(found[0], beside["label"], images[0], labels)
            )
            refuse(
                sorted(set(these) - set(found[0] if lacking is images[0] else files)),
                f"file(s) of {having} without one of the same name in {lacking}",
                named_so or "add the files, or move the others out of the folder",
            )
    complete = set(found[0]).intersection(*(files for _, files in named))
    found = [{name: days for name, days in files.items() if name in complete} for files in found]
    for name, first in found[0].items():
        other = next((i for i, more in enumerate(found) if set(more[name]) != set(first)), None)
        if other is not None:
            day = shown(min(set(first) ^ set(found[other][name])))
            raise InputError(
                f"case {name}: only one of {images[0]} and {images[other]} has a file of {day}; add the other"
            )
    label_of = beside.get("label", dict.fromkeys(found[0], labels) if shared else {})
    valid_of = beside.get("valid", {})
    cases = []
    for name, first in sorted(found[0].items()):
        days = tuple(sorted(first))
        paths = tuple(more[name][day] for day in days for more in found)
        case = Case(name, paths, label_of.get(name), name, valid=valid_of.get(name), days=days if by_date else ())
        cases.append(dated(case, dates) if dates is not None and not by_date else case)
    return cases


def named_otherwise(
    images: Collection[str], labels: Mapping[str, Path], image_dir: Path, label_dir: Path
) -> str | None:
    """How to say that labels are named after their images with something added, as in ``case_seg``; None if not.

    Args:
        images: Case ids of the images.
        labels: Label files by stem.
        image_dir: Folder of the images.
        label_dir: Folder of the labels.
    """
    added = {label[len(name) :] for label in labels for name in images if label.startswith(name)}
    for end in sorted(added - {""}):
        if {f"{name}{end}" for name in images} == set(labels):
            kind = re.escape(formats.suffix(next(iter(labels.values()))))
            pattern = f"{label_dir.name}/(?P<case>.+){re.escape(end)}{kind}"
            example = f"{image_dir.name}/(?P<case>.+){_ending_of(image_dir)}"
            return (
                f"the labels are named like the images with {end} added; "
                f'\'data.names={{image: "{example}", label: "{pattern}"}}\' pairs them'
            )
    return None


def _ending_of(folder: Path) -> str:
    """Pattern for the end of the images' names: their suffix, after the number of the channel where all have one."""
    paths = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and formats.suffix(p))
    numbered = bool(paths) and all(formats.stem(p).endswith("_0000") for p in paths)
    return ("_0000" if numbered else "") + (re.escape(formats.suffix(paths[0])) if paths else "")


def _by_day(folder: Path, endings: Sequence[str], dates: DateLayout | None) -> dict[str, dict[int, Path]]:
    """Image files of each case by day; of one day, 0, where names have no dates."""
    if dates is None:
        return {name: {0: path} for name, path in _unique(folder, endings, "image").items()}
    by_day: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    undated = []
    for path, _ in _files(folder, endings, deep=True):
        below = path.relative_to(folder).as_posix()
        told = dates.find(below)
        if told is None:
            undated.append(below)
        else:
            by_day[told[0]][told[1]].append(path)
    alone = [name for name in undated if dates.pattern is None and _DATE_ALONE.fullmatch(name)]
    refuse(
        alone,
        f"image(s) in {folder} whose whole name is a date, so that it does not say the case",
        f"put the dates of a place into a folder of its own, such as {folder.name}/place/{alone[0] if alone else ''}, "
        "with the mask place.tif",
    )
    refuse(undated, f"image(s) in {folder} without a date in their names", dates.expected)
    twice = [
        f"{name} on {shown(day)} ({' and '.join(p.name for p in paths)})"
        for name, files in by_day.items()
        for day, paths in files.items()
        if len(paths) > 1
    ]
    refuse(twice, f"case(s) in {folder} with more than one image of a date", "keep one file a date")
    return {name: {day: paths[0] for day, paths in files.items()} for name, files in by_day.items()}


def _files(
    folder: Path, endings: Sequence[str], *, what: str = "image", folders: bool = False, deep: bool = False
) -> list[tuple[Path, str]]:
    """Image files of ``folder`` (with ``deep``, also of its sub-folders) with their stems, sorted; at least one."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; check data.root and the names of its sub-folders{_nearest(folder)}"
        )
    entries = sorted(folder.rglob("*") if deep else folder.iterdir())
    wanted = {*endings, ""} if folders else {*endings}
    shown = [path for path in entries if not path.name.startswith(".") and (path.is_file() or folders)]
    found = [(path, formats.stem(path)) for path in shown if formats.suffix(path) in wanted]
    if not found:
        kinds = ", ".join(endings) + (", or a folder a case" if folders else "")
        lacking = f"no {what}" if what == "image" else f"no {what} file"
        raise InputError(f"{folder}: {lacking} among its {len(entries)} entries, expected files ending in {kinds}")
    return found


def _nearest(folder: Path) -> str:
    """The sub-folders of the same place whose names are nearest, for messages; empty if there are none."""
    others = sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) if folder.parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, others, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _unique(folder: Path, endings: Sequence[str], what: str) -> dict[str, Path]:
    """Files of a folder by stem."""
    by_id = defaultdict(list)
    for path, stem in _files(folder, endings, what=what):
        by_id[stem].append(path)
    twice = [" and ".join(p.name for p in paths) for paths in by_id.values() if len(paths) > 1]
    refuse(twice, f"case(s) with more than one {what} in {folder}", "keep one file a case")
    return {name: paths[0] for name, paths in by_id.items()}


def _identify(stem: str, labelled: Collection[str] | None, n_channels: int) -> tuple[str, int | None]:
    """Case id and channel number of an image file's stem."""
    known = labelled or ()
    suffix = re.fullmatch(r"(.+)_(\d{4})", stem)
    if suffix is None or stem in known:
        return stem, None
    if suffix[1] in known or n_channels > 1 or suffix[2] == "0000":
        return suffix[1], int(suffix[2])
    return stem, None


def _complete(files: _Files, n_channels: int) -> bool:
    """Whether a case has one file for each of its channels, or one that holds them all."""
    return None in files or {*range(n_channels)} == {*files}


def _check_channels(images: dict[str, _Files], n_channels: int, folder: Path) -> None:
    twice, extra, missing = [], [], []
    for name, files in sorted(images.items()):
        paths = [path for same in files.values() for path in same]
        if len(paths) > (1 if None in files else len(files)):
            twice.append(f"{name} ({', '.join(p.name for p in paths)})")
        numbers = {c for c in files if c is not None}
        extra += [f"{name} (channel {c})" for c in sorted(numbers - set(range(n_channels)))]
        if None not in files:
            missing += [f"{name} (channel {c})" for c in range(n_channels) if c not in numbers]
    refuse(twice, f"case(s) in {folder} with more than one file for a channel", "keep one of them")
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
