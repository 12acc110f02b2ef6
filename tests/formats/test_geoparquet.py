"""GeoParquet as masks: its CRS from the metadata, and what is no GeoParquet in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from medseg.errors import InputError
from medseg.formats import geoparquet
from medseg.formats.vector import rasterised
from tests.formats.test_vector import GRID, expected, shapes


def save(path: Path, geo: Any = None, **changed: Any) -> Path:
    """The drawn shapes, with the metadata changed: of the column, or all of them."""
    shapes().to_parquet(path)
    table = parquet.read_table(path)
    stored = json.loads(table.schema.metadata[b"geo"])
    stored["columns"]["geometry"].update(changed)
    text = json.dumps(stored) if geo is None else geo
    parquet.write_table(table.replace_schema_metadata({"geo": text} if text else None), path)
    return path


def test_crs_is_that_of_the_metadata(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", crs=json.loads(shapes().crs.to_json()))
    np.testing.assert_array_equal(rasterised(path, GRID).read()[0], expected((1, 1, 1, 1)))
    frame = shapes().to_crs("OGC:CRS84")
    frame.to_parquet(tmp_path / "b.parquet")
    table = parquet.read_table(tmp_path / "b.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    del geo["columns"]["geometry"]["crs"]  # longitude and latitude by the standard
    parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), tmp_path / "b.parquet")
    np.testing.assert_array_equal(rasterised(tmp_path / "b.parquet", GRID).read()[0], expected((1, 1, 1, 1)))


def test_attributes_of_any_type(tmp_path: Path) -> None:
    frame = shapes()
    frame["kind"] = frame["kind"].astype("category")
    frame.to_parquet(tmp_path / "a.geoparquet")
    values = {"field": 4, "lake": 7, "road": 9}
    by_kind = rasterised(tmp_path / "a.geoparquet", GRID, attribute="kind", values=values)
    np.testing.assert_array_equal(by_kind.read()[0], expected((4, 7, 9, 7)))
    with pytest.raises(InputError, match=r"attribute 'holed' holds \{'nan': 1\}|attribute 'holed' holds \{'None': 1\}"):
        rasterised(tmp_path / "a.geoparquet", GRID, attribute="holed")
    with pytest.raises(InputError, match=r"no attribute 'cod'; shapes have \['kind', 'code', 'holed'\]"):
        rasterised(tmp_path / "a.geoparquet", GRID, attribute="cod")
    with pytest.raises(InputError, match=r"Parquet files have no layers, got layer='x'"):
        rasterised(tmp_path / "a.geoparquet", GRID, layer="x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"geo": ""}, "is a Parquet file without the metadata 'geo', so it is no GeoParquet"),
        ({"geo": "{"}, "its metadata 'geo' are damaged"),
        ({"geo": "[]"}, "its metadata 'geo' are damaged"),
        (
            {"geo": '{"primary_column": "g", "columns": {"g": {"encoding": "WKB"}}}'},
            "its metadata name the column 'g', there",
        ),
        ({"encoding": "point"}, "its geometries are 'point', expected WKB"),
        ({"crs": None}, "has no CRS, so its shapes lie nowhere; add one"),
        ({"crs": "http://localhost:9/crs"}, "its CRS is 'http://localhost:9/crs', expected PROJJSON"),
        ({"crs": {"type": "nothing"}}, "its CRS is not readable"),
    ],
)
def test_what_is_no_geoparquet(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.parquet: {words}") as error:
        rasterised(save(tmp_path / "a.parquet", **given), GRID)
    assert len(str(error.value).splitlines()) == 1


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet")
    whole = path.read_bytes()
    for kept in (4, 200, len(whole) - 9):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"a\.parquet: is no readable Parquet file"):
            rasterised(path, GRID)
    table = pa.table({"geometry": pa.array([b"nothing", b"at all"], pa.binary())})
    geo = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read"):
        rasterised(path, GRID)


def test_columns_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoparquet, "_MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"a\.parquet: its shapes take 0 MiB, expected at most 0; split the file"):
        rasterised(save(tmp_path / "a.parquet"), GRID)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"GeoParquet needs pyarrow, not installed here; pip install 'medseg\[geoparq"):
        rasterised(path, GRID)
