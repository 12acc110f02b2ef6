"""Files made to hang, to take all memory, or to have other places read; each is refused in one line."""

import gzip
import json
import os
import socket
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from medseg import formats
from medseg.errors import InputError
from medseg.formats import geotiff, sizes
from medseg.formats.vector import rasterised
from medseg.geometry.grid import PIXEL, Grid
from tests.formats.scenes import noise, save
from tests.formats.test_dicom import CELLS, place, save_series, save_slice

MAP = Grid((4, 5), np.array([[0, 10.0, 5], [-10, 0, 0], [0, 0, 1]]), CRS.from_epsg(32633).to_wkt())


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """Address of a server of this machine, and the requests that reach it."""
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                try:
                    caller, _ = server.accept()
                except TimeoutError:
                    continue
                with caller:
                    lines.append(caller.recv(200).decode(errors="replace"))
                    caller.sendall(b"HTTP/1.0 404 no\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", lines
        over.set()
        thread.join()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        rasterised(path, MAP)
    assert "\n" not in str(error.value)
    return str(error.value)


SHAPES = {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("ending", [".geojson", ".gpkg", ".shp"])
def test_no_vector_file_makes_a_request(tmp_path: Path, ending: str, asked: tuple[str, list[str]]) -> None:
    url, requests = asked
    path = tmp_path / f"a{ending}"
    linked = SHAPES | {"crs": {"type": "link", "properties": {"href": f"{url}/crs", "type": "proj4"}}}
    contents = [
        f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/vsicurl/{url}/a.geojson</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>",
        f"<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>",
        json.dumps(linked),
        json.dumps(linked).replace('"crs"', '"\\u0063rs"'),
        "\ufeff \n" + json.dumps(linked),
        json.dumps(linked)[:-1] + ', "crs": null}',
        json.dumps(SHAPES | {"crs": {"type": "name", "properties": {"name": f"{url}/crs"}}}),
        json.dumps(linked).replace('"', "'"),
        json.dumps(SHAPES) + json.dumps(linked),
    ]
    for content in contents:
        path.write_text(content, encoding="utf-8")
        assert "expected" in refused(path) or "convert it" in refused(path)
    assert requests == []


def test_a_crs_that_is_linked_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(SHAPES | {"crs": {"type": "link", "properties": {"href": "http://x"}}}))
    assert "its CRS is of type 'link'" in refused(path)


def test_a_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text('{"type":' + "[" * 100_000)
    assert "is not valid JSON" in refused(tmp_path / "a.geojson")


def test_a_geopackage_of_views_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.gpkg") as base:
        base.execute("CREATE VIEW shapes AS SELECT ogr_geocode('a') AS geom")
    base.close()
    assert "holds the view 'shapes', expected plain tables" in refused(tmp_path / "a.gpkg")


@contextmanager
def pipe(path: Path) -> Iterator[None]:
    """A named pipe that is at its end for whoever opens it, so that a test which fails does not wait for ever."""
    os.mkfifo(path)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            os.close(os.open(path, os.O_WRONLY))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        thread.join()
        os.close(reader)


def test_a_named_pipe_or_a_device_is_not_opened(tmp_path: Path) -> None:
    for ending in formats.suffixes():
        words = rf"x\{ending}: is a named pipe, socket or device, expected a file or folder"
        with pipe(tmp_path / f"x{ending}"), pytest.raises(InputError, match=words):
            formats.open(tmp_path / f"x{ending}")
    with pytest.raises(InputError, match="/dev/zero: is a named pipe, socket or device"):
        formats.open("/dev/zero")


@pytest.mark.parametrize("name", ["a" * 300 + ".nii", "a\0b.nii"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be opened \(.*\), expected a file or folder"):
        formats.open(tmp_path / name)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".tif", ".png"])
def test_names_of_250_letters_are_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / ("a" * (250 - len(ending)) + ending)
    flat = ending in (".tif", ".png")
    grid = Grid.regular((2, 3), (1, 1), PIXEL) if flat else Grid.regular((2, 3, 4), (1, 1, 1))
    formats.write(path, np.ones(grid.shape, np.uint8), grid)
    assert formats.open(path).read().all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match=r"its name has \d+ bytes, files may have 255; shorten"):
        formats.write(tmp_path / ("a" * 256 + ending), np.ones(grid.shape, np.uint8), grid)


def nifti(path: Path, edits: dict[int, tuple[str, float]], *, cells: int = 24) -> Path:
    """A file of 2 x 3 x 4 bytes with numbers of its header changed."""
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    content = bytearray(image.to_bytes()[:352] + bytes(cells))
    for at, (kind, value) in edits.items():
        struct.pack_into(f"<{kind}", content, at, value)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else bytes(content))
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({42: ("h", 0)}, r"its shape is \[0, 3, 4\], expected at least one cell"),
        ({42: ("h", -5)}, r"its shape is \[-5, 3, 4\]"),
        ({40: ("h", 0)}, r"its shape is \[\]"),
        ({40: ("h", 99)}, "its shape is"),
        ({42: ("h", 32767), 44: ("h", 32767), 46: ("h", 32767)}, "promises 35181150961663 bytes of cells"),
        ({108: ("f", float("inf"))}, "its cells begin at byte inf"),
        ({108: ("f", float("nan"))}, "its cells begin at byte nan"),
        ({108: ("f", 2e9)}, "its cells begin at byte 2000000000.0"),
        ({70: ("h", 999)}, "its data type has the code 999"),
        ({0: ("i", 540)}, "it does not start as a NIfTI header does"),
        ({0: ("i", 0)}, "it does not start as a NIfTI header does"),
    ],
)
def test_nifti_headers_are_held_to_the_file(tmp_path: Path, ending: str, edits: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"a\{ending}: cannot be read.*{words}"):
        formats.open(nifti(tmp_path / f"a{ending}", edits))


