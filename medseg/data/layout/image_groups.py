"""Image groups: folders of images with names, which stand in front of the names of their bands: ``pre.B4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.errors import InputError

Folders = str | Sequence[str] | Mapping[str, object]
"""A folder of images, several, or one for each image group by its name."""


def group_names(images: object, reference: object = None) -> tuple[str, ...]:
    """Names of the image groups of ``data.images``, the one whose grid is the case's first; empty without names.

    Args:
        images: Folder of each group by its name; a folder, or several, where they have no names.
        reference: Name of the group whose grid is the case's, ``data.reference``; None for the first.

    Raises:
        InputError: A name that is no identifier, or a reference that is no group.

    Example:
        >>> group_names({"s1": "radar", "s2": "optical"}, "s2"), group_names(["radar", "optical"])
        (('s2', 's1'), ())
    """
    groups: dict[Any, object] = dict(images) if isinstance(images, Mapping) else {}
    for name in groups:
        if not (isinstance(name, str) and name.isidentifier()):
            raise InputError(
                f"data.images: got the group {name!r}, expected a name of letters, digits and _, as in "
                "'data.images={pre: FOLDER, post: FOLDER}'"
            )
    if reference is not None and reference not in groups:
        expected = f"one of {', '.join(groups)}" if groups else "groups with names, 'data.images={NAME: FOLDER, ...}'"
        raise InputError(f"data.reference={reference}: is no group of data.images, expected {expected}")
    return tuple(sorted(groups, key=lambda name: name != reference)) if reference else tuple(groups)


def folders_of(images: Folders | None, groups: Sequence[str], key: str) -> list[str]:
    """Folders of images, those of groups in their order; empty for None.

    Args:
        images: As for ``group_names``.
        groups: Names of the groups; empty where folders have no names.
        key: Of the configuration, for messages.

    Raises:
        InputError: Other groups than these, or one with several folders.
    """
    if isinstance(images, Mapping) and set(images) == set(groups):
        for name, folder in images.items():
            if not isinstance(folder, str):
                raise InputError(f"data.{key}.{name}={folder}: expected one folder for each group")
        return [str(images[name]) for name in groups]
    if images and (groups or isinstance(images, Mapping)):
        got = ", ".join(images) if isinstance(images, Mapping) else "folders without names"
        raise InputError(
            f"data.{key}={images}: got {got}, expected a folder for each group of data.images: {', '.join(groups)}"
        )
    return [images] if isinstance(images, str) else list(images or ())


def group_of(name: str, groups: Sequence[str]) -> str:
    """Image group of a band; empty if its name has none.

    The name of a group alone is that of its only band.

    Example:
        >>> [group_of(name, ("pre", "dem")) for name in ("pre.B4", "dem", "B4")]
        ['pre', 'dem', '']
    """
    first, dot, _ = name.partition(".")
    return first if first in groups and (dot or first == name) else ""


def groups_of(names: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """Image groups of some bands, each once, in the order of the groups."""
    used = {group_of(name, groups) for name in names}
    return tuple(group for group in groups if group in used)


def names_within(names: Sequence[str], group: str, groups: Sequence[str]) -> list[str]:
    """Names within a group, of those that have it in front; if none of all names has a group, all of them.

    Example:
        >>> names_within(["s1.VV", "s2.B4"], "s1", ("s1", "s2")), names_within(["B4", "B8"], "pre", ("pre", "post"))
        (['VV'], ['B4', 'B8'])
    """
    if not any(group_of(name, groups) for name in names):
        return list(names)
    return [name.removeprefix(f"{group}.") for name in names if group_of(name, groups) == group]


def names_in_file(
    group: str, names: Sequence[str], n_bands: int, wanted: Sequence[str], *, by_position: bool
) -> list[str] | None:
    """Names of the bands of a file of an image group, with the group in front; None if they are not known.

    Args:
        group: The image group.
        names: Names of its bands within the group, as options or the file give them; empty where there are none.
        n_bands: Number of bands of the file.
        wanted: Names of the bands of all groups that are used.
        by_position: Whether those wanted of the group are in the order of the file, if the names say nothing.

    Example:
        >>> names_in_file("pre", ["B4", "B8"], 2, ["pre.B8", "post.B8"], by_position=True)
        ['pre.B4', 'pre.B8']
        >>> names_in_file("dem", [], 1, ["pre.B8", "dem"], by_position=False)
        ['dem']
    """
    titles = [f"{group}.{name}" for name in names] if len(names) == n_bands else None
    own = [name for name in wanted if name == group or name.startswith(f"{group}.")]
    if titles and not set(own).isdisjoint(titles):
        return titles
    return own if len(own) == n_bands and (by_position or n_bands == 1) else titles
