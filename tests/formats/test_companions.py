from pathlib import Path

import pytest

from medseg.formats.companions import companions


def test_data_file_of_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    )
    (tmp_path / "a.raw").write_bytes(bytes(8))
    (tmp_path / "a.nhdr").write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: a.raw\n\n"
    )
    assert companions(tmp_path / "a.mhd") == [tmp_path / "a.raw"]
    assert companions(tmp_path / "a.nhdr") == [tmp_path / "a.raw"]


def test_a_damaged_header_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("NDims = 100\n")
    assert companions(tmp_path / "a.mhd") == []


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("a.shp", ["a.dbf", "a.shx", "b.dbf"], ["a.dbf", "a.shx"]),
        ("a.tif", ["a.tif.msk", "a.tif.aux.xml", "a.msk"], ["a.tif.aux.xml", "a.tif.msk"]),
        ("a.png", ["a.png.aux.xml"], []),
    ],
)
def test_siblings_that_exist(tmp_path: Path, name: str, there: list[str], found: list[str]) -> None:
    for file in (name, *there):
        (tmp_path / file).touch()
    assert companions(tmp_path / name) == [tmp_path / file for file in found]
