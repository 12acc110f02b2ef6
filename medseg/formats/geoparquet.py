"""GeoParquet: shapes in a column of WKB and their CRS in the metadata, through pyarrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from medseg.errors import InputError

SUFFIXES = (".parquet", ".geoparquet")
MAGIC = b"PAR1"
"""First bytes of a file."""
_LONLAT = "OGC:CRS84"
"""The CRS of columns that name none."""
_MOST_BYTES = 2 << 30
"""Size of the columns that are read, decoded; a few bytes of a file may stand for any number of equal values."""


def read(path: Path, attribute: str | None) -> tuple[Shaped[np.ndarray, "..."], str, Shaped[np.ndarray, "..."] | None]:
    """Geometries as WKB, their CRS, and an attribute of each.

    Args:
        path: The file.
        attribute: Column of the attribute; None for none.

    Raises:
        InputError: pyarrow is missing; or the file is damaged, no GeoParquet, without CRS or the attribute, too large,
            or of another encoding than WKB.
    """
    parquet = _library(path)
    import pyarrow

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            name, column = _geometry(path, schema.metadata or {}, schema.names)
            crs = _crs(path, column)
            _check_attribute(path, attribute, [field for field in schema.names if field != name])
            columns = [name] if attribute is None else [name, attribute]
            _check_size(path, file.metadata, columns)
            table = file.read(columns=columns)
    except (pyarrow.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: is no readable Parquet file ({reason}); convert it again (ogr2ogr)") from error
    geometry = np.array(table.column(name).to_pylist(), dtype=object)
    return geometry, crs, None if attribute is None else np.array(table.column(attribute).to_pylist(), dtype=object)


def _library(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path}: GeoParquet needs pyarrow, not installed here; pip install 'medseg[geoparquet]', or convert the "
            "file to .fgb (ogr2ogr)"
        ) from error
    return parquet


def _geometry(path: Path, metadata: dict[bytes, bytes], names: list[str]) -> tuple[str, dict[str, Any]]:
    """Name of the primary column of geometries, and what the metadata say about it."""
    if b"geo" not in metadata:
        raise InputError(
            f"{path}: is a Parquet file without the metadata 'geo', so it is no GeoParquet; write it as such "
            "(geopandas, ogr2ogr)"
        )
    try:
        geo = json.loads(metadata[b"geo"])
        name = geo["primary_column"]
        column = dict(geo["columns"][name])
        encoding = column["encoding"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: its metadata 'geo' are damaged ({type(error).__name__}: {str(error)[:80]}); write it again "
            "(ogr2ogr)"
        ) from error
    if name not in names:
        raise InputError(
            f"{path}: its metadata name the column {str(name)[:60]!r}, there are {names[:10]}; write it again"
        )
    if encoding != "WKB":
        raise InputError(f"{path}: its geometries are {str(encoding)[:60]!r}, expected WKB; write it again with that")
    return name, column


def _crs(path: Path, column: dict[str, Any]) -> str:
    """CRS of a column as WKT; longitude and latitude where it names none, as the format says."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    stored = column.get("crs", _LONLAT)
    if stored is None:
        raise InputError(f"{path}: has no CRS, so its shapes lie nowhere; add one (ogr2ogr -a_srs)")
    if stored != _LONLAT and not isinstance(stored, dict):
        raise InputError(f"{path}: its CRS is {str(stored)[:80]!r}, expected PROJJSON; write it again (ogr2ogr -a_srs)")
    try:
        return str(CRS.from_user_input(stored).to_wkt())
    except (CRSError, RecursionError) as error:
        raise InputError(f"{path}: its CRS is not readable ({str(error)[:120]}); add one (ogr2ogr -a_srs)") from error


def _check_attribute(path: Path, attribute: str | None, names: list[str]) -> None:
    if attribute is not None and attribute not in names:
        raise InputError(f"{path}: no attribute {attribute!r}; shapes have {names}")


def _check_size(path: Path, metadata: Any, columns: list[str]) -> None:
    """Refuse columns that are larger than memory should hold at once."""
    size = sum(
        chunk.total_uncompressed_size
        for group in map(metadata.row_group, range(metadata.num_row_groups))
        for chunk in map(group.column, range(group.num_columns))
        if chunk.path_in_schema in columns
    )
    if size > _MOST_BYTES:
        raise InputError(
            f"{path}: its shapes take {size >> 20} MiB, expected at most {_MOST_BYTES >> 20}; split the file"
        )
