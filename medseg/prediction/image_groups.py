"""Inputs with image groups: which folder, or which file, holds which group of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.data.layout.dates import DateLayout
    from medseg.data.reading.options import ReadOptions


_NONE = "; the network has learned to do without none (data.absent=error)"


def named_sources(given: Any) -> tuple[list[Path], tuple[str, ...]]:
    """Paths of ``input``, and the names of their image groups if it gives some."""
    if isinstance(given, str):
        return [Path(given)], ()
    if isinstance(given, Mapping):
        return [Path(path) for path in given.values()], tuple(map(str, given))
    return [Path(path) for path in given], ()


def group_cases(
    sources: Mapping[str, Path], reading: ReadOptions, *, ndim: int, dates: DateLayout | None = None
) -> list[Case]:
    """Cases of a folder, or of a file, for each image group.

    Args:
        sources: Folder or file by name of the group.
        reading: Options of the training, with its groups.
        ndim: Number of spatial axes.
        dates: Layout of the dates of time series; None without a time axis.

    Raises:
        InputError: Other groups than those of the training, or files that are no cases.
    """
    from medseg import formats
    from medseg.data.case import Case
    from medseg.data.layout.same_names import by_stem

    check_groups(list(sources), reading, f"input={_shown(sources)}")
    ordered = {group: sources[group] for group in reading.image_groups if group in sources}
    paths, groups = tuple(ordered.values()), tuple(ordered)
    if all(path.is_file() for path in paths):
        if dates is not None:
            raise InputError(f"input={_shown(sources)}: got files, expected folders, as the network takes time series")
        name = formats.stem(paths[0])
        return [Case(name, paths, None, name, image_groups=groups)]
    endings = formats.suffixes("volume") if ndim == 3 else formats.suffixes("scene", "image")
    layout: Any = {"dates": dates, "groups": groups, "absent": reading.absent == "allow", "without": reading.no_images}
    return by_stem(paths, None, endings=endings, label_endings=(), **layout)


def group_folders(
    sources: Sequence[Path], names: Sequence[str], folders: Sequence[str], reading: ReadOptions
) -> dict[str, Path]:
    """The path of each image group that is there.

    Args:
        sources: Paths that were given.
        names: Names of their groups; empty for one folder that holds a sub-folder for each group.
        folders: Sub-folders of the groups in the training.
        reading: Options of the training, with its groups.

    Raises:
        InputError: No group is named, and no folder is one of them.
    """
    if names:
        return dict(zip(names, sources, strict=True))
    for own in (folders, reading.image_groups):
        within = {g: sources[0] / name for g, name in zip(reading.image_groups, own, strict=True)}
        if len(sources) == 1 and any(path.is_dir() for path in within.values()):
            return {group: path for group, path in within.items() if path.is_dir()}
    example = ", ".join(f"{group}: FOLDER" for group in reading.image_groups)
    raise InputError(
        f"input={', '.join(map(str, sources))}: expected a folder or file for each image group, 'input={{{example}}}', "
        f"or one folder that holds {', '.join(folders)}"
    )


def channel_cases(
    sources: Mapping[str, Path], reading: ReadOptions, channels: Sequence[str], *, ndim: int
) -> list[Case]:
    """Cases of a folder, or of a file, for each channel, where images have no groups.

    Args:
        sources: Folder or file by name of the channel.
        reading: Options of the training.
        channels: Names of all channels, in order.
        ndim: Number of spatial axes.

    Raises:
        InputError: Other channels than those of the training, or files that are no cases.
    """
    from medseg import formats
    from medseg.data.case import Case
    from medseg.data.layout.same_names import by_stem

    names, lacking = check_names(list(sources), reading, channels, f"input={_shown(sources)}")
    paths = tuple(sources[name] for name in names)
    if all(path.is_file() for path in paths):
        stem = formats.stem(paths[0])
        return [Case(stem, paths, None, stem, absent=lacking)]
    endings = formats.suffixes("volume") if ndim == 3 else formats.suffixes("scene", "image")
    cases = by_stem(paths, None, endings=endings, label_endings=(), absent=reading.absent == "allow")
    numbers = [number for number in range(len(channels)) if number not in lacking]
    return [replace(case, absent=(*lacking, *(numbers[place] for place in case.absent))) for case in cases]


def check_names(
    names: Sequence[str], reading: ReadOptions, channels: Sequence[str], where: str
) -> tuple[list[str], tuple[int, ...]]:
    """Names of image groups, or of channels where images have no groups, in their order; numbers of absent channels.

    Args:
        names: Those that are there.
        reading: Options of the training.
        channels: Names of all channels, in order.
        where: Beginning of the message.

    Raises:
        InputError: There are others, or fewer and the training had all of them.
    """
    if reading.image_groups:
        check_groups(names, reading, where)
        return [group for group in reading.image_groups if group in names], ()
    _check_channels(names, channels, where, all_of_them=reading.absent != "allow")
    there = [channel in names for channel in channels]
    absent = tuple(number for number, here in enumerate(there) if not here)
    return [channel for channel, here in zip(channels, there, strict=True) if here], absent


def _check_channels(names: Sequence[str], channels: Sequence[str], where: str, *, all_of_them: bool) -> None:
    """Raise on names that are no channels, and, where all of them are needed, on channels that are not named."""
    if unknown := [name for name in names if name not in channels]:
        raise InputError(
            f"{where}: got files of {', '.join(unknown)}, expected those of channels of the training: "
            f"{', '.join(channels)}"
        )
    lacking = [name for name in channels if name not in names]
    if lacking and all_of_them:
        raise InputError(f"{where}: got no file of {', '.join(lacking)}{_NONE}")


def check_groups(names: Sequence[str], reading: ReadOptions, where: str) -> None:
    """Raise on names that are not the image groups of the training, or lack some of them.

    Args:
        names: Image groups that are there.
        reading: Options of the training, with its groups.
        where: Beginning of the message.

    Raises:
        InputError: There are other groups, or fewer and the training had all of them.
    """
    groups = reading.image_groups
    unknown = set(names) - set(groups)
    lacking = set(groups) - set(names) if reading.absent != "allow" or not names else set()
    if unknown or lacking:
        expected = f"those of the training: {', '.join(groups)}" if groups else "none, as the training had none"
        hint = "" if unknown else _NONE
        raise InputError(f"{where}: got the image groups {', '.join(names) or 'none'}, expected {expected}{hint}")


def _shown(sources: Mapping[str, Path]) -> str:
    return f"{{{', '.join(f'{name}: {path}' for name, path in sources.items())}}}"
