"""The cases of folders of DICOM files: series by their folders, or all image series of a tree."""

from __future__ import annotations

import logging
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.data.case import Case, first_five
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.formats.dicom_tree import Series, Tree

_LOG = logging.getLogger(__name__)
_UID = re.compile(r"[0-9.]+")
_NUMBERED = re.compile(r".+_\d{4}")


def series_cases(source: Path, n_channels: int, series: str | None) -> list[Case] | None:
    """The cases of a folder that holds image series of DICOM; None if they are to be found by their names.

    A folder of one series is a case of the folder's name. In any other a case is an image series, named as
    ``dicom_tree.Series``; but where each series has a folder directly in ``source``, cases are named after the folders.

    Args:
        source: Folder without images of other formats.
        n_channels: Channels of each case; several are series of their own, whose folders' names say which.
        series: SeriesInstanceUID, or pattern of names of series or of their UIDs; None for all.

    Raises:
        InputError: No such series, or a tree where several channels are needed.
    """
    folders, files = _entries(source)
    alone = Case(source.name, (source,), None, source.name)
    if not folders and series is not None and _UID.fullmatch(series):
        return [alone]
    if n_channels > 1 and any(_NUMBERED.fullmatch(folder.name) for folder in folders):
        return None
    from medseg.formats.dicom_tree import find_series

    tree = find_series(source)
    if not tree.series:
        return [alone] if files and not folders else None
    _check_channels(source, tree, n_channels)
    return _tree_cases(source, tree, series)


def _check_channels(source: Path, tree: Tree, n_channels: int) -> None:
    """Refuse a tree where each case has several channels."""
    if n_channels > 1:
        raise InputError(
            f"input={source}: holds {len(tree.series)} image series of DICOM, the network takes {n_channels} channels "
            "a case, and which series is which channel is not known; copy the series of each case into folders "
            "case_0000, case_0001 and so on, in one folder, and give that"
        )


def _entries(source: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files directly in a folder, without hidden ones."""
    entries = [path for path in source.iterdir() if not path.name.startswith(".")]
    return [path for path in entries if path.is_dir()], [path for path in entries if path.is_file()]


def _tree_cases(source: Path, tree: Tree, series: str | None) -> list[Case]:
    """A case for each series that is chosen, and for each folder of damaged files."""
    chosen = _chosen(source, tree, series)
    _report_skipped(source, tree, len(tree.series) - len(chosen) if series is None else 0)
    first, *others = tree.series
    if series is None and not others and {path.parent for path in first.files} == {source}:
        return [Case(source.name, (source,), None, source.name)]
    if series is None and _is_by_folder(source, tree):
        cases = [_by_folder(one) for one in chosen]
    else:
        cases = [Case(one.name, one.files, None, one.name) for one in chosen]
    return sorted(cases + _damaged(source, tree), key=lambda case: case.id)


def _chosen(source: Path, tree: Tree, pattern: str | None) -> list[Series]:
    """The series that a pattern matches; without one all but localisers, unless there is nothing else."""
    if pattern is None:
        return [one for one in tree.series if not one.localiser] or list(tree.series)
    chosen = [one for one in tree.series if one.uid == pattern or fnmatchcase(one.name, pattern)]
    if not chosen:
        raise InputError(
            f"data.series={pattern}: matches none of the {len(tree.series)} image series in {source}, "
            f"{first_five([one.name for one in tree.series])}; give a SeriesInstanceUID, or a pattern such as *T1*"
        )
    return chosen


def _report_skipped(source: Path, tree: Tree, localisers: int) -> None:
    """Say once which objects are no images of a volume, and which series are left out."""
    parts = [f"{number} {modality}" for modality, number in sorted(tree.others.items())]
    if localisers:
        parts.append(f"{localisers} series of localisers (data.series=PATTERN takes them)")
    if parts:
        _LOG.warning("%s: left out, as they are no images of a volume: %s", source, ", ".join(parts))


def _is_by_folder(source: Path, tree: Tree) -> bool:
    """Whether each series has a folder of its own directly in ``source``."""
    places = [{path.parent for path in one.files} for one in tree.series]
    single = [next(iter(place)) for place in places if len(place) == 1]
    return len(set(single)) == len(places) and all(place.parent == source for place in single)


def _by_folder(one: Series) -> Case:
    folder = one.files[0].parent
    name = folder.name.removesuffix("_0000")  # as ``pairing`` names cases of one channel
    return Case(name, (folder,), None, name)


def _damaged(source: Path, tree: Tree) -> list[Case]:
    """A case for each folder that holds nothing but damaged files, so that it is reported with the others."""
    cases = []
    for folder in sorted({path.parent for path, _ in tree.damaged}):
        name = "_".join(folder.relative_to(source).parts) or source.name
        cases.append(Case(name, (folder,), None, name))
    return cases
