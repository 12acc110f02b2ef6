"""Registry: which format reads and writes a file, by its suffix.

Formats of medseg are the modules of ``medseg/formats/builtin``; those of other packages are entry points of the group
``medseg.formats``, which are looked up when a suffix is none of medseg's, or when all suffixes are asked for.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from inspect import isabstract
from pathlib import Path

from medseg.errors import InputError
from medseg.formats import builtin
from medseg.formats.builtin.geotiff import GeoTiff
from medseg.formats.format import Format, Kind, check_format
from medseg.runtime.plugins import Plugin, plugins

GROUP = "medseg.formats"
"""Group of entry points: suffix (such as ``.npy``) to a ``Format`` class."""
GEOTIFF = GeoTiff.suffixes
"""Suffixes of the format that holds nodata, probabilities and mosaics of scenes."""
DICOM = ".dcm"
"""Suffix of DICOM files: slices, which are read as folders, and segmentation objects, which ``dicom_seg`` writes."""
VECTORS = (".gpkg", ".geojson", ".shp", ".fgb", ".parquet", ".geoparquet")
"""Suffixes of shapes that ``vector.rasterised`` draws on a grid; ``open`` does not read them."""

_MARK, _MARK_AT = b"DICM", 128
_KINDS: tuple[Kind, ...] = ("volume", "scene", "image")


def suffix(path: Path | str) -> str:
    """Suffix in lower case, ``.nii.gz`` as a whole; empty for a folder.

    Example:
        >>> suffix("case_0000.NII.GZ"), suffix("scan.v2.mha")
        ('.nii.gz', '.mha')
    """
    path = Path(path)
    if os.path.isdir(
        path
    ):  # False for names that no file can have; UIDs name folders of DICOM, their dots mean nothing
        return ""
    name, last = path.name.lower(), path.suffix.lower()
    formats = _builtin() if last in _builtin() or _double(name, _builtin()) else _declared()
    return _double(name, formats) or last


def _double(name: str, formats: Mapping[str, object]) -> str | None:
    """Suffix of two or more parts that a name ends in; None if it ends in none."""
    return next((s for s in formats if s.count(".") > 1 and name.endswith(s)), None)


def stem(path: Path | str) -> str:
    """File name without ``suffix``; the whole name of a folder.

    Example:
        >>> stem("folder/case_0000.nii.gz")
        'case_0000'
    """
    path = Path(path)
    return path.name[: len(path.name) - len(suffix(path))]


def suffixes(*kinds: Kind, written: bool = False) -> tuple[str, ...]:
    """Suffixes of the files that ``open`` reads, those of plug-ins last within their kind.

    Args:
        *kinds: ``volume``, ``scene`` or ``image``; none for all.
        written: Only those that ``write`` writes.

    Raises:
        InputError: A plug-in can't be imported, or reads a suffix that another format reads already.

    Example:
        >>> suffixes("scene")[:2]
        ('.tif', '.tiff')
    """
    every = [(s, form) for kind in kinds or _KINDS for s, form in _all().items() if form.kind == kind]
    return tuple(s for s, form in every if s in form.written or not written)


def find_format(path: Path | str) -> Format | None:
    """The format of a file, by its suffix; None for a folder, and for a suffix that no format reads.

    Raises:
        InputError: The format is that of a plug-in that can't be imported.
    """
    name = suffix(path)
    if name in _builtin():
        return _builtin()[name]
    return _loaded(_declared()[name]) if name in _declared() else None


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:  # a folder, or no file
        return False


def label_suffix(path: Path | str) -> str:
    """Suffix of the label file for an image: its own if that can be written, ``.nii.gz`` for DICOM.

    Example:
        >>> label_suffix("case.mhd"), label_suffix("photo.jpg")
        ('.mha', '.png')
    """
    form, own = find_format(path), suffix(path)
    if form:
        return form.label_suffix(own)
    return ".nii.gz" if not own or is_dicom(Path(path)) else own


@cache
def _builtin() -> dict[str, Format]:
    """Format of each suffix that a module of ``medseg/formats/builtin`` reads."""
    by_suffix: dict[str, Format] = {}
    for info in pkgutil.iter_modules(builtin.__path__):
        module = import_module(f"{builtin.__name__}.{info.name}")
        for form in vars(module).values():
            own = isinstance(form, type) and issubclass(form, Format) and form.__module__ == module.__name__
            if own and not isabstract(form):
                by_suffix |= {s: check_format(form, s, module.__name__) for s in form.suffixes}
    return by_suffix


def _all() -> dict[str, Format]:
    """Format of each suffix; imports the plug-ins."""
    return _builtin() | {name: _loaded(plugin) for name, plugin in _declared().items()}


def _declared() -> dict[str, Plugin]:
    """Plug-in of each suffix, not imported.

    Raises:
        InputError: A suffix that is declared twice, that medseg reads itself, or that is none.
    """
    by_suffix: dict[str, Plugin] = {}
    for plugin in plugins(GROUP):
        other = "medseg itself" if plugin.name in _builtin() else by_suffix.get(plugin.name)
        if other is not None:
            raise InputError(f"{plugin}: {plugin.name} is read by {other} already; uninstall one of them")
        if not plugin.name.startswith(".") or plugin.name != plugin.name.lower():
            raise InputError(f"{plugin}: expected a suffix such as .npy, in lower case; {plugin.fix}")
        by_suffix[plugin.name] = plugin
    return by_suffix


def _loaded(plugin: Plugin) -> Format:
    return check_format(plugin.load(), plugin.name, str(plugin))
