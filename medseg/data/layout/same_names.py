"""Cases of folders in which the files of a case have the same name; files without a partner are an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from medseg import formats
from medseg.data.case import ABSENT_HINT, Case, refuse
from medseg.data.layout.dates import DateLayout, dated, shown
from medseg.data.layout.folders import files_by_stem, files_of, renaming_hint
from medseg.errors import InputError

_DATE_ALONE = re.compile(r"(\d{4}-\d{2}-\d{2}|\d{8}|\d{7})\.[^/]+")


def by_stem(
    images: Sequence[Path],
    labels: Path | None,
    *,
    endings: Sequence[str],
    label_endings: Sequence[str],
    valid: Path | None = None,
    dates: DateLayout | None = None,
    groups: Sequence[str] = (),
    absent: bool = False,
    without: str = "",
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
        absent: Whether a case may lack the files of some folders of images; of groups on single dates, too.
        without: End of the stems of files of images that are none; empty where there are none of these.

    Returns:
        Cases sorted by id, each its own group.

    Raises:
        InputError: A missing or empty folder, two files of one name (or of one date), a name that lacks one of its
            files, an image without a date, or a group without a file of any case.
    """
    day_layout = _of_file_names(dates)
    by_folder = [_by_day(folder, endings, day_layout, without) for folder in images]
    siblings = _siblings(labels, label_endings, valid)
    of_images = [_union(images, by_folder)] if absent else list(map(_Folder, images, by_folder))
    folders = [*of_images, *siblings.values()]
    _check_names(folders, siblings.get("label"), len(of_images))
    names = sorted(set(of_images[0].files).intersection(*(folder.files for folder in folders)))
    if absent:
        _check_groups(names, images, by_folder)
    if not (absent and groups):
        _check_days(names, images, by_folder, ABSENT_HINT if groups else "")
    label_of = _files_in(siblings, "label", dict.fromkeys(names, labels))
    valid_of = _files_in(siblings, "valid", {})
    cases = [_case_of_days(name, by_folder, groups, label_of.get(name), valid_of.get(name)) for name in names]
    return cases if day_layout is not None else [_without_days(case, dates) for case in cases]


def _of_file_names(dates: DateLayout | None) -> DateLayout | None:
    """The layout of dates that stand in the names of files; None for those that lie in each file."""
    return dates if dates is not None and dates.in_file is None else None


def _without_days(case: Case, dates: DateLayout | None) -> Case:
    """The case without the days of file names; with those in each file, where each file holds all of them."""
    undated = replace(case, days=())
    return undated if dates is None else dated(undated, dates)


def _case_of_days(
    name: str,
    by_folder: Sequence[Mapping[str, Mapping[int, Path]]],
    groups: Sequence[str],
    label: Path | None,
    valid: Path | None,
) -> Case:
    """A case of its files in several folders, day by day; without those that it lacks."""
    own = {number: files[name] for number, files in enumerate(by_folder) if name in files}
    days = tuple(sorted({day for files in own.values() for day in files}))
    on_days = [{number: files[day] for number, files in own.items() if day in files} for day in days]
    paths = tuple(chain.from_iterable(part.values() for part in on_days))
    case = Case(name, paths, label, name, valid=valid, days=days)
    if not groups:
        return replace(case, absent=tuple(sorted({*range(len(by_folder))} - {*own})))
    return _in_groups(case, [tuple(groups[number] for number in part) for part in on_days])


def _in_groups(case: Case, on_days: Sequence[tuple[str, ...]]) -> Case:
    """The case with the image groups of its files, of which days may have different ones."""
    if len(set(on_days)) == 1:
        return replace(case, image_groups=on_days[0])
    return replace(case, image_groups=tuple(chain.from_iterable(on_days)), per_date=tuple(map(len, on_days)))


class _Folder(NamedTuple):
    """A folder with its files by case."""

    path: Path
    files: Mapping[str, Any]


def _union(folders: Sequence[Path], by_folder: Sequence[Mapping[str, Mapping[int, Path]]]) -> _Folder:
    """The cases of all folders, as if these were one."""
    return _Folder(folders[0].parent, {name: files for part in by_folder for name, files in part.items()})


def _files_in(siblings: Mapping[str, _Folder], kind: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
    """Files of labels or of validity masks by case."""
    return siblings[kind].files if kind in siblings else default


def _siblings(labels: Path | None, label_endings: Sequence[str], valid: Path | None) -> dict[str, _Folder]:
    """The folders of labels and of validity masks, with their files by stem; not a file of vectors for every case."""
    siblings = {}
    if valid is not None:
        siblings["valid"] = _Folder(valid, files_by_stem(valid, formats.suffixes("scene", "image"), "valid"))
    if labels is not None and not labels.is_file():
        siblings["label"] = _Folder(labels, files_by_stem(labels, label_endings, "label"))
    return siblings


def _check_names(folders: Sequence[_Folder], labels: _Folder | None, n_images: int) -> None:
    """Report files of the first folder without one of the same name in another, and the reverse.

    The first ``n_images`` folders are of images, ``labels`` is that of labels.
    """
    first, *others = folders
    for number, other in enumerate(others, 1):
        hint = renaming_hint(first.files, other.files, first.path, other.path) if other is labels else None
        usual = "add the files, or move the others out of the folder" + (ABSENT_HINT if number < n_images else "")
        for having, lacking in ((first, other), (other, first)):
            refuse(
                sorted(set(having.files) - set(lacking.files)),
                f"file(s) of {having.path} without one of the same name in {lacking.path}",
                hint or usual,
            )


def _check_groups(
    names: Sequence[str], images: Sequence[Path], by_folder: Sequence[Mapping[str, Mapping[int, Path]]]
) -> None:
    """Raise on a folder of images that every case lacks."""
    for folder, files in zip(images, by_folder, strict=True):
        if names and set(files).isdisjoint(names):
            raise InputError(
                f"{folder}: has a file of none of the {len(names)} cases, expected one of some case at least; "
                "rename its files after the cases, or take it out of data.images and its bands out of data.channels"
            )


def _check_days(
    names: Sequence[str], images: Sequence[Path], by_folder: Sequence[Mapping[str, Mapping[int, Path]]], hint: str
) -> None:
    """Raise on a case whose folders of images have files of different days."""
    for name in names:
        (folder, first), *others = [(path, files[name]) for path, files in zip(images, by_folder) if name in files]
        other = next((pair for pair in others if set(pair[1]) != set(first)), None)
        if other is not None:
            day = shown(min(set(first) ^ set(other[1])))
            raise InputError(
                f"case {name}: only one of {folder} and {other[0]} has a file of {day}; add the other{hint}"
            )


def _by_day(folder: Path, endings: Sequence[str], dates: DateLayout | None, without: str) -> dict[str, dict[int, Path]]:
    """Image files of each case by day; of one day, 0, where names have no dates."""
    if dates is None:
        return {name: {0: path} for name, path in files_by_stem(folder, endings, "image", without=without).items()}
    by_day: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    undated = []
    for path, _ in files_of(folder, endings, deep=True, without=without):
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
