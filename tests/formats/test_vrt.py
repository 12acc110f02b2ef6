"""VRT and JPEG 2000 are scenes; a VRT names nothing but raster files in its folder, and nothing of it is executed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from medseg import formats
from medseg.data.layout.same_names import by_stem
from medseg.errors import InputError
from medseg.formats.companions import companions
from medseg.geometry.box import Box
from medseg.prediction.record import _parts
from tests.formats.scenes import TRANSFORMS, noise, save

BANDS = noise((3, 60, 70))
BAND = """<VRTDataset rasterXSize="70" rasterYSize="60"><VRTRasterBand dataType="UInt16" band="1"{more}>{inner}
<SimpleSource>{source}<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>{after}</VRTDataset>"""
OWN = '<SourceFilename relativeToVRT="1">bands/a.tif</SourceFilename>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file in a sub-folder, which a VRT may name."""
    (tmp_path / "in/bands").mkdir(parents=True)
    save(tmp_path / "in/bands/a.tif", BANDS, names=["R", "G", "B"])
    return tmp_path / "in"


def vrt(folder: Path, source: str = OWN, **parts: str) -> Path:
    path = folder / "scene.vrt"
    path.write_text(BAND.format(**{"more": "", "inner": "", "after": "", "source": source} | parts))
    return path


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@pytest.mark.parametrize("suffix", [".vrt", ".jp2"])
def test_cells_and_grid_are_those_of_the_file(tmp_path: Path, suffix: str, transform: Any) -> None:
    tif = save(tmp_path / "a.tif", BANDS, transform=transform, tiled=True, blockxsize=16, blockysize=16)
    driver = {".vrt": {"driver": "VRT"}, ".jp2": {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}}
    rasterio.shutil.copy(tif, tmp_path / f"b{suffix}", **driver[suffix])
    source, expected = formats.open(tmp_path / f"b{suffix}"), formats.open(tif)
    if suffix == ".vrt" or transform != TRANSFORMS["south_up"]:  # which GDAL turns over as it writes JPEG 2000
        assert source.grid.offset_from(expected.grid) < 1e-6
    assert (source.grid.frame, source.dtype, source.n_channels) == (expected.grid.frame, np.uint16, 3)
    np.testing.assert_array_equal(source.read(), BANDS)
    box = Box((7, 11), (40, 29))
    np.testing.assert_array_equal(source.read(box, [2, 0]), BANDS[[2, 0], 7:40, 11:29])
    assert formats.label_suffix(tmp_path / f"b{suffix}") == ".tif"
    with pytest.raises(InputError, match=rf"{suffix[1:]} is read but not written, as .*; write to c\.tif"):
        formats.write(tmp_path / f"c{suffix}", BANDS[0], source.grid)


def test_bands_of_several_files_and_nodata(folder: Path) -> None:
    more = '<VRTRasterBand dataType="UInt16" band="2"><NoDataValue>7</NoDataValue>{}</VRTRasterBand>'
    name = f"<SourceFilename>{folder / 'bands/b.tif'}</SourceFilename>"  # an absolute path in its folder
    save(folder / "bands/b.tif", np.where(BANDS[:1] % 2, 7, BANDS[:1]).astype(np.uint16))
    source = formats.open(vrt(folder, after=more.format(f"<ComplexSource>{name}</ComplexSource>")))
    cells, valid = source.read_valid()
    np.testing.assert_array_equal(cells[0], BANDS[0])
    np.testing.assert_array_equal(valid, (BANDS[0] % 2 == 0) & (BANDS[0] != 7))


@pytest.mark.parametrize(
    "name",
    [
        "../other/a.tif", "bands/../../other/a.tif", "/etc/passwd", "/vsicurl/http://localhost:9/a.tif",
        "/vsimem/a.tif", "http://localhost:9/a.tif", "vrt://bands/a.tif", "GTIFF_DIR:1:bands/a.tif", "", "WMS:http://localhost:9/?",
    ],
)  # fmt: skip
@pytest.mark.parametrize("relative", ["0", "1"])
def test_sources_are_files_in_its_folder(folder: Path, name: str, relative: str) -> None:
    (folder.parent / "other").mkdir()
    shutil.copy(folder / "bands/a.tif", folder.parent / "other/a.tif")
    path = vrt(folder, f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>')
    with pytest.raises(InputError, match=r"scene\.vrt: names .*, expected files in its folder or below it"):
        formats.open(path)


def test_a_path_from_the_working_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="expected files in its folder or below it, by relative paths"):
        formats.open(vrt(folder, "<SourceFilename>bands/a.tif</SourceFilename>"))


