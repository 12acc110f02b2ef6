"""What a vector file is, by its first bytes: GDAL opens files by content, and some contents make network requests.

A ``.geojson`` that holds an OGR VRT, a WFS description or a linked CRS would have GDAL fetch any address that it
names. So content has to be what the suffix says, and GDAL is asked for that driver only.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from medseg.errors import InputError

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}
"""GDAL's driver of each suffix."""

_MAGIC = {".gpkg": b"SQLite format 3\0", ".shp": b"\0\0\x27\x0a", ".fgb": b"fgb\x03fgb"}
_CRS_KINDS = ("name", "EPSG")
_MOST_JSON = 2 << 30  # bytes; GDAL keeps a file of GeoJSON in memory, several times its size


def checked_source(path: Path) -> str:
    """What to give to pyogrio so that the driver of the suffix, and no other, opens the file.

    Raises:
        InputError: Content of another kind, or one that refers to other places.
        OSError: The file cannot be read.
    """
    kind = path.suffix.lower()
    if kind not in DRIVERS:
        raise InputError(f"{path}: unknown suffix {kind!r} of a vector file, expected one of {', '.join(DRIVERS)}")
    with path.open("rb") as file:
        head = file.read(100)
    if kind == ".geojson":
        _check_geojson(path, head)
        return f"GeoJSON:{path.absolute()}"
    if not head.startswith(_MAGIC[kind]):
        raise InputError(f"{path}: does not start as a {DRIVERS[kind]} file does; convert it (ogr2ogr)")
    if kind == ".gpkg":
        _check_geopackage(path)
    return str(path.absolute())


def _check_geojson(path: Path, head: bytes) -> None:
    """Refuse what is no JSON object in the strict sense, and a CRS that has to be fetched."""
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        raise InputError(f"{path}: does not start with a JSON object, as GeoJSON does; convert it (ogr2ogr)")
    if path.stat().st_size > _MOST_JSON:
        raise InputError(f"{path}: is larger than {_MOST_JSON >> 30} GiB; convert it to .gpkg (ogr2ogr)")
    try:
        json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_refuse_linked_crs)
    except _LinkedCrs as error:
        raise InputError(
            f"{path}: its CRS is {error}, expected one by name, such as urn:ogc:def:crs:EPSG::32633; "
            "convert it (ogr2ogr -t_srs)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({str(error)[:200]}); convert it (ogr2ogr)") from error


class _LinkedCrs(Exception):
    pass


def _kind_and_name(crs: object) -> tuple[object, str]:
    """Type and name of a CRS, whatever stands in its place."""
    if not isinstance(crs, dict):
        return crs, "None"
    properties = crs.get("properties")
    return crs.get("type"), str(properties.get("name", "") if isinstance(properties, dict) else properties)


def _refuse_linked_crs(pairs: list[tuple[str, object]]) -> dict[str, object] | None:
    """The object if it may be part of a CRS; others are dropped as they are read, to keep memory small."""
    for key, value in pairs:
        if key == "crs" and value is not None:
            kind, text = _kind_and_name(value)
            foreign = "://" in text and not text.startswith(("http://www.opengis.net/", "https://www.opengis.net/"))
            if kind not in _CRS_KINDS or foreign:
                raise _LinkedCrs(f"of type {str(kind)[:40]!r}, {text[:80]!r}")
    entries = dict(pairs)
    return entries if entries.keys() <= {"type", "properties", "name", "code", "href"} else None


def _check_geopackage(path: Path) -> None:
    """Refuse views and foreign virtual tables, whose SQL GDAL would run with functions of its own."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not a readable SQLite file ({error}); convert it again (ogr2ogr)") from error
    finally:
        connection.close()
    for kind, name, sql in rows:
        words = str(sql or "").upper().split()
        virtual = words[:2] == ["CREATE", "VIRTUAL"] and "RTREE" not in " ".join(words).split("USING", 1)[-1][:8]
        if kind == "view" or virtual:
            what = "view" if kind == "view" else "virtual table"
            raise InputError(
                f"{path}: holds the {what} {str(name)[:60]!r}, expected plain tables of shapes; convert it (ogr2ogr)"
            )
