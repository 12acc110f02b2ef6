"""Plug-ins: what installed packages add through entry points, found without importing any of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PREFIX = "medseg."
"""How the names of the groups of entry points begin."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package.

    Attributes:
        group: ``medseg.formats`` or ``medseg.conf``.
        name: Name of the entry point.
        value: What it names: ``module`` or ``module:object``.
        package: Name of the installed package, as package managers know it.
    """

    group: str
    name: str
    value: str
    package: str

    def __str__(self) -> str:
        return f"package {self.package} (entry point {self.name} of {self.group})"

    @property
    def fix(self) -> str:
        """What to do about a plug-in that does not work."""
        return f"fix or update {self.package}, or uninstall it"

    def load(self) -> object:
        """Import what the entry point names.

        Raises:
            InputError: It can't be imported, for whatever reason; names the package.
        """
        from importlib.metadata import EntryPoint

        try:
            return EntryPoint(self.name, self.value, self.group).load()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{self}: {self.value} can't be imported ({reason[:300]}); {self.fix}") from error

    def folder(self) -> Path:
        """Folder of the package that the entry point names; it is not imported.

        Raises:
            InputError: There is no such package.
        """
        top, *inner = self.value.partition(":")[0].strip().split(".")
        spec = util.find_spec(top)
        places = [] if spec is None else spec.submodule_search_locations or [str(Path(spec.origin or "").parent)]
        for place in places:
            if (folder := Path(place).joinpath(*inner)).is_dir():
                return folder
        raise InputError(f"{self}: {self.value} is no package that can be imported; {self.fix}")


def plugins(group: str) -> tuple[Plugin, ...]:
    """The entry points of a group, sorted by package and name.

    Example:
        >>> plugins("medseg.nothing")
        ()
    """
    return tuple(plugin for plugin in _found(tuple(sys.path)) if plugin.group == group)


@cache
def _found(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Every plug-in of the packages on ``sys.path``; of a package that is there twice, the first counts.

    The library that parses metadata is imported only if some package mentions medseg, as ``--help`` and a misspelt
    key would wait for it: 25 ms for 230 packages, of which looking for the word takes 4 ms (one core of an Intel Xeon).
    """
    places = [place for place in path if _mentions_medseg(place or ".")]
    if not places:
        return ()
    from importlib import metadata

    found: dict[str, list[Plugin]] = {}
    for distribution in metadata.distributions(path=places):
        package = distribution.metadata["Name"] or "without a name"
        found.setdefault(package, _plugins_of(distribution, package))
    return tuple(sorted((p for own in found.values() for p in own), key=lambda p: (p.package, p.group, p.name)))


def _plugins_of(distribution: Distribution, package: str) -> list[Plugin]:
    """The plug-ins of one package."""
    points = [point for point in distribution.entry_points if point.group.startswith(PREFIX)]
    return [Plugin(point.group, point.name, point.value, package) for point in points]


def _mentions_medseg(place: str) -> bool:
    """Whether the metadata of some package in a folder of ``sys.path`` declares an entry point for medseg."""
    try:
        infos = [name for name in os.listdir(place) if name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # no folder, such as the archive of the standard library
        return False
    for name in infos:
        try:
            with open(os.path.join(place, name, "entry_points.txt"), "rb") as stream:
                if f"[{PREFIX}".encode() in stream.read():
                    return True
        except OSError:  # a package without entry points
            continue
    return False