def test_a_source_is_known_by_its_content(folder: Path) -> None:
    """GDAL would open a file named .tif with the driver of its content, such as another VRT."""
    (folder / "bands/a.tif").write_text(BAND.format(more="", inner="", after="", source=OWN))
    with pytest.raises(InputError, match=r"scene\.vrt: names .*a\.tif, which is no TIFF or BigTIFF or JPEG 2000 file"):
        formats.open(vrt(folder))
    (folder / "bands/a.tif").unlink()
    with pytest.raises(InputError, match=r"scene\.vrt: names .*a\.tif, which is no file; copy it there"):
        formats.open(vrt(folder))


PYTHON = "<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode>open('ran', 'w')</PixelFunctionCode>"


@pytest.mark.parametrize(
    "parts",
    [
        {"more": ' subClass="VRTDerivedRasterBand"', "inner": "<PixelFunctionType>sqrt</PixelFunctionType>"},
        {"more": ' subClass="VRTDerivedRasterBand"', "inner": PYTHON},
        {"more": ' SUBCLASS="VRTDerivedRasterBand"'},
        {"more": ' PixelFunctionType="sqrt"'},
        {"more": ' subClass="VRTRawRasterBand"'},
        {"inner": "<subClass>VRTDerivedRasterBand</subClass>"},
        {"source": '<SimpleSource SourceFilename="/etc/passwd"/>'},
        {"source": OWN + "<OpenOptions><OOI key='a'>b</OOI></OpenOptions>"},
        {"source": "<sourcefilename>/etc/passwd</sourcefilename>"},
        {"after": "<GDALWarpOptions><SourceDataset>/etc/passwd</SourceDataset></GDALWarpOptions>"},
        {"after": "<Overview><SourceFilename>/vsicurl/http://localhost:9</SourceFilename></Overview>"},
        {"after": "<SRS>http://localhost:9/crs</SRS>"},
        {"after": '<GCPList Projection="http://localhost:9/crs"/>'},
    ],
)
def test_nothing_is_computed_or_named_in_another_way(folder: Path, parts: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"scene\.vrt: holds .*, expected bands of raster files and nothing that is"):
        formats.open(vrt(folder, **parts))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no readable VRT"),
        ("<VRTDataset>", "is no readable VRT"),
        ("<GDAL_WMS></GDAL_WMS>", r"is no readable VRT \(it starts with <GDAL_WMS>\)"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><VRTDataset>&b;</VRTDataset>',
            r"is no readable VRT \(it declares a document type or ent",
        ),
        ("<VRTDataset/>".encode("utf-16"), "is no readable VRT"),
        (b"<VRTDataset>\0</VRTDataset>", "is no readable VRT"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "a.vrt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"a\.vrt: {words}") as error:
        formats.open(path)
    assert len(str(error.value).splitlines()) == 1
    assert companions(path) == []


def test_python_is_never_run_by_gdal_in_a_process_that_reads_scenes(folder: Path) -> None:
    """Even where the environment allows it, and a file was not checked."""
    code = (
        "from pathlib import Path; from medseg import formats; from rasterio.env import get_gdal_config;"
        f"formats.open({str(vrt(folder))!r}); print(get_gdal_config('GDAL_VRT_ENABLE_PYTHON'))"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"GDAL_VRT_ENABLE_PYTHON": "YES", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.strip() in ("NO", "False")


def test_its_files_belong_to_it(folder: Path) -> None:
    path = vrt(folder)
    assert companions(path) == [folder / "bands/a.tif"]
    assert _parts([path]) == [path, folder / "bands/a.tif"]


def test_it_is_a_case_where_its_files_are_none(folder: Path) -> None:
    """In a folder of tiles a VRT of these would be each of them again."""
    vrt(folder)
    endings = formats.suffixes("scene")
    assert [case.id for case in by_stem([folder], None, endings=endings, label_endings=())] == ["scene"]
    shutil.move(folder / "scene.vrt", folder / "bands/scene.vrt")
    path = folder / "bands/scene.vrt"
    path.write_text(path.read_text().replace("bands/", ""))
    assert [case.id for case in by_stem([folder / "bands"], None, endings=endings, label_endings=())] == ["a"]