def test_a_bomb_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = nifti(tmp_path / "a.nii.gz", {42: ("h", 300), 44: ("h", 300), 46: ("h", 300)}, cells=300**3)
    assert formats.open(bomb).grid.shape == (300, 300, 300)  # 27 MB of zeros are an honest empty mask
    monkeypatch.setattr(sizes, "SUSPICIOUS_BYTES", 1 << 20)
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: .* MB would expand to 0.027 GB, like a decompression bomb; expected"
    ):
        formats.open(bomb)


def test_what_comes_behind_the_promised_cells_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti(tmp_path / "a.nii.gz", {}, cells=1 << 26)
    source = formats.open(path)
    read, sizes_read = gzip.GzipFile.read, []
    monkeypatch.setattr(
        gzip.GzipFile,
        "read",
        lambda self, size=-1: sizes_read.append(size) or read(self, size),  # type: ignore[func-returns-value]
    )
    assert source.read().shape == (1, 2, 3, 4)
    assert all(0 <= size <= 1 << 20 for size in sizes_read)


def test_more_than_the_memory_of_the_machine_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.tif", noise((1, 50, 40)))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 1024}[name])
    with pytest.raises(InputError, match=r"a\.tif: the cells to be read take .* GB, this machine has 1.024e-06 GB"):
        formats.open(path).read()


def test_a_value_beyond_float32_is_not_called_nan(tmp_path: Path) -> None:
    cells = np.zeros((2, 3, 4))
    cells[1, 1, 1] = 1e300
    nib.Nifti1Image(cells, np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: holds the value 1e\+300, which overflows float32"):
        formats.open(tmp_path / "a.nii").read()
    cells[1, 1, 1] = np.inf
    nib.Nifti1Image(cells, np.eye(4)).to_filename(tmp_path / "b.nii")
    assert np.isinf(formats.open(tmp_path / "b.nii").read()).sum() == 1


class _Counting:
    """A dataset of rasterio that counts what it is asked for."""

    def __init__(self, scene: Any) -> None:
        self.scene, self.count_of = scene, {}

    def __getattr__(self, name: str) -> Any:
        self.count_of[name] = self.count_of.get(name, 0) + 1
        return getattr(self.scene, name)


def test_properties_of_all_bands_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.tif", noise((30, 4, 5)))
    with rasterio.open(path) as scene:
        counting = _Counting(scene)
        monkeypatch.setattr(geotiff, "_handle", lambda *_: counting)
        assert formats.open(path).n_channels == 30
    of_bands = (
        "colorinterp",
        "descriptions",
        "scales",
        "offsets",
        "mask_flag_enums",
        "nodatavals",
        "dtypes",
        "indexes",
    )
    assert {name: counting.count_of[name] for name in of_bands} == dict.fromkeys(of_bands, 1)


def test_absurdly_many_bands_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geotiff, "MOST_BANDS", 3)
    with pytest.raises(InputError, match=r"a\.tif: has 4 bands, expected at most 3"):
        formats.open(save(tmp_path / "a.tif", noise((4, 4, 5))))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Columns": 0}, "Columns is 0.0, but 6.0 in"),
        ({"PixelSpacing": [1.0]}, "PixelSpacing is"),
        ({"ImagePositionPatient": [1.0, 2.0]}, "ImagePositionPatient is"),
        ({"ImageOrientationPatient": [1.0, 0, 0]}, "ImageOrientationPatient is"),
        ({"BitsAllocated": 0}, "BitsAllocated is 0|lacks BitsAllocated"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12, expected 8, 16 or 32"),
    ],
)
def test_damaged_tags_of_dicom_are_one_line(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    save_series(tmp_path / "in", slices=[0, 1])
    save_slice(tmp_path / "in" / "9.dcm", CELLS[:, :, 2], place(2), **tags)
    with pytest.raises(InputError, match=words) as error:
        formats.open(tmp_path / "in").read()
    assert "\n" not in str(error.value)


def test_slices_without_a_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in: got the shape \(0, 5, 2\), expected at least one cell on each axis"):
        formats.open(save_series(tmp_path / "in", slices=[0, 1], Columns=0))


def test_a_slice_whose_cells_disagree_with_its_header(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "in", slices=[0, 1])
    source = formats.open(folder)
    for path in folder.iterdir():
        save_slice(path, CELLS[:3, :, 0], place(0))
    with pytest.raises(
        InputError, match=r"cannot be read.*its cells have the shape \(3, 5\), its header says \(6, 5\)"
    ):
        source.read()
